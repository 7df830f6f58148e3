# What flight-mock, flight-producer and flight-ingester have in common: settings as TOML that the program
# itself has checked at build time, secrets by LoadCredential, a watchdog, and no rights.
{
  config,
  lib,
  pkgs,
}:
let
  inherit (lib) mkOption types;
  contrail = config.services.contrail;
  format = pkgs.formats.toml { };
  hardening = import ./hardening.nix;
  inherit (import ./listen.nix { inherit lib; }) portOf;
  secrets = import ./secrets.nix { inherit lib; };

  placeholder = pkgs.writeText "placeholder-for-a-secret" "secret";
  # A tree of settings without the files that exist on the host alone: secrets are taken from a
  # placeholder, certificates from nowhere.
  withoutFiles =
    settings:
    lib.concatMapAttrs (
      name: value:
      if lib.isAttrs value && !lib.isDerivation value then
        { ${name} = withoutFiles value; }
      else if
        !(lib.hasSuffix "_file" name) || value == null || lib.hasPrefix builtins.storeDir "${value}"
      then
        { ${name} = value; }
      else if secrets.isSecret (lib.removeSuffix "_file" name) then
        { ${name} = "${placeholder}"; }
      else
        { }
    ) settings;
in
{
  # Where a credential lies while the unit runs.
  credential = name: id: "/run/credentials/${name}.service/${id}";

  # The module of one service.
  module =
    {
      # Name of the program, its package and its unit.
      name,
      # Its place below `services.contrail`.
      option,
      # What it is, for `enable`; and in few words, for the unit.
      title,
      description,
      # Port by default, and what is served on it.
      port,
      serves ? "/healthz, /readyz and /metrics",
      # More options.
      options ? { },
      # Units that it finds the systems around in, where they are on this host. Elsewhere, or away, it
      # waits for them.
      after ? [ ],
      memoryMax,
      # What else its being enabled brings.
      config ? [ ],
    }:
    let
      cfg = contrail.${option};
      path = "services.contrail.${option}";
      listensOn = portOf cfg.settings.listen;
      toml = format.generate "${name}-unchecked.toml" cfg.settings;
      # What is checked when the system is built: files outside the store are not there yet.
      checked = format.generate "${name}-checked.toml" (withoutFiles cfg.settings);
      canRun = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      file = pkgs.runCommand "${name}.toml" { } ''
        ${lib.optionalString canRun "${lib.getExe' cfg.package name} --config ${checked} check-config > /dev/null"}
        cp ${toml} $out
      '';
      network = lib.optional (after != [ ]) "network-online.target";
    in
    {
      options.services.contrail.${option} = {
        enable = lib.mkEnableOption "${name}, ${title}";

        package = mkOption {
          type = types.package;
          default = contrail.packages.${name};
          defaultText = lib.literalExpression "contrail's own ${name}";
          description = "The package that provides `bin/${name}`.";
        };

        settings = mkOption {
          type = types.submodule {
            freeformType = format.type;
            options.listen = mkOption {
              type = types.str;
              default = "${contrail.address}:${toString port}";
              defaultText = lib.literalExpression ''"''${config.services.contrail.address}:${toString port}"'';
              description = "Address and port of ${serves}.";
            };
          };
          default = { };
          description = ''
            Settings of ${name}, as its TOML file has them. `${name} check-config` reads the file when
            the system is built, so that an unknown name or a senseless value fails the build.
            Secrets do not belong here, where everybody can read them: give them by
            {option}`${path}.credentials`.
          '';
        };

        credentials = secrets.credentials name "a setting that ends in `_file` names them by that path.";

        openFirewall = mkOption {
          type = types.bool;
          default = false;
          description = "Whether to let others reach the port of ${name} from outside.";
        };
      }
      // options;

      config = lib.mkIf cfg.enable (
        lib.mkMerge (
          [
            {
              assertions = [ (secrets.noneIn path "credentials" cfg.settings) ];

              services.contrail.ports."${path}.settings.listen" = listensOn;
              services.contrail.${option}.settings = lib.mkIf (contrail.openTelemetryCollector.enable or false) {
                telemetry.otlp_endpoint = lib.mkDefault "http://${contrail.localAddress}:${toString contrail.openTelemetryCollector.httpPort}";
              };
              networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall listensOn;

              environment.etc."contrail/${name}.toml".source = file;

              systemd.services.${name} = {
                inherit description;
                wantedBy = [ "multi-user.target" ];
                wants = network;
                after = [ "network.target" ] ++ network ++ after;
                serviceConfig = hardening.native // {
                  Type = "notify";
                  ExecStart = "${lib.getExe' cfg.package name} --config ${file} run";
                  DynamicUser = true;
                  LoadCredential = secrets.load cfg.credentials;
                  Restart = "always";
                  RestartSec = 1;
                  # Exit code 2: the settings are wrong, and starting again does not mend them.
                  RestartPreventExitStatus = 2;
                  WatchdogSec = 60;
                  TimeoutStartSec = 30;
                  # The services drain within 10 s.
                  TimeoutStopSec = 15;
                  LimitNOFILE = 65536;
                  MemoryMax = lib.mkDefault memoryMax;
                };
                # What it waits for may take long: never give up.
                startLimitIntervalSec = 0;
              };
            }
          ]
          ++ config
        )
      );
    };
}
