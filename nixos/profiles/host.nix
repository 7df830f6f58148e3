# A host that others depend on: no default credential survives, and what must be given is listed at once.
{ config, lib, ... }:
let
  cfg = config.services.contrail;
  secrets = import ../modules/lib/secrets.nix { inherit lib; };
  passwords = lib.mapAttrs' (
    name: user: lib.nameValuePair "clickhouse.users.${name}.passwordFile" user.passwordFile
  ) cfg.clickhouse.users;
  missing = secrets.missing (
    lib.optionalAttrs cfg.clickhouse.enable passwords
    // lib.optionalAttrs cfg.grafana.enable {
      "grafana.adminPasswordFile" = cfg.grafana.adminPasswordFile;
      "grafana.secretKeyFile" = cfg.grafana.secretKeyFile;
    }
  );
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
