"""The DAGs under the real scheduler, on the whole local stack with PostgreSQL and the mail catcher."""

import json
import pathlib
import subprocess
import sys
import time
import typing
import unittest

import fakes
import world
from contrail_dags import archive, clickhouse, http, settings
from local import LocalStack, wait_for
from scenarios.orchestration import Airflow, gaps_are_repaired
from scenarios.platform import Platform

# A day is archived at once, and no DAG waits for long.
SETTINGS = """
[mock]
fleet = 200
[airflow.dags.archive]
after_days = 1
quiet_s = 0
[airflow.dags.producer]
advance_s = 5
recover_s = 40
"""
DAY = "2026-03-05"
# What repair_gaps is when all went well.
REPAIRED = {(task, "success") for task in ("find", "repair", "tell", "judge")}
# Runs a DAG from its first task to its last in this process, and says what became of each.
DAG_TEST = """
import json, sys
try:
    from airflow.dag_processing.dagbag import DagBag
except ImportError:
    # Where it was until Airflow 3.1.
    from airflow.models.dagbag import DagBag
(dag,) = DagBag(sys.argv[1], include_examples=False).dags.values()
run = dag.test(run_conf=json.loads(sys.argv[2]))
print("STATES " + json.dumps([[t.task_id, t.map_index, str(t.state)] for t in run.get_task_instances()]))
"""

# Looks for gaps, waits for a line, and repairs what it found.
REPAIR = """
import sys
from contrail_dags import gaps
repairer = gaps.repairer()
found = repairer.find()
print([(gap.first, gap.last) for gap in found], flush=True)
sys.stdin.readline()
print([repair.state for repair in repairer.repair(found)], flush=True)
"""
# Asks for a replay, and is killed.
KILLED = """
import os
from contrail_dags import gaps
repairer = gaps.repairer()
begin = repairer.replays.begin
def die(*arguments):
    print(begin(*arguments).state, flush=True)
    os.kill(os.getpid(), 9)
repairer.replays.begin = die
repairer.repair(repairer.find())
"""


