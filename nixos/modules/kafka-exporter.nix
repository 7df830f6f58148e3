# kminion, which tells Prometheus how far each group of consumers lags behind Kafka. It looks from outside, and
# so tells of consumers that are away, too.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.kafkaExporter;
  hardening = import ./lib/hardening.nix;
  secrets = import ./lib/secrets.nix { inherit lib; };
  format = pkgs.formats.yaml { };
in
{
  options.services.contrail.kafkaExporter = {
    enable = lib.mkEnableOption "kminion, which tells Prometheus of Kafka's topics and of its consumers' lag";

    package = lib.mkPackageOption pkgs "kminion" { };

    port = mkOption {
      type = types.port;
      default = 9308;
      description = "Port of the metrics.";
    };

    settings = mkOption {
      type = types.submodule { freeformType = format.type; };
      default = { };
      example = {
        kafka.sasl = {
          enabled = true;
          username = "exporter";
        };
      };
      description = ''
        Settings of kminion, as its file has them. An unknown name is refused when it starts. Secrets do not
        belong here, where everybody can read them: give them by
        {option}`services.contrail.kafkaExporter.environmentFile`.
      '';
    };

    environmentFile = secrets.file {
      description = "File of variables, read by systemd as root: a line `KAFKA_SASL_PASSWORD=…` is `kafka.sasl.password`.";
      example = "/run/secrets/kminion.env";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the metrics from outside.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [ (secrets.noneIn "services.contrail.kafkaExporter" "environmentFile" cfg.settings) ];

    services.contrail.ports."services.contrail.kafkaExporter.port" = cfg.port;
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.contrail.kafkaExporter.settings = {
      kafka = {
        brokers = mkDefault (lib.splitString "," contrail.endpoints.kafka);
        retryInitConnection = mkDefault true;
      };
      exporter = {
        host = mkDefault contrail.address;
        port = mkDefault cfg.port;
      };
    };

    # nixpkgs' own module of it is younger than some trees of 26.05, and takes its settings from variables only.
    systemd.services.kminion = {
      description = "Tells Prometheus of Kafka's topics and of its consumers' lag";
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [
        "network-online.target"
        "apache-kafka.service"
      ];
      environment.CONFIG_FILEPATH = format.generate "kminion.yaml" cfg.settings;
      serviceConfig = hardening.native // {
        ExecStart = lib.getExe' cfg.package "kminion";
        EnvironmentFile = lib.optional (cfg.environmentFile != null) cfg.environmentFile;
        DynamicUser = true;
        Restart = "always";
        RestartSec = 3;
        MemoryMax = mkDefault "256M";
      };
      # Kafka may take long: never give up.
      startLimitIntervalSec = 0;
    };
  };
}
