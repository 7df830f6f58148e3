# Kafka as one node that is broker and controller (KRaft), around nixpkgs' module: what that leaves out is
# the state directory, restarts, hardening, and the topics with their retention.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  inherit (lib) mkDefault mkOption types;
  contrail = config.services.contrail;
  cfg = contrail.kafka;
  kafka = config.services.apache-kafka;
  hardening = import ./lib/hardening.nix;
  state = "/var/lib/apache-kafka";
  bootstrap = "${contrail.localAddress}:${toString cfg.port}";

  topic = types.submodule (
    { name, ... }:
    {
      options = {
        name = mkOption {
          type = types.strMatching "[a-zA-Z0-9._-]+";
          default = name;
          description = "Name of the topic.";
        };
        partitions = mkOption {
          type = types.ints.positive;
          default = 6;
          description = "Number of partitions. It can never change: records of one flight stay in one partition.";
        };
        replication = mkOption {
          type = types.ints.positive;
          default = 1;
          description = "Number of replicas.";
        };
        retentionMs = mkOption {
          type = types.addCheck types.int (ms: ms == -1 || ms > 0) // {
            description = "-1 (for ever) or a positive number of milliseconds";
          };
          default = 7 * 24 * 60 * 60 * 1000;
          description = "How long records are kept, in milliseconds; -1 for ever.";
        };
        compact = mkOption {
          type = types.bool;
          default = false;
          description = "Keep the last record of each key for ever, instead of all records for a time.";
        };
        maxMessageBytes = mkOption {
          type = types.ints.between 1024 2147483647;
          default = 1048588;
          description = "Largest message that the topic takes, in bytes.";
        };
      };
    }
  );

  settingsOf = topic: {
    "cleanup.policy" = if topic.compact then "compact" else "delete";
    "retention.ms" = toString topic.retentionMs;
    "max.message.bytes" = toString topic.maxMessageBytes;
    "message.timestamp.type" = "CreateTime";
  };
  ensureTopic = topic: ''
    kafka-topics.sh --bootstrap-server ${bootstrap} --create --if-not-exists \
      --topic ${topic.name} --partitions ${toString topic.partitions} --replication-factor ${toString topic.replication}
    kafka-configs.sh --bootstrap-server ${bootstrap} --alter --entity-type topics --entity-name ${topic.name} \
      --add-config ${
        lib.concatStringsSep "," (lib.mapAttrsToList (name: value: "${name}=${value}") (settingsOf topic))
      }
  '';

  log4j = pkgs.writeText "kafka-log4j2.properties" ''
    status = warn
    appender.console.type = Console
    appender.console.name = console
    appender.console.layout.type = PatternLayout
    appender.console.layout.pattern = %-5p %c{1} %m%n
    rootLogger.level = info
    rootLogger.appenderRef.console.ref = console
    # Hundreds of lines of settings at each start.
    logger.config.name = org.apache.kafka.common.config
    logger.config.level = warn
  '';
