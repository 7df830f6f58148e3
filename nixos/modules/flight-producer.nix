# From a source of positions into Kafka.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.producer;
  rust = import ./lib/rust-service.nix { inherit config lib pkgs; };
  inherit (import ./lib/listen.nix { inherit lib; }) portOf;
in
{
  options.services.contrail.producer = rust.options {
    name = "flight-producer";
    description = "flight-producer, which writes each event of a source to Kafka exactly once";
    settings.listen = mkOption {
      type = types.str;
      default = "${contrail.address}:8001";
      defaultText = lib.literalExpression ''"''${config.services.contrail.address}:8001"'';
      description = "Address and port of /healthz, /readyz and /metrics.";
    };
  };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (rust.config {
        name = "flight-producer";
        inherit cfg;
        option = "services.contrail.producer";
        description = "Flight positions from the source into Kafka";
        after = [
          "apache-kafka.service"
          "kafka-topics.service"
          "schema-registry.service"
          "flight-mock.service"
        ];
        # They may run on other hosts; where they are away, the service waits.
        wants = [ "network-online.target" ];
        unit.after = [ "network-online.target" ];
        serviceConfig.MemoryMax = lib.mkDefault "1G";
      })
      (lib.mkIf (contrail.mock.enable or false) {
        services.contrail.producer.settings.source.url =
          mkDefault "http://${contrail.localAddress}:${toString (portOf contrail.mock.settings.listen)}";
      })
      (lib.mkIf (contrail.kafka.enable or false) {
        services.contrail.producer.settings = {
          kafka.brokers = mkDefault contrail.kafka.bootstrap;
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
      (lib.mkIf (contrail.schemaRegistry.enable or false) {
        services.contrail.producer.settings.registry.url = mkDefault contrail.schemaRegistry.url;
      })
    ]
  );
}
