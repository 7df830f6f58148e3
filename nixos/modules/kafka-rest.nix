# Confluent's REST proxy for Kafka. It is under the Confluent Community License.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.kafkaRest;
  confluent = import ./lib/confluent.nix { inherit lib pkgs; };
in
{
  options.services.contrail.kafkaRest =
    confluent.options "the REST proxy for Kafka (Confluent Community License)"
    // {
      port = mkOption {
        type = types.port;
        default = 8082;
        description = "Port of the proxy.";
      };
    };

  config = lib.mkIf cfg.enable {
    services.contrail.ports."services.contrail.kafkaRest.port" = cfg.port;
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.contrail.kafkaRest.settings = lib.mapAttrs (_: lib.mkDefault) {
      "id" = "kafka-rest-${config.networking.hostName}";
      "listeners" = "http://${contrail.address}:${toString cfg.port}";
      "bootstrap.servers" = "PLAINTEXT://${contrail.kafka.bootstrap or "${contrail.localAddress}:9092"}";
      "schema.registry.url" = contrail.schemaRegistry.url or "http://${contrail.localAddress}:8081";
      # Records of a transaction that was aborted are nobody's to see.
      "consumer.isolation.level" = "read_committed";
    };

    systemd.services.kafka-rest = confluent.unit {
      inherit cfg;
      name = "kafka-rest";
      program = "kafka-rest-start";
      variable = "KAFKAREST";
      description = "REST proxy for Kafka";
      after = [
        "apache-kafka.service"
        "schema-registry.service"
      ];
    };
  };
}
