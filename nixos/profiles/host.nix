# A host that others depend on: no default credential survives. What must be given is listed at once.
{ config, ... }:
let
  cfg = config.services.contrail;
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
      assertion = !(cfg.clickhouse.users ? default);
      message = "services.contrail.clickhouse.users.default: the profile host has no user that everybody knows; use admin, or a user of another name";
    }
    {
      assertion = cfg.profile == "host";
      message = "contrail's profiles stack and host exclude each other: the first has well-known passwords";
    }
  ];
}
