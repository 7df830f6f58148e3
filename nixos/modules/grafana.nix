# Grafana with ClickHouse and Prometheus as its sources, and contrail's dashboards. Its secrets come from files.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.grafana;
  credential = id: "$__file{/run/credentials/grafana.service/${id}}";
  # Scheme, host and port.
  clickhouse = builtins.match "(https?)://([^:/]+):([0-9]+)" contrail.endpoints.clickhouse;
  secrets = import ./lib/secrets.nix { inherit lib; };
in
{
  options.services.contrail.grafana = {
    enable = lib.mkEnableOption "Grafana with contrail's data sources";

    port = mkOption {
      type = types.port;
      default = 3000;
      description = "Port of the pages.";
    };

    adminPasswordFile = secrets.file {
      description = "File that holds the password of Grafana's user `admin`.";
      example = "/run/secrets/grafana-admin";
    };

    secretKeyFile = secrets.file {
      description = ''
        File that holds the key under which Grafana encrypts the passwords of its data sources. It must stay
        the same for as long as the database lives.
      '';
      example = "/run/secrets/grafana-secret-key";
    };

    clickhousePasswordFile = secrets.file {
      description = "File that holds the password of ClickHouse's user `reader`.";
      example = "/run/secrets/clickhouse-reader";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the pages from outside.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.contrail.ports."services.contrail.grafana.port" = cfg.port;
    services.contrail.secrets = {
      "services.contrail.grafana.adminPasswordFile" = cfg.adminPasswordFile;
      "services.contrail.grafana.secretKeyFile" = cfg.secretKeyFile;
    }
    # On a host that has ClickHouse, that lists it.
    // lib.optionalAttrs (!(contrail.clickhouse.enable or false)) {
      "services.contrail.grafana.clickhousePasswordFile" = cfg.clickhousePasswordFile;
    };
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.contrail.grafana.clickhousePasswordFile = lib.mkIf (contrail.clickhouse.enable or false) (
      mkDefault contrail.clickhouse.users.reader.passwordFile
    );

    services.grafana = {
      enable = true;
      declarativePlugins = [ pkgs.grafanaPlugins.grafana-clickhouse-datasource ];
      settings = {
        server = {
          http_addr = contrail.address;
          http_port = cfg.port;
        };
        security = {
          admin_user = mkDefault "admin";
          admin_password = credential "admin-password";
          secret_key = credential "secret-key";
          disable_gravatar = true;
        };
        users.allow_sign_up = false;
        # Nothing of this host is told to others.
        analytics = {
          reporting_enabled = false;
          check_for_updates = false;
          check_for_plugin_updates = false;
        };
      };
      provision = {
        enable = true;
        dashboards.settings = {
          apiVersion = 1;
          providers = [
            {
              name = "contrail";
              folder = "contrail";
              # They change with the configuration; what is changed on a page is saved under another name.
              allowUiUpdates = false;
              options.path = "${../../grafana/dashboards}";
            }
          ];
        };
        datasources.settings = {
          apiVersion = 1;
          datasources = [
            {
              name = "ClickHouse";
              uid = "clickhouse";
              type = "grafana-clickhouse-datasource";
              isDefault = true;
              jsonData = {
                host = lib.elemAt clickhouse 1;
                port = lib.toInt (lib.elemAt clickhouse 2);
                protocol = "http";
                secure = lib.head clickhouse == "https";
                username = "reader";
                defaultDatabase = "flight_data";
                # Where Explore finds traces: in the tables of the collector's exporter.
                traces = {
                  defaultDatabase = contrail.openTelemetryCollector.database or "otel";
                  defaultTable = "otel_traces";
                  otelEnabled = true;
                  otelVersion = "latest";
                  durationUnit = "nanoseconds";
                };
              };
              secureJsonData.password = credential "clickhouse-password";
            }
          ]
          ++ lib.optional (contrail.prometheus.enable or false) {
            name = "Prometheus";
            uid = "prometheus";
            type = "prometheus";
            url = "http://${contrail.localAddress}:${toString contrail.prometheus.port}";
          };
        };
      };
    };

    systemd.services.grafana = {
      startLimitIntervalSec = 0;
      preStart = lib.mkBefore (
        secrets.check contrail.profile "services.contrail.grafana.adminPasswordFile" "admin-password"
        + secrets.check contrail.profile "services.contrail.grafana.secretKeyFile" "secret-key"
      );
      serviceConfig = {
        LoadCredential = secrets.load {
          admin-password = cfg.adminPasswordFile;
          secret-key = cfg.secretKeyFile;
          clickhouse-password = cfg.clickhousePasswordFile;
        };
        ProtectSystem = lib.mkForce "strict";
        ReadWritePaths = [ config.services.grafana.dataDir ];
        PrivateUsers = true;
        Restart = lib.mkForce "always";
        RestartSec = 3;
        MemoryMax = mkDefault "512M";
      };
    };
  };
}
