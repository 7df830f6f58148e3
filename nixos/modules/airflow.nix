# Apache Airflow with contrail's DAGs: API and pages, scheduler, DAG processor, on PostgreSQL by its socket. Tasks
# run in the scheduler's unit (LocalExecutor); by polkit they may restart the named units, and nothing else.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.airflow;
  hardening = import ./lib/hardening.nix;
  secrets = import ./lib/secrets.nix { inherit lib; };
  smtp = import ./lib/smtp.nix { inherit lib contrail secrets; };
  inherit (import ./lib/listen.nix { inherit lib; }) portOf;
  enabled = service: contrail.${service}.enable or false;
  # With it events are sent again; without, `repair_gaps` says that it is refused.
  hasToken = enabled "producer" && contrail.producer.replayTokenFile != null;
  format = pkgs.formats.toml { };

  user = "airflow";
  home = "/var/lib/airflow";
  airflow = lib.getExe' cfg.package "airflow";
  dags = format.generate "airflow-dags.toml" cfg.dags.settings;
  credential = id: "/run/credentials/airflow-scheduler.service/${id}";
  secret = "${home}/secret";
  mail = {
    conn_type = "smtp";
    inherit (cfg.smtp) host port;
    login = cfg.smtp.user;
    extra = {
      disable_ssl = cfg.smtp.security != "tls";
      disable_tls = cfg.smtp.security != "starttls";
      from_email = cfg.smtp.from;
    };
  };

  # Everything that is set as AIRFLOW__SECTION__NAME.
  variables = lib.concatMapAttrs (
    section:
    lib.mapAttrs' (name: value: lib.nameValuePair (lib.toUpper "AIRFLOW__${section}__${name}") value)
  ) cfg.settings;
  environment =
    lib.mapAttrs (
      _: value: if lib.isBool value then lib.boolToString value else toString value
    ) variables
    // {
      AIRFLOW_HOME = home;
      FLIGHT_DAGS_CONFIG = dags;
      PYTHONPATH = lib.concatStringsSep ":" (
        [ "${cfg.dags.package}" ] ++ map (module: "${module}/${pkgs.python3.sitePackages}") cfg.modules
      );
      PYTHONDONTWRITEBYTECODE = "1";
      # What `contrail` needs to look for events, as a task.
      CONTRAIL_STATE = "${home}/contrail";
      CONTRAIL_CLICKHOUSE__EXTERNAL__URL = contrail.endpoints.clickhouse;
      CONTRAIL_CLICKHOUSE__EXTERNAL__USER = user;
      CONTRAIL_CLICKHOUSE__EXTERNAL__PASSWORD_FILE = credential "clickhouse-password";
    };

  unit =
    {
      command,
      description,
      start ? "",
      more ? { },
      serviceConfig ? { },
    }:
    lib.recursiveUpdate {
      inherit description environment;
      wantedBy = [ "multi-user.target" ];
      requires = [ "airflow-migrate.service" ];
      after = [
        "network.target"
        "airflow-migrate.service"
      ];
      startLimitIntervalSec = 0;
      serviceConfig =
        common
        // {
          ExecStart = pkgs.writeShellScript "airflow-${command}" ''
            set -eu
            ${start}
            exec ${airflow} ${command}
          '';
          Restart = "always";
          RestartSec = 3;
          TimeoutStopSec = 30;
          # The processes that it started are told by itself, and what is left is killed.
          KillMode = "mixed";
        }
        // serviceConfig;
    } more;

  common = removeAttrs hardening.jvm [ "PrivateUsers" ] // {
    User = user;
    Group = user;
    StateDirectory = "airflow";
    StateDirectoryMode = "0700";
    WorkingDirectory = home;
    MemoryMax = mkDefault "1G";
  };
