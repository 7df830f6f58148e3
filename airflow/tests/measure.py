"""Measures what docs/airflow.md says of speed, on a local stack of its own with Airflow.

python measure.py archive [--rows N] [--events-per-s N] [--threads N]
    A day of N rows is archived by the DAG while events flow; prints the lag of ingest over time.
python measure.py hole [--events N] [--events-per-s N]
    Kafka forgets N events before they are ingested; the DAG finds them, has them sent again, and `contrail
    verify` accounts for all.

It takes minutes, and both cores: no test does it. TMPDIR says where the data lies.
"""

import argparse
import datetime
import json
import threading
import time

import world
from contrail_dags import archive, clickhouse, http, producer, settings
from local import LocalStack
from scenarios.orchestration import Airflow

TABLE = archive.LIVE


class Measured:
    """A stack with Airflow, and how to ask it."""

    def __init__(self, configuration: str) -> None:
        self.stack = LocalStack(settings=configuration)
        try:
            self.stack.wait_until_started()
            self.stack.succeed("contrail start airflow", timeout=400)
            ports = self.stack.ports()
            self.platform = self.stack.platform()
            self.client = clickhouse.Client(
                settings.Clickhouse(url=self.platform.clickhouse, password="admin", timeout_s=600)
            )
            self.airflow = Airflow(self.platform, f"http://127.0.0.1:{ports['airflow-api']}")
            self.airflow.wait_for_dags({"monthly_archive", "repair_gaps"})
        except BaseException:
            self.stack.close(failed=True)
            raise

    def pause(self, dag: str, *, paused: bool) -> None:
        """Keeps a DAG from running, or lets it run again."""
        answer = http.ask(
            f"{self.airflow.url}/api/v2/dags/{dag}",
            method="PATCH",
            body=json.dumps({"is_paused": paused}).encode(),
            headers=dict(word.split(": ", 1) for word in self.airflow.headers if ": " in word),
        )
        assert answer.status == 200, answer

    def checkpoint(self) -> int:
        """The first source offset that is not in Kafka."""
        text = self.platform.curl(f"http://127.0.0.1:{self.platform.ports['producer']}/metrics")
        return int(producer.metric(text, "flight_producer_source_checkpoint_offset") or 0)

    def forget(self) -> None:
        """Has Kafka delete every record of positions, as its retention would."""
        file = self.stack.directory / "forget.json"
        partitions = [
            {"topic": "flight.positions", "partition": partition, "offset": -1}
            for partition in range(6)
        ]
        file.write_text(json.dumps({"partitions": partitions, "version": 1}))
        libraries = world.ROOT / "var/parts/kafka/libs"
        self.stack.succeed(
            f"java -cp '{libraries}/*' org.apache.kafka.tools.DeleteRecordsCommand --bootstrap-server"
            f" 127.0.0.1:{self.stack.ports()['kafka']} --offset-json-file {file}"
        )


