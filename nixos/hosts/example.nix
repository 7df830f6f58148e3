# A host to begin from: copy this file, put in the disks of your machine and your ways to keep secrets.
# docs/deploy.md goes through it line by line.
{ lib, ... }:
let
  # Where sops-nix puts what it decrypts; agenix has /run/agenix.
  secret = name: "/run/secrets/${name}";
in
{
  imports = [ ../profiles/host.nix ];

  services.contrail = {
    clickhouse.users = {
      admin.passwordFile = secret "clickhouse-admin";
      writer.passwordFile = secret "clickhouse-writer";
      reader.passwordFile = secret "clickhouse-reader";
      otel.passwordFile = secret "clickhouse-otel";
    };
    grafana = {
      adminPasswordFile = secret "grafana-admin";
      secretKeyFile = secret "grafana-secret-key";
    };
    clickhouse.memoryMaxBytes = 8 * 1024 * 1024 * 1024;
    kafka.heapMiB = 1024;
  };

  # What nixos-generate-config found on the machine.
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/boot";
    fsType = "vfat";
    options = [ "umask=0077" ];
  };
  boot.loader.systemd-boot.enable = true;
  boot.loader.efi.canTouchEfiVariables = true;

  networking.hostName = "contrail";
  services.openssh = {
    enable = true;
    settings.PasswordAuthentication = false;
  };
  # Put your key here: without one nobody gets in.
  users.users.root.openssh.authorizedKeys.keys = [ ];

  nixpkgs.hostPlatform = lib.mkDefault "x86_64-linux";
  system.stateVersion = "26.05";
}
