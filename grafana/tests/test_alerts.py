"""Prometheus and Alertmanager beside the local stack: every question of the dashboards, every alert by its mail."""

import json
import math
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import typing
import unittest
import urllib.parse

import boards
from contrail_dags import http
from data import COLUMNS, LocalStack
from local import PROGRAM, wait_for
from tls import TlsServer

RULES = boards.ROOT / "grafana/alerts/rules.yaml"
RUNBOOK = boards.ROOT / "docs/runbook.md"
# What nobody of the local stack tells. Names of a ClickHouse server are looked up in the engine, see test_sql.py.
ELSEWHERE = re.compile(r"ClickHouse(ProfileEvents|Metrics)_|airflow_|contrail_certificate_")
NAME = re.compile(
    r"\b(?:flight|contrail|node|process|clickhouse_embedded|airflow|ClickHouse[A-Za-z]+)_\w+"
)
# Of this machine's own disks nothing is known; among the quicker rules every disk is too full.
MACHINE = {"DiskFilling"}
SETTINGS = """
[mock]
fleet = 300
[observability]
scrape_interval_s = 1
account_every_s = 3
group_wait_s = 1
rules = "{rules}"
"""


def rules() -> list[tuple[str, str]]:
    """Name and text of each rule."""
    found = re.split(r"(?m)^ {6}- alert: ", RULES.read_text())[1:]
    return [(text.split("\n", 1)[0], text) for text in found]


def quicker(text: str) -> str:
    """The same rules, which wait for seconds where they wait for minutes."""
    for old, new in (
        (r"for: \d+[mh]", "for: 2s"),
        (r"\[\d+[mh]:15s\]", "[10s:1s]"),
        (r"\[(5|10)m\]", "[10s]"),
        (r"> 20000 ", "> 2000 "),
        (r"> 120 <", "> 10 <"),
        (r"> 900\b", "> 25"),
        (r"< 0\.1\b", "< 1.1"),
    ):
        text, count = re.subn(old, new, text)
        assert count, old
    return text


class Rules(unittest.TestCase):
    """The rules by themselves."""

    def test_promtool_finds_them_right(self) -> None:
        for command in (
            ["promtool", "check", "rules", str(RULES)],
            ["promtool", "test", "rules", "rules_test.yaml"],
        ):
            run = subprocess.run(
                command, cwd=RULES.parent, capture_output=True, text=True, check=False
            )
            self.assertEqual(0, run.returncode, run.stdout + run.stderr)

    def test_each_has_unit_tests_of_both_kinds(self) -> None:
        text = (RULES.parent / "rules_test.yaml").read_text()
        for name, _ in rules():
            cases = re.findall(rf"alertname: {name}\n\s+exp_alerts:( \[\])?", text)
            self.assertIn(" []", cases, f"{name}: no test in which it is silent")
            self.assertIn("", cases, f"{name}: no test in which it fires")

    def test_each_says_what_to_do(self) -> None:
        titles = re.findall(r"(?m)^## (.+)$", RUNBOOK.read_text())
        for name, text in rules():
            self.assertIn(name, titles)
            self.assertIn(f"runbook: docs/runbook.md#{name.lower()}\n", text)
            self.assertRegex(text, r"severity: (critical|warning)\n")
            self.assertIn("summary: ", text)
            self.assertIn("description: ", text)
        self.assertEqual(sorted({name for name, _ in rules()}), sorted(titles))