class Lag:
    """How old the newest position of the aircraft that waits longest is, twice a second."""

    # Each aircraft has an event each second, so up to one second is no lag at all.
    QUESTION = f"""
        SELECT toUnixTimestamp64Milli(min(newest)) / 1000 AS oldest, count() AS aircraft
        FROM (SELECT icao24, max(timestamp) AS newest FROM {TABLE}
              WHERE date >= today() - 1 AND timestamp > now() - 120 GROUP BY icao24)
    """
    AT_WORK = """
        SELECT substring(query, 1, 70) AS text FROM system.processes
        WHERE (query LIKE '%flight_positions_monthly%' OR query LIKE '%_copying%' OR query LIKE '%_leaving%'
               OR query LIKE '%cityHash64%') AND query NOT LIKE '%system.processes%'
    """

    def __init__(self, client: clickhouse.Client) -> None:
        self.client = client
        self.samples: list[tuple[float, float, float, str]] = []
        self.over = threading.Event()
        self.began = time.monotonic()
        self.thread = threading.Thread(target=self.sample)
        self.thread.start()

    def sample(self) -> None:
        """Until it is over."""
        while not self.over.wait(0.5):
            began = time.monotonic()
            row = self.client.row(self.QUESTION)
            asked = time.monotonic() - began
            # As who asks sees it: the time that the question took counts too.
            lag = time.time() - float(row["oldest"])
            work = "; ".join(str(r["text"]) for r in self.client.rows(self.AT_WORK))
            self.samples.append((began - self.began, lag, asked, " ".join(work.split())))

    def stop(self) -> None:
        """Ends it."""
        self.over.set()
        self.thread.join()

    def tell(self, title: str, first: float, last: float, every: float = 0.0) -> None:
        """Prints what the lag was between two times, and each so many seconds."""
        lags = sorted(lag for at, lag, _, _ in self.samples if first <= at <= last)
        if not lags:
            return
        middle, most = lags[len(lags) // 2], lags[-1]
        print(f"{title}: lag p50 {middle:.2f} s, max {most:.2f} s, {len(lags)} samples", flush=True)
        due = first
        worst: tuple[float, float, float, str] | None = None
        for sample in self.samples:
            if not every or not first <= sample[0] <= last:
                continue
            worst = sample if worst is None or sample[1] > worst[1] else worst
            if sample[0] >= due + every:
                at, lag, asked, work = worst
                print(f"  {at - first:6.1f} s  lag {lag:5.2f} s  asked {asked:5.2f} s  {work}")
                due, worst = sample[0], None


def fill(client: clickhouse.Client, day: str, rows: int) -> None:
    """A day as flights have it: each goes its way by small steps."""
    blocks = 20
    for block in range(blocks):
        first, each = block * (rows // blocks), rows // blocks
        client.execute(
            f"""
            INSERT INTO {TABLE} ({world.COLUMNS})
            SELECT
                'F' || toString(n % 5000) || '-' || toString(intDiv(n, {rows // 4})), 'CON' || toString(n % 5000),
                (cityHash64(n % 5000) % 30000000) / 100000 - 150 + step * 0.0021 + (cityHash64(n) % 100) / 100000,
                (cityHash64(n % 5000, 1) % 10000000) / 100000 - 50 + step * 0.0011 + (cityHash64(n, 2) % 100) / 100000,
                29000 + (cityHash64(n % 5000, 3) % 20) * 500 + cityHash64(n, 4) % 100,
                430 + (cityHash64(n, 5) % 400) / 10,
                toDateTime64({{day:String}}, 3, 'UTC') + INTERVAL intDiv(n * 86399000, {rows}) MILLISECOND,
                lower(leftPad(hex(n % 5000), 6, '0')), cityHash64(n % 5000, 6) % 360, toInt32(cityHash64(n, 7) % 129) - 64,
                leftPad(toString(cityHash64(n % 5000, 8) % 7777), 4, '0'), false, 'measured', n
            FROM (SELECT number AS n, intDiv(number, 5000) % 1000 AS step FROM numbers({first}, {each}))
            """,
            day=day,
        )


def measure_archive(options: argparse.Namespace) -> None:
    """Target: 20 million rows in three minutes, lag below 5 s."""
    day = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=40)).date().isoformat()
    measured = Measured(
        f"[mock]\nfleet = {options.events_per_s}\n"
        f"[airflow.dags.archive]\nquiet_s = 0\nthreads = {options.threads}\n"
    )
    try:
        client = measured.client
        # Behind the run that is due by the schedule, which would take the day first.
        measured.airflow.run("monthly_archive")
        began = time.monotonic()
        fill(client, day, options.rows)
        print(f"filled in {time.monotonic() - began:.1f} s; waiting for merges to end", flush=True)
        end = time.monotonic() + 120
        while time.monotonic() < end and client.number(
            "SELECT count() FROM system.merges WHERE total_size_bytes_compressed > 50000000"
        ):
            time.sleep(1)
        lag = Lag(client)
        rows = measured.platform.positions()
        time.sleep(20)
        flowed = (measured.platform.positions() - rows) / (time.monotonic() - lag.began)
        print(f"events flow at {flowed:.0f}/s", flush=True)
        first = time.monotonic() - lag.began
        states = measured.airflow.run("monthly_archive", 900)
        last = time.monotonic() - lag.began
        time.sleep(20)
        lag.stop()
        print(f"the run took {last - first:.1f} s: {states}")
        lag.tell("before", 0, first)
        lag.tell("while it was archived", first, last, every=2.0)
        lag.tell("after", last, last + 20)
        done = client.rows(
            f"SELECT toString(date) AS day, toString(state) AS state, rows FROM {archive.DAYS} FINAL"
        )
        print(f"ledger: {done}")
        measured.stack.succeed(f"test {done[0]['rows']} = {options.rows}")
        print_times(measured)
        measured.platform.verify("1000")
    finally:
        measured.stack.close(failed=False)


