# The pipeline alone: what has no part in the promise stays away.
{ lib, ... }:
{
  services.contrail =
    lib.genAttrs
      [
        "airflow"
        "akhq"
        "alertmanager"
        "exporter"
        "grafana"
        "kafkaExporter"
        "kafkaRest"
        "mail"
        "openTelemetryCollector"
        "postgresql"
        "prometheus"
      ]
      (_: {
        enable = false;
      });
}
