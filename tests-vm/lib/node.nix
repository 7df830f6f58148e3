# What every machine of a VM test has.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (config.services) contrail;
in
{
  virtualisation = {
    cores = lib.mkDefault 2;
    memorySize = lib.mkDefault 6144;
    diskSize = lib.mkDefault 8192;
  };
  # A test disk is small.
  services.contrail.clickhouse.keepFreeBytes = lib.mkDefault 0;
  # Outside a VM (see nix-check) files of /etc are built one by one, each by itself: so these are files of
  # their own, not paths within a package.
  environment.etc =
    lib.genAttrs [ "clickhouse-server/config.xml" "clickhouse-server/users.xml" ] (name: {
      enable = contrail.clickhouse.enable;
      source = lib.mkForce (
        pkgs.runCommand (baseNameOf name) { } "cp ${config.services.clickhouse.package}/etc/${name} $out"
      );
    })
    // {
      # Test scripts call these by their paths in the store, so they must be there.
      "contrail-test/packages".text = "${contrail.command}\n";
    };
}
