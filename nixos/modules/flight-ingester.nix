# From Kafka into ClickHouse.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.ingester;
  rust = import ./lib/rust-service.nix { inherit config lib pkgs; };
in
{
  options.services.contrail.ingester =
    rust.options {
      name = "flight-ingester";
      description = "flight-ingester, which inserts each record of Kafka into ClickHouse exactly once";
      settings.listen = mkOption {
        type = types.str;
        default = "${contrail.address}:8002";
        defaultText = lib.literalExpression ''"''${config.services.contrail.address}:8002"'';
        description = "Address and port of /healthz, /readyz and /metrics.";
      };
    }
    // {
      clickhousePasswordFile = mkOption {
        type = types.nullOr types.externalPath;
        default = null;
        example = "/run/secrets/clickhouse-writer";
        description = "File that holds the password of {option}`services.contrail.ingester.settings.clickhouse.user`.";
      };
    };

  config = lib.mkIf cfg.enable (
    lib.mkMerge [
      (rust.config {
        name = "flight-ingester";
        inherit cfg;
        option = "services.contrail.ingester";
        description = "Flight positions from Kafka into ClickHouse";
        after = [
          "apache-kafka.service"
          "schema-registry.service"
          "clickhouse.service"
          "clickhouse-migrate.service"
        ];
        wants = [ "network-online.target" ];
        unit.after = [ "network-online.target" ];
        serviceConfig.MemoryMax = lib.mkDefault "2G";
      })
      {
        assertions = [
          {
            assertion = cfg.clickhousePasswordFile != null;
            message = "services.contrail.ingester.clickhousePasswordFile is not set: name the file that holds the password of ClickHouse's user ${
              cfg.settings.clickhouse.user or "default"
            }";
          }
        ];
        services.contrail.ingester = {
          credentials = lib.mkIf (cfg.clickhousePasswordFile != null) {
            clickhouse-password = cfg.clickhousePasswordFile;
          };
          # Under a name of its own it has its partitions back as soon as it is started again.
          settings = {
            group.instance_id = mkDefault config.networking.hostName;
            clickhouse.password_file = mkDefault (rust.credential "flight-ingester" "clickhouse-password");
          };
        };
      }
      (lib.mkIf (contrail.kafka.enable or false) {
        services.contrail.ingester.settings = {
          kafka.brokers = mkDefault contrail.kafka.bootstrap;
          topic = mkDefault contrail.kafka.topics.positions.name;
          dead_letter_topic = mkDefault contrail.kafka.topics.dead_letters.name;
        };
      })
      (lib.mkIf (contrail.schemaRegistry.enable or false) {
        services.contrail.ingester.settings.registry.url = mkDefault contrail.schemaRegistry.url;
      })
      (lib.mkIf (contrail.clickhouse.enable or false) {
        services.contrail.ingester = {
          clickhousePasswordFile = mkDefault contrail.clickhouse.users.writer.passwordFile;
          settings = {
            clickhouse.url = mkDefault contrail.clickhouse.url;
            clickhouse.user = mkDefault "writer";
            # clickhouse-migrate.service does it, as a user who may.
            migrate_on_start = mkDefault false;
          };
        };
      })
    ]
  );
}
