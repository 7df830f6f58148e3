# Mailpit: takes every mail that a service on this host sends, and shows it on a page. None leaves.
{ config, lib, ... }:
let
  inherit (lib) mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.mail;
  hardening = import ./lib/hardening.nix;
in
{
  options.services.contrail.mail = {
    enable = lib.mkEnableOption "Mailpit, which catches the mails of this host";

    smtpPort = mkOption {
      type = types.port;
      default = 1025;
      description = "Port that takes mails.";
    };

    port = mkOption {
      type = types.port;
      default = 8025;
      description = "Port of the page that shows them.";
    };

    keep = mkOption {
      type = types.ints.positive;
      default = 500;
      description = "How many mails are kept.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the page from outside.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.contrail.ports = {
      "services.contrail.mail.smtpPort" = cfg.smtpPort;
      "services.contrail.mail.port" = cfg.port;
    };
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.mailpit.instances.contrail = {
      listen = "${contrail.address}:${toString cfg.port}";
      smtp = "${contrail.address}:${toString cfg.smtpPort}";
      max = cfg.keep;
      database = "mailpit.db";
    };

    systemd.services.mailpit-contrail = {
      startLimitIntervalSec = 0;
      serviceConfig =
        lib.mapAttrs (_: lib.mkForce) (
          hardening.native
          // {
            Restart = "always";
            RestartSec = 3;
          }
        )
        // {
          MemoryMax = lib.mkDefault "256M";
        };
    };
  };
}
