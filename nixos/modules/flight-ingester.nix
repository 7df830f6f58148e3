# From Kafka into ClickHouse.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault;
  contrail = config.services.contrail;
  cfg = contrail.ingester;
  rust = import ./lib/rust-service.nix { inherit config lib pkgs; };
  secrets = import ./lib/secrets.nix { inherit lib; };
in
rust.module {
  name = "flight-ingester";
  option = "ingester";
  title = "which inserts each record of Kafka into ClickHouse exactly once";
  description = "Flight positions from Kafka into ClickHouse";
  port = 8002;
  memoryMax = "2G";
  after = [
    "apache-kafka.service"
    "schema-registry.service"
    "clickhouse.service"
    "clickhouse-migrate.service"
  ];
  options.clickhousePasswordFile = secrets.file {
    description = "File that holds the password of {option}`services.contrail.ingester.settings.clickhouse.user`.";
    example = "/run/secrets/clickhouse-writer";
  };
  config = [
    {
      # On a host that has ClickHouse, that lists it.
      services.contrail.secrets = lib.mkIf (!(contrail.clickhouse.enable or false)) {
        "services.contrail.ingester.clickhousePasswordFile" = cfg.clickhousePasswordFile;
      };
      services.contrail.ingester = {
        credentials = lib.mkIf (cfg.clickhousePasswordFile != null) {
          clickhouse-password = cfg.clickhousePasswordFile;
        };
        # Under a name of its own it has its partitions back as soon as it is started again.
        settings = {
          kafka.brokers = mkDefault contrail.endpoints.kafka;
          registry.url = mkDefault contrail.endpoints.registry;
          clickhouse.url = mkDefault contrail.endpoints.clickhouse;
          group.instance_id = mkDefault config.networking.hostName;
          clickhouse.password_file = mkDefault (rust.credential "flight-ingester" "clickhouse-password");
        };
      };
    }
    (lib.mkIf (contrail.kafka.enable or false) {
      services.contrail.ingester.settings = {
        topic = mkDefault contrail.kafka.topics.positions.name;
        dead_letter_topic = mkDefault contrail.kafka.topics.dead_letters.name;
      };
    })
    (lib.mkIf (contrail.clickhouse.enable or false) {
      services.contrail.ingester = {
        clickhousePasswordFile = mkDefault contrail.clickhouse.users.writer.passwordFile;
        settings = {
          clickhouse.user = mkDefault "writer";
          # clickhouse-migrate.service does it, as a user who may.
          migrate_on_start = mkDefault false;
        };
      };
    })
  ];
}
