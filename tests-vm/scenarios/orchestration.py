"""Airflow looks after the platform."""

import json
import shlex
import time
import typing

from scenarios.platform import Platform


class Airflow:
    """Airflow's API, as its user admin."""

    def __init__(self, platform: Platform, url: str = "http://127.0.0.1:8085") -> None:
        self.platform = platform
        self.url = url
        account = json.dumps({"username": "admin", "password": "admin"})
        content = ("-H", "Content-Type: application/json")
        command = shlex.join(["curl", "-sf", *content, "-d", account, f"{url}/auth/token"])
        answer = platform.node.wait_until_succeeds(command, timeout=300)
        token = json.loads(answer)["access_token"]
        self.headers = (*content, "-H", f"Authorization: Bearer {token}")

    def ask(self, path: str, body: object = None) -> dict[str, typing.Any]:
        """What the API answers."""
        data = () if body is None else ("-d", json.dumps(body))
        text = self.platform.curl(f"{self.url}/api/v2{path}", *self.headers, *data)
        found: dict[str, typing.Any] = json.loads(text)
        return found

    def states(self, dag: str, run: str) -> dict[str, str]:
        """What became of each task of a run."""
        found = self.ask(f"/dags/{dag}/dagRuns/{run}/taskInstances")["task_instances"]
        return {task["task_id"]: str(task["state"]) for task in found}

    def log(self, dag: str, run: str, task: str) -> str:
        """The end of a task's log."""
        text = self.platform.curl(
            f"{self.url}/api/v2/dags/{dag}/dagRuns/{run}/taskInstances/{task}/logs/1", *self.headers
        )
        return text[-3000:]

    def wait_for_dags(self, names: set[str], timeout: int = 120) -> None:
        """Waits until the DAGs are there; one that cannot be imported fails."""
        end = time.monotonic() + timeout
        while not names <= (found := {dag["dag_id"] for dag in self.ask("/dags")["dags"]}):
            if time.monotonic() > end:
                raise RuntimeError(f"DAGs {found}, wanted {names}")
            time.sleep(1)
        errors = self.ask("/importErrors")
        assert errors["total_entries"] == 0, errors

    def run(self, dag: str, timeout: int = 180) -> dict[str, str]:
        """Runs a DAG by hand, to its end; the states of its tasks."""
        run = self.ask(f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": {}})["dag_run_id"]
        end = time.monotonic() + timeout
        while self.ask(f"/dags/{dag}/dagRuns/{run}")["state"] not in ("success", "failed"):
            if time.monotonic() > end:
                raise RuntimeError(f"{dag} does not end: {self.states(dag, run)}")
            time.sleep(1)
        return self.states(dag, run)


def producer_is_started_again(platform: Platform, airflow: Airflow) -> None:
    """Stops the producer as the README that this grew from does, and waits for it."""
    runs = "/dags/producer_health/dagRuns"
    end = time.monotonic() + 120
    while not airflow.ask(f"{runs}?state=success")["total_entries"]:
        assert time.monotonic() < end, "no run found all well"
        time.sleep(1)
    platform.node.succeed("systemctl stop flight-producer.service")
    began = time.monotonic()
    platform.node.wait_until_succeeds("systemctl is-active flight-producer.service", timeout=120)
    platform.node.log(f"started again after {time.monotonic() - began:.1f} s")
    end = began + 120
    wanted = {"check": "failed", "restart": "success", "tell": "success", "confirm": "success"}
    while True:
        found = {
            run["dag_run_id"]: airflow.states("producer_health", run["dag_run_id"])
            for run in airflow.ask(f"{runs}?limit=100")["dag_runs"]
        }
        if any(wanted.items() <= states.items() for states in found.values()):
            break
        for run, states in found.items():
            for task in ("restart", "tell", "confirm"):
                if states.get(task) == "failed":
                    raise RuntimeError(f"{task}: {airflow.log('producer_health', run, task)}")
        assert time.monotonic() < end, found
        time.sleep(1)
    platform.wait_until_ready()


def gaps_are_repaired(platform: Platform, airflow: Airflow) -> None:
    """Rows that are gone are found, sent again and written down by a run of repair_gaps."""
    wanted = {task: "success" for task in ("find", "repair", "tell", "judge")}
    # What is there now is known from here on; rows that are gone before anybody looked are found.
    states = airflow.run("repair_gaps")
    assert states == wanted, states
    table = "flight_data.flight_positions"
    platform.wait_for_rows(platform.positions() + 2000)
    source, last = platform.query(
        f"SELECT source, max(source_offset) - 500 FROM {table} WHERE source LIKE 'mock-%' GROUP BY source"
    ).split()
    first = int(last) - 399
    condition = f"source = '{source}' AND source_offset BETWEEN {first} AND {last}"
    platform.query(f"ALTER TABLE {table} DELETE WHERE {condition} SETTINGS mutations_sync = 2")
    states = airflow.run("repair_gaps")
    assert states == wanted, states
    counts = platform.query(
        f"SELECT count(), uniqExact(source_offset) FROM {table} WHERE {condition}"
    )
    assert counts.split() == ["400", "400"], counts
    repaired = platform.query(
        "SELECT toString(state), last - first + 1 FROM flight_data.repairs FINAL"
        f" WHERE source = '{source}' AND first = {first}"
    )
    assert repaired.split() == ["filled", "400"], repaired


def airflow_is_measured(
    platform: Platform, prometheus: str, dashboard: dict[str, typing.Any]
) -> None:
    """Prometheus has Airflow's own metrics, with what runs and tasks come to, and answers their panels."""
    panels = [
        target["expr"].replace("$__rate_interval", "1m")
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
        if "expr" in target
    ]
    assert panels, dashboard["title"]
    for question in (
        "airflow_scheduler_heartbeat > 0",
        'airflow_ti_failures{dag_id="producer_health",task_id="check"} > 0',
        'airflow_dagrun_duration_success_count{dag_id="repair_gaps"} > 0',
        *panels,
    ):
        asked = ("-G", f"{prometheus}/api/v1/query", "--data-urlencode", f"query={question}")
        command = shlex.join(["curl", "-s", *asked])
        answer = platform.node.wait_until_succeeds(f"{command} | grep '\"value\"'", timeout=120)
        found = json.loads(answer)["data"]["result"]
        # What is divided by nothing is no number.
        assert all(series["value"][1] != "NaN" for series in found), f"{question}: {found}"
        platform.node.log(f"{question}: {found[0]['metric']} {found[0]['value'][1]}")