def print_times(measured: Measured) -> None:
    """When each of the tasks of the last run began and ended."""
    runs = measured.airflow.ask("/dags/monthly_archive/dagRuns?order_by=-run_after")["dag_runs"]
    for task in measured.airflow.ask(
        f"/dags/monthly_archive/dagRuns/{runs[0]['dag_run_id']}/taskInstances"
    )["task_instances"]:
        print(f"  {task['task_id']}: {task['duration']} s, {task['state']}")


def measure_hole(options: argparse.Namespace) -> None:
    """Target: a million events found, sent again and verified in four minutes."""
    measured = Measured(f"[mock]\nfleet = {options.events_per_s}\n")
    try:
        stack, client = measured.stack, measured.client
        # Behind its first run, which makes all of it known.
        measured.airflow.run("repair_gaps")
        measured.pause("repair_gaps", paused=True)
        measured.pause("producer_health", paused=True)
        stack.succeed("contrail stop ingester")
        begin = measured.checkpoint()
        print(f"{options.events} events go to Kafka alone", flush=True)
        while measured.checkpoint() < begin + options.events:
            time.sleep(1)
        stack.succeed("contrail stop producer")
        measured.forget()
        stack.succeed("contrail start ingester", "contrail start producer")
        measured.platform.wait_until_ready()
        print(f"Kafka has forgotten them; events flow at {options.events_per_s}/s", flush=True)
        time.sleep(10)

        lag = Lag(client)
        began = time.monotonic()
        measured.pause("repair_gaps", paused=False)
        measured.airflow.ask("/dags/repair_gaps/dagRuns", {"logical_date": None, "conf": {}})
        seen = ""
        while seen != "filled":
            rows = client.rows(
                "SELECT toString(state) AS state, count() AS ranges, sum(last - first + 1) AS events"
                " FROM flight_data.repairs FINAL GROUP BY state"
            )
            states = {str(row["state"]): row for row in rows}
            if len(states) == 1 and (state := next(iter(states))) != seen:
                seen = state
                row = states[seen]
                print(
                    f"{time.monotonic() - began:6.1f} s  {seen}: {row['ranges']} ranges,"
                    f" {row['events']} events",
                    flush=True,
                )
            if time.monotonic() - began > 900:
                raise RuntimeError(f"not filled: {states}")
            time.sleep(0.2)
        while measured.airflow.ask("/dags/repair_gaps/dagRuns?state=running")["total_entries"]:
            time.sleep(0.2)
        print(f"{time.monotonic() - began:6.1f} s  the run is over", flush=True)
        lag.stop()
        report = measured.platform.verify()
        print(f"{time.monotonic() - began:6.1f} s  verified: {json.dumps(report['sources'])[:600]}")
        lag.tell("meanwhile", 0, time.monotonic())
    finally:
        measured.stack.close(failed=False)


def main() -> None:
    """One measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    kinds = parser.add_subparsers(required=True)
    one = kinds.add_parser("archive")
    one.add_argument("--rows", type=int, default=20_000_000)
    one.add_argument("--events-per-s", type=int, default=6_000)
    one.add_argument("--threads", type=int, default=1)
    one.set_defaults(measure=measure_archive)
    other = kinds.add_parser("hole")
    other.add_argument("--events", type=int, default=1_000_000)
    other.add_argument("--events-per-s", type=int, default=5_000)
    other.set_defaults(measure=measure_hole)
    options = parser.parse_args()
    options.measure(options)


if __name__ == "__main__":
    main()