class OnTheStack(unittest.TestCase):
    """One stack for all of it."""

    stack: LocalStack
    failed = True

    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = tempfile.TemporaryDirectory(prefix="contrail-alerts-")
        quick = pathlib.Path(cls.folder.name) / "rules.yaml"
        quick.write_text(quicker(RULES.read_text()))
        cls.stack = LocalStack(settings=SETTINGS.format(rules=quick))
        try:
            cls.stack.wait_until_started()
            cls.before = cls.stack.status()
            cls.stack.succeed("contrail start observability", timeout=200)
            ports = cls.stack.ports()
            cls.prometheus = f"http://127.0.0.1:{ports['prometheus']}"
            cls.alertmanager = f"http://127.0.0.1:{ports['alertmanager']}"
            cls.mails = f"http://127.0.0.1:{ports['mail']}"
            cls.kafka = f"127.0.0.1:{ports['kafka']}"
            cls.failed = False
        except BaseException:
            cls.stack.close(failed=True)
            raise

    folder: tempfile.TemporaryDirectory[str]
    before: dict[str, str]
    prometheus: str
    alertmanager: str
    mails: str
    kafka: str

    @classmethod
    def tearDownClass(cls) -> None:
        cls.stack.close(failed=cls.failed)
        cls.folder.cleanup()

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Keeps what the stack left if a test fails."""
        result = result or self.defaultTestResult()
        super().run(result)
        type(self).failed |= not result.wasSuccessful()
        return result

    def ask(self, path: str, **parameters: str) -> typing.Any:
        """What Prometheus' API answers."""
        answer = http.ask(f"{self.prometheus}/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
        found = json.loads(answer.text)
        self.assertEqual("success", found["status"], f"{parameters}: {found}")
        return found["data"]

    def series(self, expression: str) -> list[dict[str, typing.Any]]:
        found: list[dict[str, typing.Any]] = self.ask("query", query=expression)["result"]
        return found

    def firing(self) -> set[str]:
        """The names of the alerts that fire, but for those about this machine."""
        alerts = self.ask("alerts")["alerts"]
        return {a["labels"]["alertname"] for a in alerts if a["state"] == "firing"} - MACHINE

    def subjects(self) -> list[str]:
        """The subjects of all mails."""
        return [mail["subject"] for mail in json.loads(http.ask(f"{self.mails}/email").text)]

    def sql(self, statement: str) -> str:
        url = f"http://127.0.0.1:{self.stack.ports()['clickhouse']}/"
        headers = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "admin"}
        answer = http.ask(
            url, method="POST", body=statement.encode(), headers=headers, timeout_s=30
        )
        self.assertEqual(200, answer.status, answer.text)
        return answer.text.strip()

    def forget_mails(self, *alerts: str) -> None:
        """So that no mail of something earlier is taken for one of what comes now."""
        wait_for(f"{alerts} are over", 120, lambda: not self.firing() & set(alerts))
        # The mail that it is over may be on its way.
        time.sleep(8)
        http.ask(f"{self.mails}/email/all", method="DELETE")

    def wait_until_mailed(self, alert: str, summary: str, limit_s: float = 60) -> None:
        """Waits for the mail of an alert, and looks into it."""

        def mail() -> dict[str, typing.Any] | None:
            mails = json.loads(http.ask(f"{self.mails}/email").text)
            wanted = f"[contrail] {alert}: "
            return next((m for m in mails if m["subject"].startswith(wanted)), None)

        began = time.monotonic()
        found = wait_for(f"a mail of {alert}", limit_s, mail)
        print(f"{found['subject']!r} after {time.monotonic() - began:.1f} s more", file=sys.stderr)
        self.assertRegex(found["html"], summary)
        self.assertIn(f"docs/runbook.md#{alert.lower()}", found["html"])

    def wait_until_resolved(self, *alerts: str, limit_s: float = 120) -> None:
        """Waits until alerts are over, and until that was mailed."""
        wait_for(f"{alerts} are over", limit_s, lambda: not self.firing() & set(alerts))
        wanted = {f"[contrail] resolved: {alert}" for alert in alerts}

        def told() -> bool:
            begun = {subject.rpartition(": ")[0] for subject in self.subjects()}
            return all(any(one.startswith(text) for one in begun) for text in wanted)

        wait_for(f"mails {wanted}", 60, told)

    def test_1_it_joins_the_stack_and_all_is_well(self) -> None:
        self.assertNotIn("prometheus", self.before)
        self.assertEqual({"ready"}, set(self.stack.status().values()))

        def down() -> list[str] | None:
            targets = self.ask("targets")["activeTargets"]
            down = [t["labels"]["job"] for t in targets if t["health"] != "up"]
            return None if down or len(targets) < 8 else [t["scrapeUrl"] for t in targets]

        self.assertEqual(8, len(wait_for("all targets answer", 30, down)))
        # Until the first account, and until rates have two samples, nothing can be told.
        wait_for("nothing fires", 60, lambda: not self.firing())

    def test_2_every_question_has_an_answer(self) -> None:
        wait_for(
            "batches in the last seconds",
            60,
            lambda: self.series("rate(flight_ingester_batch_rows_count[20s]) > 0"),
        )
        time.sleep(5)
        # Airflow tells nothing of itself here, see test_airflow.py.
        found = [t for t in boards.targets("prometheus") if t.dashboard != "contrail-airflow"]
        for target in found:
            with self.subTest(str(target)):
                expression = target.query["expr"]
                for variable, value in (("$__rate_interval", "20s"), ("$host", ".*")):
                    expression = expression.replace(variable, value)
                self.assertNotIn("$", expression)
                answer = self.series(expression)
                self.assertTrue(answer, expression)
                values = [float(one["value"][1]) for one in answer]
                self.assertFalse(any(math.isinf(value) for value in values), expression)
                # What names series by a label must have the label.
                for label in re.findall(r"{{(\w+)}}", target.query["legendFormat"]):
                    if " or vector(0)" not in expression:
                        self.assertTrue(all(one["metric"].get(label) for one in answer), label)
        self.assertGreater(len(found), 50)
        print(f"{len(found)} questions to Prometheus, all answered", file=sys.stderr)
        for uid, name, query in boards.variables("prometheus"):
            match = re.fullmatch(r"label_values\((\w+), (\w+)\)", query)
            assert match, f"{uid}: {name}"
            series = self.series(match[1])
            self.assertTrue(series and all(one["metric"][match[2]] for one in series), name)

    def test_3_every_name_is_of_a_metric_that_is_there(self) -> None:
        known = set(self.ask("label/__name__/values"))
        texts = [t.query["expr"] for t in boards.targets("prometheus")]
        # Some are there from their first event on: they stand beside `or` or in a rule's increase.
        later = {"flight_ingester_dead_letters_total", "contrail_exporter_failures_total"}
        for text in texts + [text for _, text in rules()]:
            for name in NAME.findall(re.sub(r'"[^"]*"', "", text)):
                if not ELSEWHERE.match(name):
                    self.assertIn(name, known | later, text)

    def test_31_a_disk_is_mailed(self) -> None:
        # It fires from the start: before other mails are forgotten.
        self.wait_until_mailed("DiskFilling", r"[\d.]+% of /\S* is free")

    def test_4_a_producer_that_was_stopped_is_mailed(self) -> None:
        self.forget_mails("ServiceDown", "NoData", "StaleData")
        self.stack.succeed("contrail stop producer")
        self.wait_until_mailed("ServiceDown", "flight-producer does not answer")
        self.wait_until_mailed("NoData", "Nothing comes into ClickHouse")
        self.wait_until_mailed("StaleData", r"Positions of mock-s42-f300-\S+ are \S+s old")
        self.assertLessEqual({"ServiceDown", "NoData", "StaleData"}, self.firing())
        self.stack.succeed("contrail start producer")
        self.wait_until_resolved("ServiceDown", "NoData", "StaleData")

    def test_5_lag_that_grows_is_mailed(self) -> None:
        self.forget_mails("LagGrowing")
        self.stack.succeed("contrail stop ingester")
        self.wait_until_mailed("LagGrowing", r"falls behind Kafka, by [\d.]+k? records")
        self.stack.succeed("contrail start ingester")
        self.wait_until_resolved("LagGrowing")

    def test_51_a_service_that_cannot_work_is_mailed(self) -> None:
        self.forget_mails("NotReady")
        self.stack.succeed("contrail stop registry")
        self.wait_until_mailed("NotReady", "flight-(ingester|producer) cannot do its work")
        self.stack.succeed("contrail start registry", timeout=120)
        self.wait_until_resolved("NotReady")

    def test_6_a_doubled_event_is_mailed(self) -> None:
        table = "flight_data.flight_positions"
        self.sql(
            f"INSERT INTO {table} ({COLUMNS}) SELECT {COLUMNS} FROM {table}"
            " ORDER BY source_offset DESC LIMIT 1 OFFSET 500"
        )
        self.wait_until_mailed("DuplicatedEvents", "1 events of mock-s42-f300-.* more than once")

    def test_7_missing_events_are_mailed(self) -> None:
        table = "flight_data.flight_positions"
        last = int(self.sql(f"SELECT max(source_offset) - 2000 FROM {table}"))
        self.sql(
            f"ALTER TABLE {table} DELETE WHERE source_offset BETWEEN {last - 99} AND {last}"
            " SETTINGS mutations_sync = 1"
        )
        # The first account looks at all events.
        self.stack.succeed("contrail restart exporter")
        self.wait_until_mailed("MissingEvents", "100 events of mock-s42-f300-.* are missing")

    def test_8_a_dead_letter_is_mailed(self) -> None:
        self.kafka_tool("ConsoleProducer", "--topic", "flight.positions", text="no Avro\n")
        self.wait_until_mailed("DeadLetters", "1 events are among the dead letters")

    def test_9_a_part_of_airflow_that_stopped_is_mailed(self) -> None:
        self.forget_mails("AirflowStopped")
        self.stack.succeed("contrail start postgresql", timeout=120)
        up = 'contrail_component_up{component="postgresql"} == 1'
        wait_for("PostgreSQL is seen", 30, lambda: self.series(up))
        self.stack.succeed("contrail stop postgresql")
        self.wait_until_mailed("AirflowStopped", "Airflow does not run")

    def test_91_an_account_that_cannot_be_made_is_counted_and_mailed(self) -> None:
        self.forget_mails("AccountStopped")
        self.stack.succeed("contrail stop clickhouse")
        wait_for(
            "the exporter's failures",
            60,
            lambda: self.series('contrail_exporter_failures_total{look="freshness"} > 0'),
        )
        # It goes on, and tells which component is away.
        away = 'contrail_component_up{component="clickhouse"} == 0'
        wait_for("the component that is away", 60, lambda: self.series(away))
        self.assertEqual("ready", self.stack.status()["exporter"])
        self.wait_until_mailed("AccountStopped", "Nobody knows whether events are missing")
        self.stack.succeed("contrail start clickhouse")
        self.wait_until_resolved("AccountStopped")

    def test_92_a_certificate_that_ends_soon_is_mailed(self) -> None:
        self.forget_mails("CertificateExpires")
        port = self.stack.ports()["exporter"]
        self.stack.succeed("contrail stop exporter")
        with TlsServer(days=2) as server:
            # An exporter whose registry is reached by TLS, where Prometheus looks for the other one.
            exporter = subprocess.Popen(
                [PROGRAM, "exporter", "--listen", f"127.0.0.1:{port}"],
                cwd=self.stack.directory,
                env=self.stack.environment
                | {"CONTRAIL_REGISTRY__EXTERNAL__URL": f"https://{server.address}"},
            )
            try:
                self.wait_until_mailed(
                    "CertificateExpires", f"certificate of {server.address} ends in 1d 23h"
                )
            finally:
                exporter.terminate()
                exporter.wait(30)
        self.stack.succeed("contrail start exporter")

    def test_93_what_kafka_deleted_too_soon_is_mailed(self) -> None:
        self.forget_mails("LostToRetention")
        self.stack.succeed("contrail stop ingester")
        lag = "min(contrail_ingester_lag_records) > 50"
        wait_for("records that are not ingested", 60, lambda: self.series(lag))
        ends = [{"topic": "flight.positions", "partition": n, "offset": -1} for n in range(6)]
        wanted = pathlib.Path(self.folder.name) / "delete.json"
        wanted.write_text(json.dumps({"partitions": ends, "version": 1}))
        self.kafka_tool("DeleteRecordsCommand", "--offset-json-file", str(wanted))
        self.stack.succeed("contrail start ingester")
        self.wait_until_mailed("LostToRetention", r"Kafka deleted [\d.]+k? offsets")

    def kafka_tool(self, name: str, *arguments: str, text: str = "") -> None:
        """Runs one of Kafka's own tools."""
        libraries = f"{boards.ROOT}/var/parts/kafka/libs/*"
        tool = ["java", "-cp", libraries, f"org.apache.kafka.tools.{name}"]
        run = subprocess.run(
            [*tool, "--bootstrap-server", self.kafka, *arguments],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(0, run.returncode, run.stderr + run.stdout)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
