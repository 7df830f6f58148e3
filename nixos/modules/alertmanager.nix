# Alertmanager, which mails what Prometheus' rules find. The text of the mails is that of grafana/alerts.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.alertmanager;
  hardening = import ./lib/hardening.nix;
  secrets = import ./lib/secrets.nix { inherit lib; };
  smtp = import ./lib/smtp.nix { inherit lib contrail secrets; };
  format = pkgs.formats.json { };
  # By the program that reads it, when it is built.
  checked = pkgs.runCommand "alertmanager.json" { nativeBuildInputs = [ cfg.package ]; } ''
    cp ${format.generate "alertmanager.json" cfg.settings} $out
    amtool check-config $out
  '';
  hasPassword = cfg.smtp.passwordFile != null;
in
{
  options.services.contrail.alertmanager = {
    enable = lib.mkEnableOption "Alertmanager, which mails alerts";

    package = lib.mkPackageOption pkgs "prometheus-alertmanager" { };

    port = mkOption {
      type = types.port;
      default = 9093;
      description = "Port of the pages and the API.";
    };

    to = mkOption {
      type = types.listOf types.str;
      default = [ "ops@localhost" ];
      example = [ "night-shift@example.org" ];
      description = "Who gets the mails.";
    };

    smtp = smtp.options // {
      startTls = mkOption {
        type = types.bool;
        default = false;
        description = "Whether the connection must be protected. Not at all will do for a server on this host only.";
      };
    };

    settings = mkOption {
      type = types.submodule { freeformType = format.type; };
      default = { };
      example = {
        route.repeat_interval = "12h";
      };
      description = "Settings of Alertmanager, as its file has them. Checked by `amtool` when the system is built.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the pages from outside. Nobody is asked for a password.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      (smtp.complete "services.contrail.alertmanager" cfg.smtp)
      (secrets.noneIn "services.contrail.alertmanager" "smtp.passwordFile" cfg.settings)
    ];

    services.contrail.ports."services.contrail.alertmanager.port" = cfg.port;
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.contrail.alertmanager.settings = {
      global = {
        smtp_smarthost = mkDefault "${cfg.smtp.host}:${toString cfg.smtp.port}";
        smtp_from = mkDefault cfg.smtp.from;
        smtp_require_tls = mkDefault cfg.smtp.startTls;
      }
      // lib.optionalAttrs hasPassword {
        smtp_auth_username = mkDefault cfg.smtp.user;
        smtp_auth_password_file = mkDefault "/run/credentials/alertmanager.service/smtp-password";
      };
      templates = mkDefault [ "${../../grafana/alerts/mail.tmpl}" ];
      route = lib.mapAttrs (_: mkDefault) {
        receiver = "mail";
        group_by = [ "alertname" ];
        group_wait = "10s";
        group_interval = "1m";
        repeat_interval = "4h";
      };
      receivers = mkDefault [
        {
          name = "mail";
          email_configs = map (to: {
            inherit to;
            send_resolved = true;
            headers.Subject = ''{{ template "contrail.subject" . }}'';
            html = ''{{ template "contrail.html" . }}'';
          }) cfg.to;
        }
      ];
    };

    # nixpkgs' own module puts the file together anew at each start, by a program that is nowhere else.
    systemd.services.alertmanager = {
      description = "Mails alerts";
      wantedBy = [ "multi-user.target" ];
      after = [ "network.target" ];
      startLimitIntervalSec = 0;
      serviceConfig = hardening.native // {
        ExecStart = lib.concatStringsSep " " [
          (lib.getExe' cfg.package "alertmanager")
          "--config.file=${checked}"
          "--storage.path=/var/lib/alertmanager"
          "--web.listen-address=${contrail.address}:${toString cfg.port}"
          "--web.external-url=http://${config.networking.hostName}:${toString cfg.port}"
          # It is alone.
          "--cluster.listen-address="
        ];
        DynamicUser = true;
        StateDirectory = "alertmanager";
        LoadCredential = secrets.load { smtp-password = cfg.smtp.passwordFile; };
        Restart = "always";
        RestartSec = 3;
        MemoryMax = mkDefault "128M";
      };
    };
  };
}