in
{
  options.services.contrail.kafka = {
    enable = lib.mkEnableOption "Apache Kafka as one node, with contrail's topics";

    port = mkOption {
      type = types.port;
      default = 9092;
      description = "Port of the broker.";
    };

    controllerPort = mkOption {
      type = types.port;
      default = 9094;
      description = "Port of the controller, on the loopback.";
    };

    advertisedHost = mkOption {
      type = types.str;
      default = contrail.localAddress;
      defaultText = lib.literalExpression "the address of this host's services";
      description = "Host under which clients find the broker. It must mean this host wherever clients run.";
    };

    clusterId = mkOption {
      type = types.strMatching "[A-Za-z0-9_-]{22}";
      default = "Y29udHJhaWwtaG9zdC0tMQ";
      description = ''
        Identity of the cluster: 16 bytes in base64, as `kafka-storage.sh random-uuid` prints them. A data
        directory that was formatted for another cluster is refused.
      '';
    };

    heapMiB = mkOption {
      type = types.ints.between 128 65536;
      default = 512;
      description = "Heap of the broker in MiB.";
    };

    topics = mkOption {
      type = types.attrsOf topic;
      description = ''
        Topics that are made, and whose settings are kept as they are here, at each start and switch.
        flight-producer uses `positions`, `dead_letters` and `checkpoints`.
      '';
    };

    openFirewall = mkOption {
      type = types.bool;
      default = false;
      description = "Whether to let others reach the broker from outside. It asks nobody for a password.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.contrail.ports = {
      "services.contrail.kafka.port" = cfg.port;
      "services.contrail.kafka.controllerPort" = cfg.controllerPort;
    };
    services.contrail.endpoints.kafka = mkDefault bootstrap;
    networking.firewall.allowedTCPPorts = lib.optional cfg.openFirewall cfg.port;

    services.contrail.kafka.topics = {
      positions.name = mkDefault "flight.positions";
      dead_letters = {
        name = mkDefault "flight.positions.dlq";
        retentionMs = mkDefault (-1);
      };
      checkpoints = {
        name = mkDefault "flight.source-checkpoints";
        partitions = mkDefault 1;
        retentionMs = mkDefault (-1);
        compact = mkDefault true;
      };
    };

    services.apache-kafka = {
      enable = true;
      clusterId = mkDefault cfg.clusterId;
      formatLogDirs = mkDefault true;
      jvmOptions = [
        "-Xms${toString cfg.heapMiB}m"
        "-Xmx${toString cfg.heapMiB}m"
        "-XX:+UseG1GC"
        "-XX:MaxGCPauseMillis=20"
        "-XX:+ExitOnOutOfMemoryError"
        "-Djava.awt.headless=true"
        "-Dlog4j2.configurationFile=${log4j}"
      ];
      settings = lib.mapAttrs (_: mkDefault) {
        "process.roles" = [
          "broker"
          "controller"
        ];
        "node.id" = 1;
        "controller.quorum.voters" = [ "1@127.0.0.1:${toString cfg.controllerPort}" ];
        "listeners" = [
          "PLAINTEXT://${contrail.address}:${toString cfg.port}"
          "CONTROLLER://127.0.0.1:${toString cfg.controllerPort}"
        ];
        "advertised.listeners" = [ "PLAINTEXT://${cfg.advertisedHost}:${toString cfg.port}" ];
        "listener.security.protocol.map" = [
          "PLAINTEXT:PLAINTEXT"
          "CONTROLLER:PLAINTEXT"
        ];
        "controller.listener.names" = [ "CONTROLLER" ];
        "inter.broker.listener.name" = "PLAINTEXT";
        "log.dirs" = [ "${state}/data" ];
        # Topics are made on purpose, with the settings that they need.
        "auto.create.topics.enable" = false;
        # One node has one copy of everything.
        "offsets.topic.replication.factor" = 1;
        "transaction.state.log.replication.factor" = 1;
        "transaction.state.log.min.isr" = 1;
        "share.coordinator.state.topic.replication.factor" = 1;
        "share.coordinator.state.topic.min.isr" = 1;
        # A few groups and a few transactional ids: small tables open and compact quicker.
        "offsets.topic.num.partitions" = 8;
        "transaction.state.log.num.partitions" = 8;
        "group.initial.rebalance.delay.ms" = 0;
        # A producer that was killed in a transaction holds up readers until it is aborted.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms" = 2000;
        # After SIGKILL a broker is let in again only when the session of its former life is over.
        "broker.session.timeout.ms" = 3000;
        "broker.heartbeat.interval.ms" = 500;
        # The default takes 128 MiB of the heap for compaction.
        "log.cleaner.dedupe.buffer.size" = 16777216;
      };
    };

    systemd.services.apache-kafka = {
      startLimitIntervalSec = 0;
      # Whatever nixpkgs comes to set of these: this is what has been tried.
      serviceConfig =
        lib.mapAttrs (_: lib.mkForce) (
          hardening.jvm
          // {
            Group = "apache-kafka";
            StateDirectory = "apache-kafka";
            StateDirectoryMode = "0700";
            Restart = "always";
            RestartSec = 2;
            TimeoutStopSec = 60;
            LimitNOFILE = 100000;
          }
        )
        // {
          ReadWritePaths = kafka.settings."log.dirs";
          MemoryMax = mkDefault "${toString (cfg.heapMiB * 2 + 256)}M";
        };
    };

    systemd.services.kafka-topics = {
      description = "Topics of contrail and their settings";
      wantedBy = [ "multi-user.target" ];
      requires = [ "apache-kafka.service" ];
      after = [ "apache-kafka.service" ];
      path = [ kafka.package ];
      # A second or two each: quick to start beats quick to run.
      environment = {
        KAFKA_HEAP_OPTS = "-Xmx128m";
        KAFKA_JVM_PERFORMANCE_OPTS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC";
      };
      script = ''
        set -eu
        # Active says that the broker runs, not that it answers.
        until kafka-topics.sh --bootstrap-server ${bootstrap} --list > /dev/null; do
          sleep 1
        done
        ${lib.concatMapStrings ensureTopic (lib.attrValues cfg.topics)}
      '';
      serviceConfig = hardening.jvm // {
        Type = "oneshot";
        RemainAfterExit = true;
        DynamicUser = true;
        TimeoutStartSec = 180;
        Restart = "on-failure";
        RestartSec = 5;
      };
    };
  };
}