in
{
  # Its database, and its user in ClickHouse.
  imports = [
    ./clickhouse.nix
    ./postgresql.nix
  ];

  options.services.contrail.airflow = {
    enable = lib.mkEnableOption "Apache Airflow with the DAGs that watch, repair and archive";

    package = lib.mkPackageOption pkgs "apache-airflow" { };

    modules = mkOption {
      type = types.listOf types.package;
      default =
        let
          python = cfg.package.pythonPackages or pkgs.python3Packages;
        in
        [
          python.asyncpg
          python.psycopg2
          python.statsd
        ];
      defaultText = lib.literalExpression "asyncpg, psycopg2 and statsd of the Python of Airflow";
      description = "Python packages that Airflow does not bring along: the clients of its database and of its metrics.";
    };

    port = mkOption {
      type = types.port;
      default = 8085;
      description = "Port of the pages and the API.";
    };

    logPort = mkOption {
      type = types.port;
      default = 8793;
      description = "Port on which the scheduler serves the logs of running tasks.";
    };

    metricsPort = mkOption {
      type = types.port;
      default = 9102;
      description = "Port on which Prometheus finds Airflow's metrics, where Prometheus is on.";
    };

    statsdPort = mkOption {
      type = types.port;
      default = 9125;
      description = "Port, of UDP, on which Airflow hands its metrics over to what serves them.";
    };

    adminPasswordFile = secrets.file {
      description = "File that holds the password of Airflow's user `admin`.";
      example = "/run/secrets/airflow-admin";
    };

    clickhousePasswordFile = secrets.file {
      description = "File that holds the password of ClickHouse's user `airflow`.";
      example = "/run/secrets/clickhouse-airflow";
    };

    credentials = secrets.credentials "airflow-scheduler" "a setting of the DAGs that ends in `_file` names one by that path.";

    units = mkOption {
      type = types.listOf (types.strMatching "[A-Za-z0-9@_.-]+\\.service");
      default = lib.optional (enabled "producer") "flight-producer.service";
      defaultText = lib.literalExpression ''[ "flight-producer.service" ]'';
      description = "Units that tasks may restart. Polkit refuses every other one.";
    };

    smtp = smtp.options // {
      security = mkOption {
        type = types.enum [
          "none"
          "starttls"
          "tls"
        ];
        default = "none";
        description = "How the connection is protected. Not at all will do for a server on this host only.";
      };
    };

    dags = {
      package = mkOption {
        type = types.path;
        default = lib.fileset.toSource {
          root = ../../airflow;
          fileset = lib.fileset.unions [
            ../../airflow/contrail_dags
            ../../airflow/dags
          ];
        };
        defaultText = lib.literalExpression "airflow/ of contrail";
        description = "Folder with `dags` and the library that they use.";
      };
      settings = mkOption {
        type = types.submodule { freeformType = format.type; };
        default = { };
        example = {
          archive.after_days = 60;
          mail.to = [ "ops@example.org" ];
        };
        description = "Settings of the DAGs, see docs/airflow.md. A name that is not known fails every task.";
      };
    };

    settings = mkOption {
      type = types.attrsOf (
        types.attrsOf (
          types.oneOf [
            types.str
            types.int
            types.bool
          ]
        )
      );
      default = { };
      example = {
        core.parallelism = 4;
      };
      description = "Settings of Airflow by section and name, as its airflow.cfg has them.";
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the pages from outside.";
    };
  };

  config = lib.mkIf cfg.enable {
    assertions = [
      (smtp.complete "services.contrail.airflow" cfg.smtp)
      {
        assertion = enabled "postgresql";
        message = "services.contrail.airflow keeps its state in PostgreSQL: set services.contrail.postgresql.enable";
      }
      (secrets.noneIn "services.contrail.airflow" "credentials" cfg.settings)
      (secrets.noneIn "services.contrail.airflow.dags" "credentials" cfg.dags.settings)
    ];

    services.contrail = {
      ports = {
        "services.contrail.airflow.port" = cfg.port;
        "services.contrail.airflow.logPort" = cfg.logPort;
      }
      // lib.optionalAttrs (enabled "prometheus") {
        "services.contrail.airflow.metricsPort" = cfg.metricsPort;
      };
      secrets = {
        "services.contrail.airflow.adminPasswordFile" = cfg.adminPasswordFile;
        "services.contrail.airflow.clickhousePasswordFile" = cfg.clickhousePasswordFile;
      };
      postgresql.databases = [ user ];

      # It may do with the tables what moving a day takes, and not change what they are. Moving a partition to
      # another table asks for ALTER DELETE or, since 2026, for ALTER MOVE PARTITION.
      clickhouse.users.airflow = lib.mkIf (enabled "clickhouse") {
        grants = mkDefault [
          "GRANT SELECT, INSERT, ALTER DELETE, ALTER MOVE PARTITION, CREATE TABLE, DROP TABLE ON flight_data.*"
          "GRANT SELECT ON system.parts"
          "GRANT SELECT ON system.tables"
          "GRANT SELECT ON system.processes"
        ];
      };

      airflow = {
        credentials.replay-token = lib.mkIf hasToken (mkDefault contrail.producer.replayTokenFile);

        settings = lib.mapAttrs (_: lib.mapAttrs (_: mkDefault)) {
          core = {
            dags_folder = "${cfg.dags.package}/dags";
            executor = "LocalExecutor";
            parallelism = 6;
            load_examples = false;
            dags_are_paused_at_creation = false;
            simple_auth_manager_users = "admin:admin";
            simple_auth_manager_passwords_file = "/run/airflow-api/passwords.json";
            execution_api_server_url = "http://${contrail.localAddress}:${toString cfg.port}/execution/";
          };
          api = {
            base_url = "http://${contrail.localAddress}:${toString cfg.port}";
            host = contrail.address;
            inherit (cfg) port;
            workers = 1;
            secret_key_cmd = "cat ${secret}";
          };
          api_auth.jwt_secret_cmd = "cat ${secret}";
          # By its socket, as the user that this unit is.
          database.sql_alchemy_conn = "postgresql+psycopg2://${user}@/${user}?host=/run/postgresql&port=${toString contrail.postgresql.port}";
          logging = {
            base_log_folder = "${home}/logs";
            worker_log_server_port = cfg.logPort;
          };
          metrics = {
            statsd_on = enabled "prometheus";
            statsd_host = "127.0.0.1";
            statsd_port = cfg.statsdPort;
            # StatsD has no labels; written this way the exporter makes labels of what a metric is of.
            statsd_influxdb_enabled = true;
          };
          usage_data_collection.enabled = false;
        };

        dags.settings = lib.mkMerge [
          {
            clickhouse = {
              url = mkDefault contrail.endpoints.clickhouse;
              user = mkDefault user;
              password_file = mkDefault (credential "clickhouse-password");
            };
            mail.sender = mkDefault cfg.smtp.from;
          }
          (lib.mkIf hasToken { producer.token_file = mkDefault (credential "replay-token"); })
          (lib.mkIf (enabled "producer") {
            producer.url = mkDefault "http://${contrail.localAddress}:${toString (portOf contrail.producer.settings.listen)}";
          })
          (lib.mkIf (enabled "ingester") {
            quality.ingester_url = mkDefault "http://${contrail.localAddress}:${toString (portOf contrail.ingester.settings.listen)}";
          })
        ];
      };
    };
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    # Airflow speaks StatsD, Prometheus does not.
    services.prometheus.exporters.statsd = lib.mkIf (enabled "prometheus") {
      enable = true;
      listenAddress = contrail.address;
      port = cfg.metricsPort;
      extraFlags = [
        "--statsd.listen-udp=127.0.0.1:${toString cfg.statsdPort}"
        "--statsd.listen-tcp="
      ];
    };

    users.users.${user} = {
      isSystemUser = true;
      group = user;
      inherit home;
    };
    users.groups.${user} = { };

    security.polkit = {
      enable = true;
      extraConfig = ''
        polkit.addRule(function(action, subject) {
          var units = ${builtins.toJSON cfg.units};
          if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "${user}"
              && action.lookup("verb") == "restart" && units.indexOf(action.lookup("unit")) >= 0) {
            return polkit.Result.YES;
          }
        });
      '';
    };

    systemd.services = {
      airflow-migrate = {
        description = "Tables of Airflow in PostgreSQL";
        inherit environment;
        requires = [ "postgresql.service" ];
        # The target, where there is one, is reached when users and databases are there.
        after = [
          "postgresql.service"
          "postgresql.target"
        ];
        startLimitIntervalSec = 0;
        serviceConfig = common // {
          Type = "oneshot";
          RemainAfterExit = true;
          ExecStart = pkgs.writeShellScript "airflow-migrate" ''
            set -eu
            umask 077
            # By it Airflow's processes know each other.
            test -s ${secret} || head -c 32 /dev/urandom | sha256sum | cut -d ' ' -f 1 > ${secret}
            exec ${airflow} db migrate
          '';
          Restart = "on-failure";
          RestartSec = 2;
          TimeoutStartSec = 300;
        };
      };

      airflow-api = unit {
        command = "api-server";
        description = "Pages and API of Airflow";
        start = ''
          umask 077
          ${secrets.check contrail.profile "services.contrail.airflow.adminPasswordFile" "admin-password"}
          # Airflow adds to this file, so it cannot be the credential itself.
          printf %s "$secret" | ${lib.getExe pkgs.jq} --raw-input --slurp '{admin: .}' > "$RUNTIME_DIRECTORY/passwords.json"
        '';
        serviceConfig = {
          LoadCredential = secrets.load { admin-password = cfg.adminPasswordFile; };
          RuntimeDirectory = "airflow-api";
          RuntimeDirectoryMode = "0700";
        };
      };

      airflow-scheduler = unit {
        command = "scheduler";
        description = "Scheduler of Airflow, with the tasks";
        start = ''
          password=
          ${lib.optionalString (
            cfg.smtp.passwordFile != null
          ) ''password=$(cat "$CREDENTIALS_DIRECTORY/smtp-password")''}
          AIRFLOW_CONN_CONTRAIL_MAIL=$(SMTP_PASSWORD=$password ${lib.getExe pkgs.jq} --compact-output \
            '.password = env.SMTP_PASSWORD' ${pkgs.writeText "airflow-mail.json" (builtins.toJSON mail)})
          export AIRFLOW_CONN_CONTRAIL_MAIL
        '';
        more = {
          after = [
            "network.target"
            "airflow-migrate.service"
            "airflow-api.service"
          ];
          # What tasks call.
          path = [
            config.systemd.package
            contrail.command
          ];
        };
        serviceConfig = {
          LoadCredential = secrets.load (
            {
              clickhouse-password = cfg.clickhousePasswordFile;
              smtp-password = cfg.smtp.passwordFile;
            }
            // cfg.credentials
          );
          # The end of a unit's log goes into mails.
          SupplementaryGroups = [ "systemd-journal" ];
          # A task that moves a day may take long to end.
          TimeoutStopSec = 60;
          MemoryMax = mkDefault "2G";
        };
      };

      airflow-dag-processor = unit {
        command = "dag-processor";
        description = "Reads the DAG files of Airflow";
      };
    };
  };
}
