# ClickHouse, around nixpkgs' module: users whose passwords come from files and are stored as hashes,
# bounds of memory and disk, no port but those that are used, and the migrations.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.clickhouse;
  hardening = import ./lib/hardening.nix;
  rust = import ./lib/rust-service.nix { inherit config lib pkgs; };
  secrets = import ./lib/secrets.nix { inherit lib; };
  gib = 1024 * 1024 * 1024;
  url = "http://${contrail.localAddress}:${toString cfg.port}";

  variable = user: "CLICKHOUSE_PASSWORD_SHA256_${lib.toUpper user}";
  optionOf = user: "services.contrail.clickhouse.users.${user}.passwordFile";
  passwords = lib.mapAttrs (_: user: user.passwordFile) cfg.users;

  # In ClickHouse's YAML a name that begins with @ is an attribute of the XML element.
  remove = {
    "@remove" = "1";
  };
  userConfig =
    name: user:
    {
      "@replace" = "1";
      password_sha256_hex."@from_env" = variable name;
      networks.ip = user.networks;
      inherit (user) profile quota;
    }
    // (if user.grants == null then { access_management = 1; } else { grants.query = user.grants; });

  # Written before the server starts, and read by systemd when it starts the server.
  hashes = "/run/clickhouse/passwords.env";
  hashPasswords = pkgs.writeShellScript "clickhouse-hash-passwords" ''
    set -eu
    umask 077
    : > ${hashes}
    ${lib.concatMapStrings (user: ''
      ${secrets.check contrail.profile (optionOf user) user}
      printf '%s=%s\n' ${variable user} "$(printf %s "$secret" | sha256sum | cut -d ' ' -f 1)" >> ${hashes}
    '') (lib.attrNames (lib.filterAttrs (_: path: path != null) passwords))}
  '';

  # Who reads the tables knows how they must be.
  ingester = contrail.ingester.package or contrail.packages.flight-ingester;
  migrations = (pkgs.formats.toml { }).generate "clickhouse-migrate.toml" {
    clickhouse = {
      inherit url;
      user = "admin";
      password_file = rust.credential "clickhouse-migrate" "password";
    };
  };

  user = types.submodule {
    options = {
      passwordFile = secrets.file {
        description = "File that holds the password. ClickHouse gets its SHA-256 only.";
        example = "/run/secrets/clickhouse-admin";
      };
      profile = mkOption {
        type = types.str;
        default = "default";
        description = "Profile of settings.";
      };
      quota = mkOption {
        type = types.str;
        default = "default";
        description = "Quota that the user's queries count towards.";
      };
      grants = mkOption {
        type = types.nullOr (types.listOf types.str);
        default = null;
        example = [ "GRANT SELECT ON flight_data.*" ];
        description = "What the user may do; null for everything.";
      };
      networks = mkOption {
        type = types.listOf types.str;
        default =
          if contrail.address == "127.0.0.1" then
            [
              "127.0.0.1"
              "::1"
            ]
          else
            [ "::/0" ];
        defaultText = lib.literalExpression "the loopback, or everywhere if services.contrail.address is another";
        description = "Networks that the user may come from.";
      };
    };
  };
