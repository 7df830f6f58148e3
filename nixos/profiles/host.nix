# A host that others depend on: no default credential survives, and what must be given is listed at once.
{ config, lib, ... }:
let
  cfg = config.services.contrail;
  needed = {
    "clickhouse.users.admin.passwordFile" =
      cfg.clickhouse.enable && cfg.clickhouse.users.admin.passwordFile == null;
    "clickhouse.users.writer.passwordFile" =
      cfg.clickhouse.enable && cfg.clickhouse.users.writer.passwordFile == null;
    "clickhouse.users.reader.passwordFile" =
      cfg.clickhouse.enable && cfg.clickhouse.users.reader.passwordFile == null;
    "grafana.adminPasswordFile" = cfg.grafana.enable && cfg.grafana.adminPasswordFile == null;
    "grafana.secretKeyFile" = cfg.grafana.enable && cfg.grafana.secretKeyFile == null;
  };
  missing = lib.attrNames (lib.filterAttrs (_: isMissing: isMissing) needed);
in
{
  services.contrail = {
    enable = true;
    profile = "host";
  };

  # Nobody reaches anything that was not opened.
  networking.firewall.enable = true;

  assertions = [
    {
      assertion = missing == [ ];
      message = "contrail's profile host has no default credentials. Give each of these a file, by sops-nix, agenix or by hand (docs/deploy.md): ${
        lib.concatMapStringsSep ", " (name: "services.contrail.${name}") missing
      }";
    }
    {
      assertion = !(cfg.clickhouse.users ? default);
      message = "services.contrail.clickhouse.users.default: the profile host has no user that everybody knows; use admin, or a user of another name";
    }
    {
      assertion = cfg.profile == "host";
      message = "contrail's profiles stack and host exclude each other: the first has well-known passwords";
    }
  ];
}
