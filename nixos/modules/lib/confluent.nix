# The programs of `confluent-platform`: settings as Java properties, one hardened unit each.
{
  config,
  lib,
  pkgs,
}:
let
  inherit (lib) mkOption types;
  contrail = config.services.contrail;
  format = pkgs.formats.javaProperties { };
  hardening = import ./hardening.nix;
  secrets = import ./secrets.nix { inherit lib; };
in
# The module of one program.
{
  # Its unit, its program, and its place below `services.contrail`.
  name,
  program,
  option,
  # What it is.
  description,
  port,
  # What else its being enabled brings to `services.contrail`.
  brings ? { },
  # Its settings by default, by their names.
  settings,
  # Units that it finds the systems around in, where they are on this host.
  after,
  # Prefix of the environment variables that its start script reads.
  variable,
}:
let
  cfg = contrail.${option};
  log4j = pkgs.writeText "${name}-log4j.properties" ''
    log4j.rootLogger=INFO, stdout
    log4j.appender.stdout=org.apache.log4j.ConsoleAppender
    log4j.appender.stdout.layout=org.apache.log4j.PatternLayout
    log4j.appender.stdout.layout.ConversionPattern=%-5p %c{1} %m%n
    # One line for each request is too much for a registry that is asked every few seconds.
    log4j.logger.io.confluent.rest-utils.requests=WARN
    log4j.logger.org.apache.kafka=WARN
  '';
in
{
  options.services.contrail.${option} = {
    enable = lib.mkEnableOption "Confluent's ${description} (Confluent Community License)";

    package = mkOption {
      type = types.package;
      # Confluent supports its 7.7 on Java 17, and nixpkgs would run it on its newest.
      default = pkgs.confluent-platform.override { jre = pkgs.jdk17_headless; };
      defaultText = lib.literalExpression "pkgs.confluent-platform.override { jre = pkgs.jdk17_headless; }";
      description = "The package that provides `bin/${program}`.";
    };

    port = mkOption {
      type = types.port;
      default = port;
      description = "Port that it answers on.";
    };

    settings = mkOption {
      type = types.submodule { freeformType = format.type; };
      default = { };
      description = ''
        Settings, by their own names, with dots: `settings."listeners"`. Secrets do not belong here, where
        everybody can read them: give them by {option}`services.contrail.${option}.credentials`.
      '';
    };

    credentials = secrets.credentials name ''
      with `"config.providers" = "dir"` and
      `"config.providers.dir.class" = "org.apache.kafka.common.config.provider.DirectoryConfigProvider"`
      among the settings, `"''${dir:/run/credentials/${name}.service:NAME}"` is what the file NAME holds.'';

    heapMiB = mkOption {
      type = types.ints.between 64 65536;
      default = 256;
      description = "Heap in MiB.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the port from outside. Nobody is asked for a password.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [ (secrets.noneIn "services.contrail.${option}" "credentials" cfg.settings) ];

    services.contrail = lib.mkMerge [
      brings
      {
        ports."services.contrail.${option}.port" = cfg.port;
        ${option}.settings = lib.mapAttrs (_: lib.mkDefault) (
          { listeners = "http://${contrail.address}:${toString cfg.port}"; } // settings
        );
      }
    ];
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    systemd.services.${name} = {
      inherit description;
      wantedBy = [ "multi-user.target" ];
      wants = [ "network-online.target" ];
      after = [ "network-online.target" ] ++ after;
      environment = {
        "${variable}_HEAP_OPTS" = "-Xms64m -Xmx${toString cfg.heapMiB}m";
        "${variable}_JVM_PERFORMANCE_OPTS" =
          "-XX:+UseSerialGC -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true";
        "${variable}_LOG4J_OPTS" = "-Dlog4j.configuration=file:${log4j}";
        "${variable}_JMX_OPTS" = "-Dcom.sun.management.jmxremote=false";
        # The start scripts make it; what is logged goes to the journal.
        LOG_DIR = "/tmp";
      };
      serviceConfig = hardening.jvm // {
        ExecStart = "${lib.getExe' cfg.package program} ${format.generate "${name}.properties" cfg.settings}";
        DynamicUser = true;
        LoadCredential = secrets.load cfg.credentials;
        Restart = "always";
        RestartSec = 3;
        SuccessExitStatus = 143;
        TimeoutStopSec = 30;
        MemoryMax = lib.mkDefault "${toString (cfg.heapMiB * 2 + 128)}M";
      };
      # Kafka may take long: never give up.
      startLimitIntervalSec = 0;
    };
  };
}
