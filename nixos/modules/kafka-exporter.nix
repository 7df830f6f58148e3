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
  format = pkgs.formats.yaml { };
in
{
  options.services.contrail.kafkaExporter = {
    enable = lib.mkEnableOption "kminion, which tells Prometheus of Kafka's topics and of its consumers' lag";

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
        Settings of kminion, as its file has them. An unknown name is refused when it starts. Secrets go by
        {option}`services.prometheus.exporters.kafka.environmentFile`: a line
        `KAFKA_SASL_PASSWORD=…` is `kafka.sasl.password`.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the metrics from outside.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.contrail.ports."services.contrail.kafkaExporter.port" = cfg.port;
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.contrail.kafkaExporter.settings = {
      kafka = {
        brokers = mkDefault [ (contrail.kafka.bootstrap or "${contrail.localAddress}:9092") ];
        retryInitConnection = mkDefault true;
      };
      exporter = {
        host = mkDefault contrail.address;
        port = mkDefault cfg.port;
      };
    };

    services.prometheus.exporters.kafka = {
      enable = true;
      inherit (cfg) port;
      listenAddress = contrail.address;
    };

    systemd.services.prometheus-kafka-exporter = {
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ];
      # nixpkgs' module has it stopped together with Kafka, after which nobody would start it.
      requires = lib.mkForce [ ];
      startLimitIntervalSec = 0;
      # The port and the address of nixpkgs' options reach it by this file only.
      environment.CONFIG_FILEPATH = format.generate "kminion.yaml" cfg.settings;
      serviceConfig =
        lib.mapAttrs (_: lib.mkForce) (
          hardening.native
          // {
            Restart = "always";
            RestartSec = 3;
          }
        )
        // {
          MemoryMax = mkDefault "256M";
        };
    };
  };
}