class OnTheStack(unittest.TestCase):
    """One stack for all of it."""

    stack: LocalStack
    failed = True

    @classmethod
    def setUpClass(cls) -> None:
        # The producer reads its source by way of one that can forget events.
        cls.source = fakes.Source()
        url = cls.enterClassContext(fakes.forgetful(cls.source))
        source = f'[producer.env]\nFLIGHT_PRODUCER_SOURCE__URL = "{url}"\n'
        cls.stack = LocalStack(settings=SETTINGS + source)
        cls.source.target = 8000 + int(cls.stack.environment["CONTRAIL_PORT_OFFSET"])
        try:
            cls.stack.wait_until_started()
            cls.before = cls.stack.status()
            cls.stack.succeed("contrail start airflow", timeout=400)
            ports = cls.stack.ports()
            cls.airflow = f"http://127.0.0.1:{ports['airflow-api']}"
            cls.mails = f"http://127.0.0.1:{ports['mail']}"
            cls.platform = cls.stack.platform()
            cls.client = clickhouse.Client(
                settings.Clickhouse(url=cls.platform.clickhouse, password="admin")
            )
            body = json.dumps({"username": "admin", "password": "admin"}).encode()
            answer = http.ask(
                f"{cls.airflow}/auth/token",
                method="POST",
                body=body,
                headers={"Content-Type": "application/json"},
                timeout_s=30,
            )
            assert answer.status == 201, answer
            cls.token = json.loads(answer.text)["access_token"]
            cls.failed = False
        except BaseException:
            cls.stack.close(failed=True)
            raise

    before: dict[str, str]
    source: fakes.Source
    scheduler: typing.ClassVar[dict[str, str]] = {}
    airflow: str
    mails: str
    client: clickhouse.Client
    platform: Platform
    token: str

    @classmethod
    def tearDownClass(cls) -> None:
        cls.stack.close(failed=cls.failed)

    def run(self, result: unittest.TestResult | None = None) -> unittest.TestResult | None:
        """Keeps what the stack left if a test fails."""
        result = result or self.defaultTestResult()
        super().run(result)
        type(self).failed |= not result.wasSuccessful()
        return result

    def api(self, path: str, body: object = None, method: str = "") -> dict[str, typing.Any]:
        """What Airflow's API answers."""
        answer = http.ask(
            f"{self.airflow}/api/v2{path}",
            method=method or ("GET" if body is None else "POST"),
            body=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"},
            timeout_s=30,
        )
        self.assertLess(answer.status, 300, answer.text)
        found: dict[str, typing.Any] = json.loads(answer.text)
        return found

    def subjects(self) -> list[str]:
        """The subjects of all mails, the oldest first."""
        return [mail["subject"] for mail in json.loads(http.ask(f"{self.mails}/email").text)]

    def states(self, dag: str, run: str) -> dict[str, str]:
        """What became of each task of a run."""
        found = self.api(f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: str(task["state"]) for task in found}

    def test_1_airflow_joins_the_stack_and_has_the_dags(self) -> None:
        self.assertNotIn("postgresql", self.before)
        self.assertEqual({"ready"}, set(self.stack.status().values()))
        dags = wait_for(
            "all DAGs",
            60,
            lambda: [d for d in [self.api("/dags")["dags"]] if len(d) == 4],
        )[0]
        self.assertEqual([], [dag["dag_id"] for dag in dags if dag["is_paused"]])
        self.assertEqual(0, self.api("/importErrors")["total_entries"])

    def test_2_a_producer_that_was_stopped_runs_again(self) -> None:
        # The first run of the schedule, so that the next one comes within a minute.
        wait_for(
            "a run that found nothing wrong",
            90,
            lambda: self.api("/dags/producer_health/dagRuns?state=success")["total_entries"],
        )
        self.stack.succeed("contrail stop producer")
        began = time.monotonic()
        wait_for(
            "the producer is started again",
            120,
            lambda: self.stack.status()["producer"] in ("starting", "ready"),
        )
        restarted = time.monotonic() - began
        wait_for("the first mail", 60, lambda: any("is not well" in s for s in self.subjects()))
        wait_for("the last mail", 60, lambda: any("well again" in s for s in self.subjects()))
        took = time.monotonic() - began
        print(f"started again after {restarted:.1f} s, over after {took:.1f} s", file=sys.stderr)
        self.assertLess(took, 120)
        failed = wait_for(
            "the run whose check failed",
            30,
            lambda: [
                states
                for run in self.api("/dags/producer_health/dagRuns?limit=100")["dag_runs"]
                if (states := self.states("producer_health", run["dag_run_id"])).get("check")
                == "failed"
                and states.get("confirm") == "success"
            ],
        )
        self.assertEqual(1, len(failed))
        wanted = {"restart": "success", "tell": "success", "close": "upstream_failed"}
        self.assertEqual(wanted, {name: failed[0][name] for name in wanted})
        of_it = [subject for subject in self.subjects() if "flight-producer" in subject]
        self.assertEqual(2, len(of_it), of_it)
        mail = json.loads(http.ask(f"{self.mails}/email").text)[0]["html"]
        for words in (
            "does not answer",
            "restart producer",
            "last offset",
            "last seen well",
            "The end of its log",
        ):
            self.assertIn(words, mail)
        print(mail, file=sys.stderr)
        self.platform.verify()

    def test_3_clickhouse_being_away_fails_a_task_with_its_address(self) -> None:
        self.stack.succeed("contrail stop clickhouse")
        try:
            body: dict[str, object] = {"logical_date": None, "conf": {}}
            run = self.api("/dags/monthly_archive/dagRuns", body)["dag_run_id"]
            wait_for(
                "the task is to be tried again",
                60,
                lambda: (
                    self.states("monthly_archive", run).get("due") in ("up_for_retry", "failed")
                ),
            )
        finally:
            self.stack.succeed("contrail start clickhouse")
        logs = self.stack.directory.glob(
            f"state/airflow/logs/dag_id=monthly_archive/run_id={run}/task_id=due/*.log"
        )
        text = "".join(path.read_text() for path in logs)
        url = self.client.configuration.url
        self.assertIn(f"ClickHouse at {url} does not answer", text)
        self.api(f"/dags/monthly_archive/dagRuns/{run}", {"state": "failed"}, "PATCH")

    def test_3b_what_is_gone_is_repaired_by_the_scheduler(self) -> None:
        gaps_are_repaired(self.platform, Airflow(self.platform, self.airflow))

    # From here on each DAG is run by hand in one process, as somebody who writes one does.

    def test_4_a_day_is_archived(self) -> None:
        world.fill(self.client, DAY, 20_000)
        states = self.dag_test("monthly_archive")
        self.assertEqual({("due", "success"), ("move", "success")}, states)
        state = self.client.row(
            "SELECT toString(state) AS state, rows FROM flight_data.archived_days FINAL"
            f" WHERE date = '{DAY}'"
        )
        self.assertEqual({"state": "dropped", "rows": 20_000}, state)
        self.assertEqual(
            20_000,
            self.client.number(f"SELECT count() FROM {archive.MONTHLY} WHERE date = '{DAY}'"),
        )
        # Nothing left to do: not a failure.
        states = self.dag_test("monthly_archive")
        self.assertEqual({("due", "success"), ("move", "skipped")}, states)

    def test_5_an_hour_is_looked_at(self) -> None:
        hour = f"{DAY} 03:00:00"
        self.client.execute(
            f"""
            INSERT INTO {archive.LIVE} ({world.COLUMNS})
            SELECT 'X1', 'X1', 0, 0, 99000, 2500, toDateTime64('{hour}', 3, 'UTC') + number, NULL, NULL,
                   NULL, NULL, NULL, 'test-source', 1000000 + number FROM numbers(3)
            """
        )
        states = self.dag_test("data_quality", {"hour": hour})
        self.assertEqual({("look", "success"), ("tell", "success")}, states)
        rows = self.client.rows(
            f"SELECT check, value, passed FROM flight_data.data_quality FINAL WHERE hour = '{hour}'"
        )
        found = {row["check"]: row for row in rows}
        # Three rows, each of which is too fast and too high.
        self.assertEqual(6, found["impossible_positions"]["value"])
        self.assertFalse(found["impossible_positions"]["passed"])
        self.assertTrue(any("impossible_positions" in subject for subject in self.subjects()))

    def test_6_a_mail_that_is_refused_fails_its_task_and_the_next_run_sends_it(self) -> None:
        before = len(self.subjects())
        self.stack.succeed("contrail stop producer", "contrail stop mail")
        states = self.dag_test("producer_health")
        wanted = {
            ("check", "failed"),
            ("restart", "success"),
            ("tell", "failed"),
            # It runs again, and nobody can be told.
            ("confirm", "failed"),
            ("close", "upstream_failed"),
        }
        self.assertEqual(wanted, states)
        self.stack.succeed("contrail start mail", "contrail start producer")
        states = self.dag_test("producer_health")
        wanted = {
            ("check", "success"),
            ("close", "success"),
            ("restart", "skipped"),
            ("tell", "skipped"),
            ("confirm", "skipped"),
        }
        self.assertEqual(wanted, states)
        # One mail for both: it was over before anybody could be told.
        self.assertEqual(["[contrail] flight-producer is well again"], self.subjects()[before:])
        self.platform.verify()

    def test_7_what_is_missing_is_sent_again(self) -> None:
        source, first, last = self.dig()
        self.assertEqual(REPAIRED, self.dag_test("repair_gaps"))
        self.assertEqual([(first, last, "filled")], self.repairs(first))
        self.assertIn("[contrail] gaps: 1 filled", self.subjects())
        self.platform.verify()
        # Nothing is missing now, and nobody is told of nothing.
        before = self.subjects()
        self.assertEqual(REPAIRED, self.dag_test("repair_gaps"))
        self.assertEqual(before, self.subjects())
        self.assertEqual([(first, last, "filled")], self.repairs(first))
        self.assertTrue(source.startswith("mock-"))

    def test_8_two_runs_at_once_do_no_harm(self) -> None:
        _, first, last = self.dig()
        runs = [self.begin(REPAIR) for _ in range(2)]
        # Both have found it before one of them begins.
        for run in runs:
            assert run.stdout
            self.assertEqual(f"[({first}, {last})]", run.stdout.readline().strip())
        for run in runs:
            assert run.stdin
            run.stdin.write("go\n")
            run.stdin.flush()
        for run in runs:
            said, errors = run.communicate(timeout=120)
            self.assertEqual(("['filled']", 0), (said.strip(), run.returncode), errors)
        self.assert_once(first, last)
        self.assertEqual([(first, last, "filled")], self.repairs(first))
        self.platform.verify()

    def test_9_a_run_that_was_killed_is_made_good_by_the_next(self) -> None:
        _, first, last = self.dig()
        killed = self.begin(KILLED)
        said, errors = killed.communicate(timeout=120)
        self.assertEqual(("running", -9), (said.strip(), killed.returncode), errors)
        self.assertEqual([(first, last, "found")], self.repairs(first))
        # What it asked for may have come meanwhile; what counts is that nothing is missing or double.
        self.assertEqual(REPAIRED, self.dag_test("repair_gaps"))
        self.assert_once(first, last)
        self.platform.verify()

    def test_a_clickhouse_or_kafka_being_away_fails_the_search_and_the_next_run_repairs(
        self,
    ) -> None:
        for part, words in (
            ("clickhouse", f"{self.client.configuration.url}"),
            ("kafka", f"127.0.0.1:{self.stack.ports()['kafka']}"),
        ):
            with self.subTest(part):
                _, first, last = self.dig()
                self.stack.succeed(f"contrail stop {part}")
                states = self.dag_test("repair_gaps")
                self.assertIn(("find", "failed"), states)
                self.assertIn(("judge", "upstream_failed"), states)
                self.assertRegex(self.said, f"GapsError: .*exit code 2: .*{words}")
                self.stack.succeed(f"contrail start {part}")
                self.platform.wait_until_ready()
                self.assertEqual(REPAIRED, self.dag_test("repair_gaps"))
                self.assertEqual([(first, last, "filled")], self.repairs(first))

    def test_b_a_wrong_token_fails_and_is_told_and_the_right_one_repairs(self) -> None:
        _, first, last = self.dig()
        path = pathlib.Path(self.environment()["FLIGHT_DAGS_CONFIG"])
        wrong = path.with_name("wrong.toml")
        lines = [line for line in path.read_text().splitlines() if "token_file" not in line]
        text = "\n".join(lines)
        wrong.write_text(text.replace("[producer]", '[producer]\ntoken = "wrong"'))
        states = self.dag_test("repair_gaps", FLIGHT_DAGS_CONFIG=str(wrong))
        self.assertEqual((REPAIRED - {("judge", "success")}) | {("judge", "failed")}, states)
        self.assertIn("the token is refused", self.said)
        self.assertEqual("[contrail] gaps: 1 failed", self.subjects()[-1])
        self.assertEqual([(first, last, "failed")], self.repairs(first))
        self.assertEqual(REPAIRED, self.dag_test("repair_gaps"))
        self.assertEqual([(first, last, "filled")], self.repairs(first))

    def test_c_what_the_source_has_no_more_is_told_once_and_remembered(self) -> None:
        _, first, last = self.dig()
        middle = first + 150
        self.source.begins_at = middle
        self.assertEqual(REPAIRED, self.dag_test("repair_gaps"))
        self.assertEqual("[contrail] gaps: 1 filled, 1 lost", self.subjects()[-1])
        mail = json.loads(http.ask(f"{self.mails}/email").text)[-1]["html"]
        self.assertIn(f"the first event that it can give is offset {middle}", mail)
        print(mail, file=sys.stderr)
        known = [(first, middle - 1, "lost"), (middle, last, "filled")]
        self.assertEqual(known, [row for row in self.repairs(first) if row[2] != "found"])
        before = self.subjects()
        self.assertEqual(REPAIRED, self.dag_test("repair_gaps"))
        self.assertEqual(before, self.subjects())
        self.assertEqual(1, self.stack.execute("contrail gaps")[0])
        self.assertEqual(0, self.stack.execute("contrail gaps --skip-lost")[0])
        # It is there again after all: whoever knows that says so, and it is filled.
        self.source.begins_at = 0
        self.client.execute(
            "ALTER TABLE flight_data.repairs DELETE WHERE state = 'lost' SETTINGS mutations_sync = 2"
        )
        self.assertEqual(REPAIRED, self.dag_test("repair_gaps"))
        self.assert_once(first, last)
        self.platform.verify()

    def dig(self, count: int = 400) -> tuple[str, int, int]:
        """Deletes rows that nobody has looked for yet: their source, the first and the last offset."""
        # Without the scheduler nobody looks at what is new before it is gone.
        self.environment()
        self.platform.wait_for_rows(self.platform.positions() + 2000)
        newest = self.client.row(
            f"SELECT source, max(source_offset) AS last FROM {archive.LIVE}"
            " WHERE source LIKE 'mock-%' GROUP BY source"
        )
        source, last = str(newest["source"]), int(newest["last"]) - 500
        first = last - count + 1
        self.client.execute(
            f"ALTER TABLE {archive.LIVE} DELETE WHERE source = '{source}'"
            f" AND source_offset BETWEEN {first} AND {last} SETTINGS mutations_sync = 2"
        )
        return source, first, last

    def repairs(self, first: int) -> list[tuple[int, int, str]]:
        """What is written down of ranges from an offset on."""
        rows = self.client.rows(
            "SELECT first, last, toString(state) AS state FROM flight_data.repairs FINAL"
            f" WHERE source LIKE 'mock-%' AND first >= {first} ORDER BY first, last"
        )
        return [(row["first"], row["last"], row["state"]) for row in rows]

    def assert_once(self, first: int, last: int) -> None:
        """Each event is there once."""
        found = self.client.row(
            f"SELECT count() AS row_count, uniqExact(source_offset) AS distinct FROM {archive.LIVE}"
            f" WHERE source LIKE 'mock-%' AND source_offset BETWEEN {first} AND {last}"
        )
        count = last - first + 1
        self.assertEqual((count, count), (found["row_count"], found["distinct"]))

    def begin(self, code: str) -> subprocess.Popen[str]:
        """Runs Python in the environment of the stack's own Airflow."""
        run = subprocess.Popen(
            [sys.executable, "-c", code],
            env=self.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        # One that a failed test leaves behind waits for a line.
        self.addCleanup(run.communicate)
        self.addCleanup(run.kill)
        return run

    # What the last run by `dag_test` printed.
    said = ""

    def dag_test(
        self, dag: str, conf: dict[str, str] | None = None, **environment: str
    ) -> set[tuple[str, str]]:
        """Runs a DAG by `dag.test()` in the environment of the stack's own Airflow."""
        path = str(world.ROOT / f"airflow/dags/{dag}.py")
        done = subprocess.run(
            [sys.executable, "-c", DAG_TEST, path, json.dumps(conf or {})],
            env=self.environment() | environment,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        self.said = done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("STATES ")]
        self.assertTrue(lines, done.stdout[-3000:] + done.stderr[-3000:])
        return {(task, state) for task, _, state in json.loads(lines[-1].removeprefix("STATES "))}

    def environment(self) -> dict[str, str]:
        """The scheduler's own, which is stopped: it would take the tasks for its own."""
        if not self.scheduler:
            parts = json.loads(self.stack.succeed("contrail status --json"))
            pid = next(part["pid"] for part in parts if part["name"] == "airflow-scheduler")
            words = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
            for word in words:
                name, _, value = word.partition("=")
                self.scheduler[name] = value
            self.scheduler.pop("", None)
            self.stack.succeed("contrail stop airflow-scheduler")
        return self.scheduler


if __name__ == "__main__":
    unittest.main()
