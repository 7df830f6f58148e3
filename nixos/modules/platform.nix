# The whole platform on one host: `services.contrail.enable`. Each service can be left out, or run elsewhere.
{ config, lib, ... }:
let
  cfg = config.services.contrail;
  services = [
    "mock"
    "producer"
    "ingester"
    "kafka"
    "clickhouse"
    "schemaRegistry"
    "kafkaExporter"
    "kafkaRest"
    "akhq"
    "postgresql"
    "grafana"
    "prometheus"
    "exporter"
    "alertmanager"
    "mail"
    "openTelemetryCollector"
  ];
in
{
  options.services.contrail.enable = lib.mkEnableOption ''
    contrail on this host, with all that it needs. A service is left out by its own option, for instance
    `services.contrail.akhq.enable = false`'';

  config = lib.mkIf cfg.enable {
    services.contrail = lib.genAttrs services (_: {
      enable = lib.mkDefault true;
    });
    # `contrail verify` and `contrail query`.
    environment.systemPackages = [ cfg.command ];
  };
}
