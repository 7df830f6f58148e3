# Prometheus, which asks every service of contrail on this host for its metrics.
{ config, lib, ... }:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.prometheus;
  inherit (import ./lib/listen.nix { inherit lib; }) portOf;
  on = port: "${contrail.localAddress}:${toString port}";
  enabled = service: contrail.${service}.enable or false;
  job =
    name: target: extra:
    {
      job_name = name;
      static_configs = [ { targets = [ target ]; } ];
    }
    // extra;
in
{
  options.services.contrail.prometheus = {
    enable = lib.mkEnableOption "Prometheus with the services of contrail as its targets";

    port = mkOption {
      type = types.port;
      default = 9090;
      description = "Port of the pages and the API.";
    };

    retention = mkOption {
      type = types.strMatching "[0-9]+[smhdwy]";
      default = "30d";
      description = "How long samples are kept.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the pages from outside. Nobody is asked for a password.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.contrail.ports."services.contrail.prometheus.port" = cfg.port;
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.prometheus = {
      enable = true;
      inherit (cfg) port;
      listenAddress = contrail.address;
      retentionTime = cfg.retention;
      globalConfig.scrape_interval = mkDefault "15s";
      scrapeConfigs = [
        (job "prometheus" (on cfg.port) { })
      ]
      ++ lib.optional (enabled "mock") (job "flight-mock" (on (portOf contrail.mock.settings.listen)) { })
      ++ lib.optional (enabled "producer") (
        job "flight-producer" (on (portOf contrail.producer.settings.listen)) { }
      )
      ++ lib.optional (enabled "ingester") (
        job "flight-ingester" (on (portOf contrail.ingester.settings.listen)) { }
      )
      ++ lib.optional (enabled "clickhouse") (job "clickhouse" (on contrail.clickhouse.metricsPort) { })
      ++ lib.optional (enabled "kafkaExporter") (job "kafka" (on contrail.kafkaExporter.port) { })
      ++ lib.optional (enabled "airflow") (job "airflow" (on contrail.airflow.metricsPort) { })
      ++ lib.optional (enabled "grafana") (job "grafana" (on contrail.grafana.port) { });
    };

    systemd.services.prometheus = {
      startLimitIntervalSec = 0;
      serviceConfig = {
        ProtectSystem = lib.mkForce "strict";
        RestartSec = 3;
        MemoryMax = mkDefault "512M";
      };
    };
  };
}
