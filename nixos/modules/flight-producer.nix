# From a source of positions into Kafka.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault;
  contrail = config.services.contrail;
  cfg = contrail.producer;
  secrets = import ./lib/secrets.nix { inherit lib; };
  rust = import ./lib/rust-service.nix { inherit config lib pkgs; };
  inherit (import ./lib/listen.nix { inherit lib; }) portOf;
in
rust.module {
  name = "flight-producer";
  option = "producer";
  title = "which writes each event of a source to Kafka exactly once";
  description = "Flight positions from the source into Kafka";
  port = 8001;
  memoryMax = "1G";
  after = [
    "apache-kafka.service"
    "kafka-topics.service"
    "schema-registry.service"
    "flight-mock.service"
  ];
  options.replayTokenFile = secrets.file {
    description = "File that holds the token for which the producer takes replays by HTTP. Without it, it takes none.";
    example = "/run/secrets/replay-token";
  };
  config = [
    {
      services.contrail.producer.settings = {
        kafka.brokers = mkDefault contrail.endpoints.kafka;
        registry.url = mkDefault contrail.endpoints.registry;
      };
    }
    (lib.mkIf (cfg.replayTokenFile != null) {
      services.contrail.producer = {
        credentials.replay-token = cfg.replayTokenFile;
        settings.replay.token_file = mkDefault (rust.credential "flight-producer" "replay-token");
      };
    })
    (lib.mkIf (contrail.mock.enable or false) {
      services.contrail.producer.settings.source.url =
        mkDefault "http://${contrail.localAddress}:${toString (portOf contrail.mock.settings.listen)}";
    })
    (lib.mkIf (contrail.kafka.enable or false) {
      services.contrail.producer.settings = {
        # The producer makes what is missing, and refuses a topic with other partitions.
        topics = lib.mapAttrs (
          _: topic:
          lib.mapAttrs (_: mkDefault) {
            inherit (topic)
              name
              partitions
              replication
              compact
              ;
            retention_ms = topic.retentionMs;
            max_message_bytes = topic.maxMessageBytes;
          }
        ) contrail.kafka.topics;
      };
    })
  ];
}
