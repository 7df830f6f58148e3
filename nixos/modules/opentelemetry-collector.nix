# The OpenTelemetry collector, around nixpkgs' module: takes the services' traces by OTLP and stores them in
# ClickHouse, where Grafana reads them. Its exporter makes the tables itself, in a database of their own, so
# that they always are what its version inserts.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.openTelemetryCollector;
  hardening = import ./lib/hardening.nix;
  secrets = import ./lib/secrets.nix { inherit lib; };
  user = "otel";
  credential = id: "/run/credentials/opentelemetry-collector.service/${id}";
  on = port: "${contrail.address}:${toString port}";
  hasClickhouse = contrail.clickhouse.enable or false;
  table = "${cfg.database}.otel_traces";

  # The exporter gives its tables a TTL when it makes them, and never again.
  keep = pkgs.writeShellScript "opentelemetry-collector-retention" ''
    set -eu
    ${secrets.check contrail.profile "services.contrail.openTelemetryCollector.clickhousePasswordFile"
      "clickhouse-password"
    }
    ask() {
      printf 'X-ClickHouse-Key: %s\n' "$secret" | curl --silent --show-error --fail-with-body \
        --max-time 30 --retry 60 --retry-delay 2 --retry-all-errors --header @- \
        --header 'X-ClickHouse-User: ${user}' --data-binary "$1" '${contrail.endpoints.clickhouse}/'
    }
    if [ "$(ask 'EXISTS TABLE ${table}')" = 1 ]; then
      ask 'ALTER TABLE ${table} MODIFY TTL toDateTime(Timestamp) + toIntervalDay(${toString cfg.retentionDays})'
      ask 'ALTER TABLE ${table}_trace_id_ts MODIFY TTL toDateTime(Start) + toIntervalDay(${toString cfg.retentionDays})'
    fi
  '';
in
{
  # Its user in ClickHouse.
  imports = [ ./clickhouse.nix ];

  options.services.contrail.openTelemetryCollector = {
    enable = lib.mkEnableOption "the OpenTelemetry collector, which stores traces in ClickHouse";

    package = mkOption {
      type = types.package;
      default = pkgs.opentelemetry-collector-contrib;
      defaultText = lib.literalExpression "pkgs.opentelemetry-collector-contrib";
      description = "The collector. It must have the exporter `clickhouse`.";
    };

    grpcPort = mkOption {
      type = types.port;
      default = 4317;
      description = "Port that takes OTLP by gRPC.";
    };

    httpPort = mkOption {
      type = types.port;
      default = 4318;
      description = "Port that takes OTLP by HTTP, as the services of contrail send it.";
    };

    metricsPort = mkOption {
      type = types.port;
      default = 8888;
      description = "Port of the collector's own metrics.";
    };

    database = mkOption {
      type = types.strMatching "[a-z_][a-z0-9_]*";
      default = "otel";
      description = "Database of the traces.";
    };

    retentionDays = mkOption {
      type = types.ints.between 1 3650;
      default = 7;
      description = "How long traces are kept, in days. A change is applied when the collector is started.";
    };

    clickhousePasswordFile = secrets.file {
      description = "File that holds the password of ClickHouse's user `${user}`.";
      example = "/run/secrets/clickhouse-otel";
    };

    settings = mkOption {
      type = (pkgs.formats.yaml { }).type;
      default = { };
      example = {
        processors.batch.timeout = "5s";
      };
      description = ''
        More settings of the collector, as its file has them; they are merged with those of contrail. Secrets do
        not belong here: `''${file:…}` names a file.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others send traces from outside. Nobody is asked for a password.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      (secrets.noneIn "services.contrail.openTelemetryCollector" "clickhousePasswordFile" cfg.settings)
    ];

    services.contrail = {
      ports = {
        "services.contrail.openTelemetryCollector.grpcPort" = cfg.grpcPort;
        "services.contrail.openTelemetryCollector.httpPort" = cfg.httpPort;
        "services.contrail.openTelemetryCollector.metricsPort" = cfg.metricsPort;
      };
      # On a host that has ClickHouse, that lists it.
      secrets = lib.optionalAttrs (!hasClickhouse) {
        "services.contrail.openTelemetryCollector.clickhousePasswordFile" = cfg.clickhousePasswordFile;
      };
      openTelemetryCollector.clickhousePasswordFile = lib.mkIf hasClickhouse (
        mkDefault contrail.clickhouse.users.${user}.passwordFile
      );

      # It may do what it likes with its own database, and nothing elsewhere.
      clickhouse.users = lib.mkIf hasClickhouse {
        ${user}.grants = mkDefault [
          "GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, ALTER TTL, SELECT, INSERT ON ${cfg.database}.*"
        ];
        reader.grants = mkDefault [ "GRANT SELECT ON ${cfg.database}.*" ];
      };

      openTelemetryCollector.settings = lib.mapAttrsRecursive (_: mkDefault) {
        receivers.otlp.protocols = {
          grpc.endpoint = on cfg.grpcPort;
          http.endpoint = on cfg.httpPort;
        };
        processors = {
          # Refuses what it has no room for; whoever sends drops it.
          memory_limiter = {
            check_interval = "1s";
            limit_mib = 160;
            spike_limit_mib = 32;
          };
          batch = {
            timeout = "5s";
            send_batch_size = 10000;
          };
        };
        exporters.clickhouse = {
          endpoint = contrail.endpoints.clickhouse;
          inherit (cfg) database;
          username = user;
          password = "\${file:${credential "clickhouse-password"}}";
          ttl = "${toString (cfg.retentionDays * 24)}h";
          timeout = "10s";
          # A batch is a block: there is nothing for the server to gather.
          async_insert = false;
          create_schema = true;
          retry_on_failure.max_elapsed_time = "300s";
        };
        service = {
          pipelines.traces = {
            receivers = [ "otlp" ];
            # The order counts: what is refused is refused first.
            processors = [
              "memory_limiter"
              "batch"
            ];
            exporters = [ "clickhouse" ];
          };
          telemetry = {
            logs.encoding = "json";
            metrics.readers = [
              {
                pull.exporter.prometheus = {
                  host = contrail.address;
                  port = cfg.metricsPort;
                };
              }
            ];
          };
        };
      };
    };
    networking.firewall.allowedTCPPorts = lib.optionals cfg.openFirewall [
      cfg.grpcPort
      cfg.httpPort
    ];

    services.opentelemetry-collector = {
      enable = true;
      inherit (cfg) package settings;
    };

    systemd.services.opentelemetry-collector = {
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ] ++ lib.optional hasClickhouse "clickhouse.service";
      path = [ pkgs.curl ];
      # Without ClickHouse it ends, and is started again until there is one.
      startLimitIntervalSec = 0;
      serviceConfig =
        lib.mapAttrs (_: lib.mkForce) (
          hardening.native
          // {
            # nixpkgs would have it read the journal.
            SupplementaryGroups = [ ];
            RestartSec = 3;
            TimeoutStopSec = 30;
          }
        )
        // {
          ExecStartPre = keep;
          LoadCredential = secrets.load { clickhouse-password = cfg.clickhousePasswordFile; };
          TimeoutStartSec = 180;
          MemoryMax = mkDefault "384M";
        };
    };
  };
}
