# The whole platform on one machine: events flow, and every part shows them.
{ lib, pkgs, ... }:
{
  name = "pipeline";

  nodes.machine = {
    imports = [ ../nixos/profiles/stack.nix ];
    # Every batch: one in a hundred may take minutes to come.
    services.contrail.mock.settings.telemetry.sample_ratio = 1.0;
  };

  testScript =
    { nodes, ... }:
    let
      inherit (nodes.machine.services) contrail;
      program = package: name: "${package}/bin/${name}";
      folder = ../grafana/dashboards;
      dashboards = map (name: builtins.fromJSON (builtins.readFile (folder + "/${name}"))) (
        builtins.attrNames (builtins.readDir folder)
      );
      # Each rule's name.
      rules = lib.concatMap (
        line:
        let
          found = builtins.match " *- alert: ([A-Za-z]+)" line;
        in
        if found == null then [ ] else found
      ) (lib.splitString "\n" (builtins.readFile ../grafana/alerts/rules.yaml));
    in
    import ./lib/scenarios.nix { inherit lib; } [ "platform" "presence" "flow" "dashboards" "traces" ]
      ''
        platform = Platform(machine, contrail="${program contrail.command "contrail"}")
        dashboards = json.loads(r"""${builtins.toJSON dashboards}""")

        start_all()

        with subtest("the services start"):
            for unit in (
                "apache-kafka",
                "kafka-topics",
                "schema-registry",
                "clickhouse",
                "clickhouse-migrate",
                "flight-mock",
                "flight-producer",
                "flight-ingester",
                "postgresql",
                "prometheus",
                "alertmanager",
                "contrail-exporter",
            ):
                machine.wait_for_unit(f"{unit}.service")

        with subtest("events flow"):
            events_flow(platform)

        with subtest("every question of the README is answered"):
            questions_are_answered(platform)

        with subtest("the registry holds the schema"):
            registry_holds_the_schema(platform)

        with subtest("topics have the settings of the configuration"):
            topics = machine.succeed(
                "${nodes.machine.services.apache-kafka.package}/bin/kafka-topics.sh"
                " --bootstrap-server ${contrail.endpoints.kafka} --describe"
            )
            positions = [line for line in topics.splitlines() if "Topic: flight.positions\t" in line][0]
            assert "PartitionCount: ${toString contrail.kafka.topics.positions.partitions}" in positions, positions
            assert "retention.ms=${toString contrail.kafka.topics.positions.retentionMs}" in positions, positions
            checkpoints = [line for line in topics.splitlines() if "Topic: flight.source-checkpoints\t" in line][0]
            assert "cleanup.policy=compact" in checkpoints, checkpoints

        with subtest("metrics are served, and Prometheus has every target"):
            metrics_are_served(platform)
            absent = []
            if not present(machine, "${program nodes.machine.services.grafana.package "grafana"}", "Grafana"):
                absent.append("grafana")
            if not present(machine, "${program contrail.kafkaExporter.package "kminion"}", "kminion"):
                absent.append("kafka")
            statsd = "${program pkgs.prometheus-statsd-exporter "statsd_exporter"}"
            if not present(machine, statsd, "the StatsD exporter"):
                absent.append("airflow")
            collector = "${lib.getExe contrail.openTelemetryCollector.package}"
            if not present(machine, collector, "the OpenTelemetry collector"):
                absent.append("opentelemetry-collector")

            def targets_up() -> list[str]:
                url = "http://127.0.0.1:${toString contrail.prometheus.port}/api/v1/targets"
                targets = json.loads(platform.curl(url))["data"]["activeTargets"]
                assert {target["labels"]["job"] for target in targets} >= {
                    "prometheus", "flight-mock", "flight-producer", "flight-ingester", "clickhouse", "grafana", "kafka",
                    "airflow", "contrail", "node", "alertmanager",
                    "opentelemetry-collector",
                }
                return [
                    f"{target['labels']['job']}: {target['lastError']}"
                    for target in targets
                    if target["health"] != "up" and target["labels"]["job"] not in absent
                ]

            end = time.monotonic() + 90
            while (down := targets_up()) and time.monotonic() < end:
                time.sleep(2)
            assert not down, down

        with subtest("Prometheus knows how far the ingester lags"):
            if "kafka" not in absent:
                lag = 'kminion_kafka_consumer_group_topic_lag{group_id="flight-ingester",topic_name="flight.positions"}'
                machine.wait_until_succeeds(
                    f"curl -sG http://127.0.0.1:${toString contrail.prometheus.port}/api/v1/query"
                    f" --data-urlencode 'query={lag}' | grep -q '\"value\"'",
                    timeout=90,
                )

        with subtest("the REST proxy returns decoded records"):
            rest = "http://127.0.0.1:${toString contrail.kafkaRest.port}"
            if present(machine, "${program contrail.kafkaRest.package "kafka-rest-start"}", "the REST proxy"):
                machine.wait_for_open_port(${toString contrail.kafkaRest.port})
                content = "application/vnd.kafka.v2+json"
                avro = "application/vnd.kafka.avro.v2+json"
                consumer = json.dumps({"name": "test", "format": "avro", "auto.offset.reset": "earliest"})
                platform.curl(f"{rest}/consumers/vm-test", "-H", f"Content-Type: {content}", "-d", consumer)
                instance = f"{rest}/consumers/vm-test/instances/test"
                topics_wanted = json.dumps({"topics": ["flight.positions"]})
                platform.curl(f"{instance}/subscription", "-H", f"Content-Type: {content}", "-d", topics_wanted)
                records = []
                for _ in range(30):
                    records = json.loads(platform.curl(f"{instance}/records", "-H", f"Accept: {avro}"))
                    if records:
                        break
                    time.sleep(1)
                assert records and "latitude" in records[0]["value"], records[:1]

        with subtest("AKHQ lists the topic and the lag"):
            if present(machine, "${contrail.akhq.package}/share/akhq/akhq.jar", "AKHQ"):
                machine.wait_for_open_port(${toString contrail.akhq.port})
                akhq = "http://127.0.0.1:${toString contrail.akhq.port}/api/contrail"
                machine.wait_until_succeeds(f"curl -sf {akhq}/topic/name | grep -q flight.positions")
                group = json.loads(platform.curl(f"{akhq}/group/flight-ingester"))
                lags = [at["offsetLag"] for at in group["offsets"] if at["topic"] == "flight.positions"]
                assert len(lags) == ${toString contrail.kafka.topics.positions.partitions}, group
                assert all(lag >= 0 for lag in lags), group

        with subtest("traces arrive in ClickHouse"):
            if "opentelemetry-collector" not in absent:
                machine.wait_for_unit("opentelemetry-collector.service")
                traces_arrive(platform, "${contrail.openTelemetryCollector.database}")
                traces_are_shown(platform, dashboards)

        with subtest("Grafana's data source answers"):
            if "grafana" not in absent:
                grafana = "http://127.0.0.1:${toString contrail.grafana.port}"
                machine.wait_for_open_port(${toString contrail.grafana.port})
                machine.wait_until_succeeds(
                    f"curl -sf -u admin:admin {grafana}/api/datasources/uid/clickhouse/health | grep -q OK"
                )

        with subtest("Grafana answers every panel"):
            if "grafana" not in absent:
                grafana_answers(
                    platform,
                    "http://127.0.0.1:${toString contrail.grafana.port}",
                    dashboards,
                )

        with subtest("Prometheus has the rules, and accounts for every event"):
            prometheus_watches(
                platform,
                "http://127.0.0.1:${toString contrail.prometheus.port}",
                ${builtins.toJSON (lib.unique rules)},
            )

        with subtest("every event is accounted for"):
            platform.verify()
      '';
}
