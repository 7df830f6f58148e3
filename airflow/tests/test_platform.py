"""The DAGs under the real scheduler, on the whole local stack with PostgreSQL and the mail catcher."""

import collections.abc
import json
import pathlib
import subprocess
import sys
import time
import typing
import unittest

import world
from contrail_dags import archive, clickhouse, http, settings
from local import LocalStack
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


def wait_for(
    what: str, limit_s: float, look: collections.abc.Callable[[], typing.Any]
) -> typing.Any:
    """What a look finds, once it finds something."""
    end = time.monotonic() + limit_s
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.5)
    return found


class OnTheStack(unittest.TestCase):
    """One stack for all of it."""

    stack: LocalStack
    failed = True

    @classmethod
    def setUpClass(cls) -> None:
        cls.stack = LocalStack(settings=SETTINGS)
        try:
            cls.stack.wait_until_started()
            cls.before = cls.stack.status()
            cls.stack.succeed("contrail start airflow", timeout=400)
            ports = cls.stack.ports()
            cls.airflow = f"http://127.0.0.1:{ports['airflow-api']}"
            cls.mails = f"http://127.0.0.1:{ports['mail']}"
            url = f"http://127.0.0.1:{ports['clickhouse']}"
            cls.client = clickhouse.Client(settings.Clickhouse(url=url, password="admin"))
            cls.platform = Platform(
                cls.stack,
                clickhouse=url,
                registry=f"http://127.0.0.1:{ports['registry']}/apis/ccompat/v7",
                ports={name: ports[name] for name in ("mock", "producer", "ingester")},
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
        # Without the scheduler nobody looks at what is new before it is gone.
        self.environment()
        self.platform.wait_for_rows(self.platform.positions() + 2000)
        newest = self.client.row(
            f"SELECT source, max(source_offset) AS last FROM {archive.LIVE}"
            " WHERE source LIKE 'mock-%' GROUP BY source"
        )
        source, last = str(newest["source"]), int(newest["last"]) - 500
        first = last - 499
        self.client.execute(
            f"ALTER TABLE {archive.LIVE} DELETE WHERE source = '{source}'"
            f" AND source_offset BETWEEN {first} AND {last} SETTINGS mutations_sync = 2"
        )
        wanted = {(task, "success") for task in ("find", "repair", "tell", "judge")}
        self.assertEqual(wanted, self.dag_test("repair_gaps"))
        rows = self.client.rows(
            "SELECT first, last, toString(state) AS state FROM flight_data.repairs FINAL"
            f" WHERE source = '{source}' ORDER BY first"
        )
        self.assertEqual([{"first": first, "last": last, "state": "filled"}], rows)
        self.assertIn("[contrail] gaps: 1 filled", self.subjects())
        self.platform.verify()
        # Nothing is missing now, and nobody is told of nothing.
        before = self.subjects()
        self.assertEqual(wanted, self.dag_test("repair_gaps"))
        self.assertEqual(before, self.subjects())

    def dag_test(self, dag: str, conf: dict[str, str] | None = None) -> set[tuple[str, str]]:
        """Runs a DAG by `dag.test()` in the environment of the stack's own Airflow."""
        path = str(world.ROOT / f"airflow/dags/{dag}.py")
        done = subprocess.run(
            [sys.executable, "-c", DAG_TEST, path, json.dumps(conf or {})],
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
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
