# Airflow beside the pipeline, with what it needs. Mails go to a few lines of Python, so that a test can read them
# wherever it runs.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (config.services.contrail) mail;
in
{
  services.contrail = lib.genAttrs [ "airflow" "postgresql" ] (_: {
    enable = lib.mkForce true;
  });
  systemd.services.mail-catcher = {
    wantedBy = [ "multi-user.target" ];
    serviceConfig = {
      ExecStart = "${pkgs.python3}/bin/python3 ${pkgs.writeText "mail_catcher.py" (lib.readFile ./mail_catcher.py)} ${toString mail.smtpPort} ${toString mail.port}";
      DynamicUser = true;
    };
  };
}
