# Prometheus, which asks every service of contrail on this host for its metrics, and the host itself; its rules of
# alerts are those of grafana/alerts.
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

    nodePort = mkOption {
      type = types.port;
      default = 9100;
      description = "Port on which it finds what is to be known of the host: processors, memory, disks.";
    };

    rules = mkOption {
      type = types.listOf types.path;
      default = [ ../../grafana/alerts/rules.yaml ];
      defaultText = lib.literalExpression "grafana/alerts/rules.yaml of contrail";
      description = "Files of rules. Checked by `promtool` when the system is built.";
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
    services.contrail.ports = {
      "services.contrail.prometheus.port" = cfg.port;
      "services.contrail.prometheus.nodePort" = cfg.nodePort;
    };
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.prometheus = {
      enable = true;
      inherit (cfg) port;
      listenAddress = contrail.address;
      retentionTime = cfg.retention;
      globalConfig.scrape_interval = mkDefault "15s";
      ruleFiles = map (file: "${file}") cfg.rules;
      alertmanagers = lib.optional (enabled "alertmanager") {
        static_configs = [ { targets = [ (on contrail.alertmanager.port) ]; } ];
      };
      exporters.node = {
        enable = true;
        port = cfg.nodePort;
        listenAddress = contrail.address;
      };
      scrapeConfigs = [
        (job "prometheus" (on cfg.port) { })
        (job "node" (on cfg.nodePort) { })
      ]
      ++ lib.optional (enabled "exporter") (job "contrail" (on contrail.exporter.port) { })
      ++ lib.optional (enabled "alertmanager") (job "alertmanager" (on contrail.alertmanager.port) { })
      ++ lib.optional (enabled "mock") (job "flight-mock" (on (portOf contrail.mock.settings.listen)) { })
      ++ lib.optional (enabled "producer") (
        job "flight-producer" (on (portOf contrail.producer.settings.listen)) { }
      )
      ++ lib.optional (enabled "ingester") (
        job "flight-ingester" (on (portOf contrail.ingester.settings.listen)) { }
      )
      ++ lib.optional (enabled "clickhouse") (job "clickhouse" (on contrail.clickhouse.metricsPort) { })
      ++ lib.optional (enabled "kafkaExporter") (job "kafka" (on contrail.kafkaExporter.port) { })
      ++ lib.optional (enabled "openTelemetryCollector") (
        job "opentelemetry-collector" (on contrail.openTelemetryCollector.metricsPort) { }
      )
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
