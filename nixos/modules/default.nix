# One module per service, and `default` with all of them behind `services.contrail.enable`.
{ packagesFor }:
let
  base = {
    # By its key the module system knows it as one module, however many others import it.
    key = "contrail/base";
    imports = [
      ./base.nix
      (
        { lib, pkgs, ... }:
        {
          services.contrail.packages = lib.mkDefault (packagesFor pkgs);
        }
      )
    ];
  };
  module = file: {
    imports = [
      base
      file
    ];
  };
  services = {
    airflow = ./airflow.nix;
    akhq = ./akhq.nix;
    alertmanager = ./alertmanager.nix;
    clickhouse = ./clickhouse.nix;
    exporter = ./exporter.nix;
    flight-ingester = ./flight-ingester.nix;
    flight-mock = ./flight-mock.nix;
    flight-producer = ./flight-producer.nix;
    grafana = ./grafana.nix;
    kafka = ./kafka.nix;
    kafka-exporter = ./kafka-exporter.nix;
    kafka-rest = ./kafka-rest.nix;
    mail = ./mail.nix;
    opentelemetry-collector = ./opentelemetry-collector.nix;
    postgresql = ./postgresql.nix;
    prometheus = ./prometheus.nix;
    schema-registry = ./schema-registry.nix;
  };
in
builtins.mapAttrs (_: module) services
// {
  default = {
    imports = [ base ] ++ builtins.attrValues services ++ [ ./platform.nix ];
  };
  # Profiles are modules too: for hosts whose configuration lies elsewhere.
  profile-stack = ../profiles/stack.nix;
  profile-host = ../profiles/host.nix;
}