in
{
  options.services.contrail.clickhouse = {
    enable = lib.mkEnableOption "ClickHouse for contrail, with its users, bounds and tables";

    port = mkOption {
      type = types.port;
      default = 8123;
      description = "Port of the HTTP interface.";
    };

    nativePort = mkOption {
      type = types.port;
      default = 9000;
      description = "Port of the native protocol, which `clickhouse-client` speaks.";
    };

    metricsPort = mkOption {
      type = types.port;
      default = 9363;
      description = "Port of the metrics for Prometheus.";
    };

    users = mkOption {
      type = types.attrsOf user;
      description = ''
        Users. `admin` may do everything, `writer` inserts and looks up, `reader` asks within its quota.
        ClickHouse's own user `default`, who needs no password, is removed unless it is set here.
      '';
    };

    memoryMaxBytes = mkOption {
      type = types.ints.between (512 * 1024 * 1024) (1024 * gib);
      default = 2 * gib;
      description = "Memory that the server takes for everything, in bytes.";
    };

    keepFreeBytes = mkOption {
      type = types.ints.unsigned;
      default = 2 * gib;
      description = "Room that is left on the disk, in bytes: below it inserts are refused, and nothing is lost.";
    };

    maxConcurrentQueries = mkOption {
      type = types.ints.positive;
      default = 100;
      description = "Queries that run at the same time; one more is refused.";
    };

    migrate = mkOption {
      type = types.bool;
      default = true;
      description = "Whether to bring the tables up to date at each start and switch, as the user `admin`.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the HTTP interface from outside.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = lib.all (name: builtins.match "[A-Za-z0-9_]+" name != null) (lib.attrNames cfg.users);
        message = "services.contrail.clickhouse.users: names are letters, digits and underscores";
      }
    ];

    services.contrail.ports = {
      "services.contrail.clickhouse.port" = cfg.port;
      "services.contrail.clickhouse.nativePort" = cfg.nativePort;
      "services.contrail.clickhouse.metricsPort" = cfg.metricsPort;
    };
    services.contrail.endpoints.clickhouse = mkDefault url;
    services.contrail.secrets = lib.mapAttrs' (name: lib.nameValuePair (optionOf name)) passwords;
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.contrail.clickhouse.users = {
      admin = { };
      writer.grants = mkDefault [ "GRANT SELECT, INSERT ON flight_data.*" ];
      reader = {
        profile = mkDefault "reader";
        quota = mkDefault "reader";
        grants = mkDefault [ "GRANT SELECT ON flight_data.*" ];
      };
    };

    services.clickhouse = {
      enable = true;

      serverConfig = {
        logger = {
          level = "information";
          console = true;
          # The journal keeps the log, within its own bounds.
          log = remove;
          errorlog = remove;
        };
        listen_host = contrail.address;
        http_port = cfg.port;
        tcp_port = cfg.nativePort;
        prometheus = {
          endpoint = "/metrics";
          port = cfg.metricsPort;
          metrics = true;
          events = true;
          asynchronous_metrics = true;
        };
        # Protocols that nothing here speaks.
        mysql_port = remove;
        postgresql_port = remove;
        interserver_http_port = remove;
        grpc_port = remove;

        max_server_memory_usage = cfg.memoryMaxBytes;
        max_concurrent_queries = cfg.maxConcurrentQueries;
        storage_configuration.disks.default.keep_free_space_bytes = cfg.keepFreeBytes;
        timezone = "UTC";
      };

      usersConfig = {
        users = {
          default = remove;
        }
        // lib.mapAttrs userConfig cfg.users;

        profiles = {
          default = {
            # The H3 query of the README gives longitude first.
            geotoh3_argument_order = "lon_lat";
            # Most of what is asked for is in the page cache: a thread of its own for each read takes longer.
            local_filesystem_read_method = "pread";
            # An insert is answered when its rows are in the table, and one insert is one block.
            async_insert = 0;
            max_insert_block_size = 1048449;
            min_insert_block_size_rows = 1048449;
            min_insert_block_size_bytes = 0;
            # One query leaves room for others.
            max_memory_usage = cfg.memoryMaxBytes / 4 * 3;
          };
          reader = {
            # Settings may be changed within a query, data may not.
            readonly = 2;
            geotoh3_argument_order = "lon_lat";
            local_filesystem_read_method = "pread";
            max_memory_usage = cfg.memoryMaxBytes / 2;
            max_execution_time = 60;
            max_result_rows = 1000000;
            constraints = {
              max_memory_usage.max = cfg.memoryMaxBytes / 2;
              max_execution_time.max = 60;
            };
          };
        };
        quotas.reader.interval = {
          duration = 3600;
          queries = 20000;
          errors = 2000;
          result_rows = 0;
          read_rows = 0;
          execution_time = 3600;
        };
      };
    };

    systemd.services.clickhouse = {
      startLimitIntervalSec = 0;
      # Profiles and users change without a restart; who has which password does not.
      restartTriggers = [ hashPasswords ];
      # Whatever nixpkgs comes to set of these: this is what has been tried. It gives the server
      # CAP_SYS_NICE, for priorities that nothing here uses.
      serviceConfig =
        lib.mapAttrs (_: lib.mkForce) (
          hardening.jvm
          // {
            RuntimeDirectory = "clickhouse";
            RuntimeDirectoryMode = "0700";
            StateDirectoryMode = "0700";
            Restart = "always";
            RestartSec = 2;
            TimeoutStopSec = 60;
            LimitNOFILE = 262144;
          }
        )
        // {
          ExecStartPre = hashPasswords;
          EnvironmentFile = "-${hashes}";
          LoadCredential = secrets.load passwords;
          # The server's own bound comes first; what is above it is for the allocator and the page cache.
          MemoryMax = mkDefault (cfg.memoryMaxBytes / 2 * 3);
        };
    };

    systemd.services.clickhouse-migrate = lib.mkIf cfg.migrate {
      description = "Tables of contrail in ClickHouse";
      wantedBy = [ "multi-user.target" ];
      requires = [ "clickhouse.service" ];
      after = [ "clickhouse.service" ];
      serviceConfig = hardening.native // {
        Type = "oneshot";
        RemainAfterExit = true;
        ExecStart = "${lib.getExe' ingester "flight-ingester"} --config ${migrations} migrate";
        DynamicUser = true;
        LoadCredential = "password:${cfg.users.admin.passwordFile}";
        Restart = "on-failure";
        RestartSec = 2;
        TimeoutStartSec = 300;
      };
      startLimitIntervalSec = 0;
    };
  };
}
