# Everything on one node with the well-known credentials of the README: for trying out, never for a host
# that others can reach.
{ config, lib, ... }:
let
  secrets = "/run/contrail-credentials";
  # Not secret: the README lists them.
  credentials = {
    clickhouse-admin = "admin";
    clickhouse-writer = "writer";
    clickhouse-reader = "reader";
    clickhouse-airflow = "airflow";
    clickhouse-otel = "otel";
    airflow-admin = "admin";
    replay-token = "contrail-stack-replay-token";
    grafana-admin = "admin";
    grafana-secret-key = "contrail-stack-try-out-key";
  };
in
{
  services.contrail = {
    enable = true;
    clickhouse.users = {
      # The user that the README names.
      default.passwordFile = "${secrets}/clickhouse-admin";
      admin.passwordFile = "${secrets}/clickhouse-admin";
      writer.passwordFile = "${secrets}/clickhouse-writer";
      reader.passwordFile = "${secrets}/clickhouse-reader";
      otel.passwordFile = "${secrets}/clickhouse-otel";
    }
    // lib.optionalAttrs config.services.contrail.airflow.enable {
      airflow.passwordFile = "${secrets}/clickhouse-airflow";
    };
    airflow = {
      enable = lib.mkDefault true;
      adminPasswordFile = "${secrets}/airflow-admin";
      clickhousePasswordFile = "${secrets}/clickhouse-airflow";
    };
    # By it Airflow has events sent again.
    producer.replayTokenFile = "${secrets}/replay-token";
    grafana = {
      adminPasswordFile = "${secrets}/grafana-admin";
      secretKeyFile = "${secrets}/grafana-secret-key";
    };
  };

  systemd.tmpfiles.rules = [
    "d ${secrets} 0700 root root -"
  ]
  ++ lib.mapAttrsToList (name: value: "f ${secrets}/${name} 0400 root root - ${value}") credentials;

  assertions = [
    {
      assertion = config.services.contrail.profile == "stack";
      message = "contrail's profiles stack and host exclude each other: the first has well-known passwords";
    }
  ];
}
