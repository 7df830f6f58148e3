# Each service's module by itself, on a host that has nothing else of contrail: they all evaluate. Nothing of
# the hosts is built.
{
  lib,
  pkgs,
  self,
}:
let
  secret = "/run/secrets/secret";
  # The option of each module, and what must be given.
  modules = {
    airflow = {
      airflow = {
        adminPasswordFile = secret;
        clickhousePasswordFile = secret;
      };
      postgresql = { };
    };
    akhq.akhq = { };
    alertmanager.alertmanager = { };
    clickhouse.clickhouse.users = lib.genAttrs [ "admin" "writer" "reader" ] (_: {
      passwordFile = secret;
    });
    exporter.exporter.clickhousePasswordFile = secret;
    flight-ingester.ingester.clickhousePasswordFile = secret;
    flight-mock.mock = { };
    flight-producer.producer = { };
    grafana.grafana = {
      adminPasswordFile = secret;
      secretKeyFile = secret;
      clickhousePasswordFile = secret;
    };
    kafka.kafka = { };
    kafka-exporter.kafkaExporter = { };
    kafka-rest.kafkaRest = { };
    mail.mail = { };
    opentelemetry-collector.openTelemetryCollector.clickhousePasswordFile = secret;
    postgresql.postgresql = { };
    prometheus.prometheus = { };
    schema-registry.schemaRegistry = { };
  };
  host =
    name: settings:
    lib.nixosSystem {
      modules = [
        self.nixosModules.${name}
        {
          services.contrail = lib.mapAttrs (_: given: given // { enable = true; }) settings;
          nixpkgs.hostPlatform = pkgs.stdenv.hostPlatform.system;
          fileSystems."/".device = "/dev/vda";
          boot.loader.grub.device = "nodev";
          system.stateVersion = "26.05";
        }
      ];
    };
  evaluated =
    name: settings:
    "${name} ${builtins.unsafeDiscardStringContext (host name settings).config.system.build.toplevel.drvPath}\n";
in
pkgs.writeText "modules-alone" (lib.concatStrings (lib.mapAttrsToList evaluated modules))
