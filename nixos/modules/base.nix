# What the modules of contrail share: the packages, the address, where services find each other, which port
# belongs to whom, and which secrets must be given.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.contrail;
  inherit (lib) mkOption types;
  # Port, as text, to the options that claim it.
  claims = lib.foldlAttrs (
    found: option: port:
    found // { ${toString port} = (found.${toString port} or [ ]) ++ [ option ]; }
  ) { } cfg.ports;
  missing = lib.attrNames (lib.filterAttrs (_: file: file == null) cfg.secrets);
in
{
  options.services.contrail = {
    packages = mkOption {
      type = types.lazyAttrsOf types.package;
      internal = true;
      description = "The packages of contrail's flake, built with the packages of this host.";
    };

    command = mkOption {
      type = types.package;
      internal = true;
      readOnly = true;
      default = pkgs.writeShellScriptBin "contrail" ''
        export CONTRAIL_KAFKA__EXTERNAL__BROKERS="''${CONTRAIL_KAFKA__EXTERNAL__BROKERS:-${cfg.endpoints.kafka}}"
        export CONTRAIL_REGISTRY__EXTERNAL__URL="''${CONTRAIL_REGISTRY__EXTERNAL__URL:-${cfg.endpoints.registry}}"
        exec ${lib.getExe' cfg.packages.contrail "contrail"} "$@"
      '';
      description = "`contrail`, which knows where Kafka and the registry are, unless it is told otherwise.";
    };

    address = mkOption {
      type = types.strMatching "[A-Za-z0-9.-]+";
      default = "127.0.0.1";
      description = ''
        IPv4 address, or name of one, that the services of contrail on this host bind to, unless one is told
        otherwise.
        Anything but the loopback is reachable from outside as far as the firewall lets it.
      '';
    };

    localAddress = mkOption {
      type = types.str;
      internal = true;
      readOnly = true;
      default = if cfg.address == "0.0.0.0" then "127.0.0.1" else cfg.address;
      description = "Where services on this host find each other.";
    };

    endpoints = {
      kafka = mkOption {
        type = types.strMatching "[^:, ]+:[0-9]+(,[^:, ]+:[0-9]+)*";
        default = "${cfg.localAddress}:9092";
        defaultText = lib.literalExpression "the Kafka of this host";
        example = "kafka-1:9092,kafka-2:9092";
        description = "Where services find Kafka: brokers with their ports, separated by commas.";
      };
      registry = mkOption {
        type = types.strMatching "https?://[^ ]+";
        default = "http://${cfg.localAddress}:8081";
        defaultText = lib.literalExpression "the schema registry of this host";
        description = "Where services find the schema registry.";
      };
      clickhouse = mkOption {
        type = types.strMatching "https?://[^:/ ]+:[0-9]+";
        default = "http://${cfg.localAddress}:8123";
        defaultText = lib.literalExpression "the ClickHouse of this host";
        description = "Where services find the HTTP interface of ClickHouse.";
      };
    };

    profile = mkOption {
      type = types.enum [
        "stack"
        "host"
      ];
      default = "stack";
      internal = true;
      description = "Which of the profiles is in force.";
    };

    ports = mkOption {
      type = types.attrsOf types.port;
      default = { };
      internal = true;
      description = "Every port that a service listens on, by the option that sets it.";
    };

    secrets = mkOption {
      type = types.attrsOf (types.nullOr types.externalPath);
      default = { };
      internal = true;
      description = "Every file with a secret that must be given, by the option that names it.";
    };
  };

  config.assertions = [
    {
      assertion = missing == [ ];
      message = "contrail has no default credentials. Give each of these a file, by sops-nix, agenix or by hand (docs/deploy.md): ${lib.concatStringsSep ", " missing}";
    }
  ]
  ++ lib.mapAttrsToList (port: options: {
    assertion = lib.length options == 1;
    message = "port ${port} is used more than once, by ${lib.concatStringsSep " and " options}: give each a port of its own";
  }) claims;
}
