# PostgreSQL, for what keeps its state in it. Users on this host are known by their socket, others by
# SCRAM, and nobody reaches it from outside.
{ config, lib, ... }:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.postgresql;
  hardening = import ./lib/hardening.nix;
in
{
  options.services.contrail.postgresql = {
    enable = lib.mkEnableOption "PostgreSQL for contrail's services";

    port = mkOption {
      type = types.port;
      default = 5432;
      description = "Port, on the loopback.";
    };

    databases = mkOption {
      type = types.listOf (types.strMatching "[a-z_][a-z0-9_]*");
      default = [ ];
      example = [ "airflow" ];
      description = "Databases, each with a user of the same name who owns it.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.contrail.ports."services.contrail.postgresql.port" = cfg.port;

    services.postgresql = {
      enable = true;
      ensureDatabases = cfg.databases;
      ensureUsers = map (name: {
        inherit name;
        ensureDBOwnership = true;
      }) cfg.databases;
      settings = {
        inherit (cfg) port;
        listen_addresses = lib.mkForce "127.0.0.1";
        password_encryption = mkDefault "scram-sha-256";
        max_connections = mkDefault 50;
        shared_buffers = mkDefault "64MB";
      };
      authentication = lib.mkForce ''
        # TYPE DATABASE USER ADDRESS METHOD
        local all all peer
        host all all 127.0.0.1/32 scram-sha-256
        host all all ::1/128 scram-sha-256
      '';
    };

    # Where nixpkgs hardens the unit itself, that counts.
    systemd.services.postgresql.serviceConfig =
      lib.mapAttrs (_: mkDefault) (
        removeAttrs hardening.native [
          # The server's helpers look at each other, and its state directory is shared with its group.
          "ProcSubset"
          "PrivateUsers"
          "RemoveIPC"
          "UMask"
          # Queries are compiled while they run.
          "MemoryDenyWriteExecute"
        ]
      )
      // {
        Restart = lib.mkForce "always";
        RestartSec = lib.mkForce 2;
        MemoryMax = mkDefault "1G";
      };
  };
}
