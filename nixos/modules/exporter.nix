# `contrail exporter`, which tells Prometheus what no service can tell of itself: lag and age while services are
# away, and whether any event is missing or doubled.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.exporter;
  hardening = import ./lib/hardening.nix;
  secrets = import ./lib/secrets.nix { inherit lib; };
  format = pkgs.formats.toml { };
  hasClickhouse = contrail.clickhouse.enable or false;
in
{
  options.services.contrail.exporter = {
    enable = lib.mkEnableOption "the exporter that accounts for every event, and tells Prometheus of lag and age";

    port = mkOption {
      type = types.port;
      default = 8003;
      description = "Port of the metrics.";
    };

    accountSeconds = mkOption {
      type = types.ints.positive;
      default = 60;
      description = "Seconds between two accounts of what is new.";
    };

    fullSeconds = mkOption {
      type = types.ints.positive;
      default = 6 * 60 * 60;
      description = "Seconds between two accounts that look at all events; the first one does.";
    };

    clickhousePasswordFile = secrets.file {
      description = ''
        File that holds the password of ClickHouse's user `writer`. It writes down how far it came; nothing else.
      '';
      example = "/run/secrets/clickhouse-writer";
    };

    credentials = secrets.credentials "contrail-exporter" "a setting that ends in `_file` names one by that path.";

    settings = mkOption {
      type = types.submodule { freeformType = format.type; };
      default = { };
      example = {
        kafka.external = {
          security = "tls";
          tls.ca_file = "/etc/ssl/kafka-ca.pem";
        };
      };
      description = "Settings of `contrail`, as contrail.toml has them: where Kafka, the registry and ClickHouse are.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the metrics from outside.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [ (secrets.noneIn "services.contrail.exporter" "credentials" cfg.settings) ];

    services.contrail = {
      ports."services.contrail.exporter.port" = cfg.port;
      # On a host that has ClickHouse, that lists it.
      secrets = lib.optionalAttrs (!hasClickhouse) {
        "services.contrail.exporter.clickhousePasswordFile" = cfg.clickhousePasswordFile;
      };
      exporter = {
        clickhousePasswordFile = lib.mkIf hasClickhouse (
          mkDefault contrail.clickhouse.users.writer.passwordFile
        );
        settings = {
          state = mkDefault "/var/lib/contrail-exporter";
          kafka.external.brokers = mkDefault contrail.endpoints.kafka;
          registry.external.url = mkDefault contrail.endpoints.registry;
          clickhouse.external = {
            url = mkDefault contrail.endpoints.clickhouse;
            user = mkDefault "writer";
            password_file = mkDefault "/run/credentials/contrail-exporter.service/clickhouse-password";
          };
        };
      };
    };
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    systemd.services.contrail-exporter = {
      description = "Accounts for every event, and tells Prometheus";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      startLimitIntervalSec = 0;
      serviceConfig = hardening.native // {
        ExecStart = lib.concatStringsSep " " [
          (lib.getExe' contrail.packages.contrail "contrail")
          "--config ${format.generate "contrail-exporter.toml" cfg.settings}"
          "exporter --listen ${contrail.address}:${toString cfg.port}"
          "--account-every ${toString cfg.accountSeconds} --full-every ${toString cfg.fullSeconds}"
        ];
        DynamicUser = true;
        StateDirectory = "contrail-exporter";
        LoadCredential = secrets.load (
          { clickhouse-password = cfg.clickhousePasswordFile; } // cfg.credentials
        );
        Restart = "always";
        RestartSec = 3;
        MemoryMax = mkDefault "256M";
      };
    };
  };
}
