# The stack in a VM. Its ports are forwarded to the loopback of the machine that it runs on, and to nothing
# else; inside, services therefore listen on the VM's own address too.
{
  config,
  lib,
  modulesPath,
  ...
}:
let
  cfg = config.services.contrail;
  inherit (import ../modules/lib/listen.nix { inherit lib; }) portOf;
  ports = lib.attrValues cfg.ports;
  # Those that are for this host alone.
  inner = [
    cfg.kafka.controllerPort
    cfg.postgresql.port
    cfg.airflow.logPort
  ];
  forwarded = lib.sort lib.lessThan (lib.subtractLists inner ports);
  # What each service takes at work, in MiB; its bound (MemoryMax) lies higher. docs/nix.md has them too.
  budgetMiB = {
    kafka = 1024;
    schemaRegistry = 448;
    kafkaExporter = 64;
    kafkaRest = 448;
    akhq = 448;
    clickhouse = 2048;
    postgresql = 128;
    # API, scheduler, DAG processor and the tasks.
    airflow = 1280;
    grafana = 256;
    # With what tells it of the host.
    prometheus = 224;
    exporter = 64;
    alertmanager = 48;
    mail = 64;
    openTelemetryCollector = 192;
    mock = 64;
    producer = 192;
    ingester = 320;
  };
  systemMiB = 512;
  enabled = lib.filterAttrs (service: _: cfg.${service}.enable) budgetMiB;
  url = port: path: "http://localhost:${toString port}${path}";
  screen = ''

    contrail: everything below is on this machine's loopback (localhost).

      Grafana          ${url cfg.grafana.port "/"}       admin / admin
      Airflow          ${url cfg.airflow.port "/"}       admin / admin
      ClickHouse       ${url cfg.clickhouse.port "/"}       default / admin; read-only: reader / reader
      Kafka            ${cfg.kafka.advertisedHost}:${toString cfg.kafka.port}
      AKHQ             ${url cfg.akhq.port "/"}
      Schema registry  ${url cfg.schemaRegistry.port "/subjects"}
      REST proxy       ${url cfg.kafkaRest.port "/topics"}
      Prometheus       ${url cfg.prometheus.port "/targets"}
      Alertmanager     ${url cfg.alertmanager.port "/"}
      Mail             ${url cfg.mail.port "/"}
      Traces (OTLP)    ${url cfg.openTelemetryCollector.httpPort "/v1/traces"}
      Simulator        ${url (portOf cfg.mock.settings.listen) "/v1/flights/stream"}
      Metrics          ${url (portOf cfg.producer.settings.listen) "/metrics"}, ${url (portOf cfg.ingester.settings.listen) "/metrics"}

    Log: journalctl -f -u flight-ingester. Stop: poweroff, or Ctrl-A X.
  '';
in
{
  imports = [
    ../profiles/stack.nix
    (modulesPath + "/virtualisation/qemu-vm.nix")
  ];

  services.contrail.address = "0.0.0.0";
  networking.hostName = "contrail-stack";
  networking.firewall.allowedTCPPorts = forwarded;

  virtualisation = {
    graphics = false;
    cores = lib.mkDefault 2;
    memorySize = lib.mkDefault (lib.foldl' lib.add systemMiB (lib.attrValues enabled));
    diskSize = lib.mkDefault 20480;
    forwardPorts = map (port: {
      from = "host";
      host = {
        address = "127.0.0.1";
        inherit port;
      };
      guest.port = port;
    }) forwarded;
  };

  # The first screen: root is logged in, and told.
  services.getty.autologinUser = "root";
  users.motd = screen;
  # Nobody reaches it but by its own console.
  users.users.root.hashedPassword = "!";

  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  system.stateVersion = "26.05";
}
