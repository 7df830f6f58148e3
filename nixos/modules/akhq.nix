# AKHQ, a web interface to Kafka and the schema registry.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.akhq;
  hardening = import ./lib/hardening.nix;
  secrets = import ./lib/secrets.nix { inherit lib; };
  format = pkgs.formats.yaml { };
  file = format.generate "akhq.yml" cfg.settings;
in
{
  options.services.contrail.akhq = {
    enable = lib.mkEnableOption "AKHQ, a web interface to Kafka";

    package = mkOption {
      type = types.package;
      default = contrail.packages.akhq;
      defaultText = lib.literalExpression "contrail's own akhq";
      description = "The package that holds `share/akhq/akhq.jar`.";
    };

    jre = lib.mkPackageOption pkgs "jre_headless" { };

    port = mkOption {
      type = types.port;
      default = 8083;
      description = "Port of the pages.";
    };

    heapMiB = mkOption {
      type = types.ints.between 64 65536;
      default = 256;
      description = "Heap in MiB.";
    };

    settings = mkOption {
      type = types.submodule { freeformType = format.type; };
      default = { };
      description = ''
        Settings of AKHQ, see its documentation. Kafka and the registry of this host are connected as
        `contrail`. It asks nobody for a password unless `micronaut.security` is set up: keep it on the
        loopback, or behind a proxy that asks. Secrets do not belong here, where everybody can read them: give
        them by {option}`services.contrail.akhq.credentials`.
      '';
    };

    credentials = secrets.credentials "akhq" "each is YAML with more settings, and its name ends in `.yml`.";

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the pages from outside.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [ (secrets.noneIn "services.contrail.akhq" "credentials" cfg.settings) ];

    services.contrail.ports."services.contrail.akhq.port" = cfg.port;
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.contrail.akhq.settings = {
      micronaut.server = {
        host = lib.mkDefault contrail.address;
        port = lib.mkDefault cfg.port;
      };
      # Its second port, for health and metrics, would be 28081 on every address.
      endpoints.all.port = lib.mkDefault cfg.port;
      akhq.connections.contrail = {
        properties."bootstrap.servers" = lib.mkDefault contrail.endpoints.kafka;
        schema-registry.url = lib.mkDefault contrail.endpoints.registry;
      };
    };

    systemd.services.akhq = {
      description = "AKHQ, a web interface to Kafka";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "apache-kafka.service"
        "schema-registry.service"
      ];
      startLimitIntervalSec = 0;
      serviceConfig = hardening.jvm // {
        ExecStart = lib.concatStringsSep " " [
          (lib.getExe' cfg.jre "java")
          "-Xmx${toString cfg.heapMiB}m"
          "-XX:+UseSerialGC"
          "-XX:+ExitOnOutOfMemoryError"
          "-Dmicronaut.config.files=${
            lib.concatStringsSep "," (
              [ "${file}" ] ++ map (name: "/run/credentials/akhq.service/${name}") (lib.attrNames cfg.credentials)
            )
          }"
          "-cp ${cfg.package}/share/akhq/akhq.jar"
          "org.akhq.App"
        ];
        DynamicUser = true;
        LoadCredential = secrets.load cfg.credentials;
        Restart = "always";
        RestartSec = 3;
        SuccessExitStatus = 143;
        TimeoutStopSec = 30;
        MemoryMax = lib.mkDefault "${toString (cfg.heapMiB * 2 + 128)}M";
      };
    };
  };
}
