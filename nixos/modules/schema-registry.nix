# Confluent's schema registry, which keeps its schemas in a topic of Kafka. It is under the Confluent
# Community License.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.schemaRegistry;
  confluent = import ./lib/confluent.nix { inherit lib pkgs; };
in
{
  options.services.contrail.schemaRegistry =
    confluent.options "the schema registry (Confluent Community License)"
    // {
      port = mkOption {
        type = types.port;
        default = 8081;
        description = "Port of the registry.";
      };

      url = mkOption {
        type = types.str;
        internal = true;
        readOnly = true;
        default = "http://${contrail.localAddress}:${toString cfg.port}";
        description = "The registry, for services on this host.";
      };
    };

  config = lib.mkIf cfg.enable {
    services.contrail.ports."services.contrail.schemaRegistry.port" = cfg.port;
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.contrail.schemaRegistry.settings = lib.mapAttrs (_: lib.mkDefault) {
      "listeners" = "http://${contrail.address}:${toString cfg.port}";
      "host.name" = contrail.localAddress;
      "kafkastore.bootstrap.servers" = "PLAINTEXT://${
        contrail.kafka.bootstrap or "${contrail.localAddress}:9092"
      }";
      "kafkastore.topic" = "_schemas";
      "kafkastore.topic.replication.factor" = 1;
      # A schema that would make records unreadable is refused.
      "schema.compatibility.level" = "backward";
    };

    systemd.services.schema-registry = confluent.unit {
      inherit cfg;
      name = "schema-registry";
      program = "schema-registry-start";
      variable = "SCHEMA_REGISTRY";
      description = "Schema registry";
      after = [ "apache-kafka.service" ];
    };
  };
}
