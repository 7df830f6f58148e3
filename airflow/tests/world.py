"""The local stack for the tests of the DAGs, and a day of positions in it."""

import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "airflow"))
sys.path.insert(0, str(ROOT / "tests-vm"))

from contrail_dags import clickhouse, settings
from local import PROGRAM, LocalStack

POSITIONS = "flight_data.flight_positions"
COLUMNS = (
    "flight_id, callsign, longitude, latitude, altitude, gspeed, timestamp, icao24, track, vertical_rate,"
    " squawk, on_ground, source, source_offset"
)


class Engine:
    """ClickHouse alone, with the tables."""

    def __init__(self) -> None:
        self.stack = LocalStack("--only", "clickhouse")
        try:
            self.stack.wait_until_started()
            self.url = f"http://127.0.0.1:{self.stack.ports()['clickhouse']}"
            self.client = clickhouse.Client(
                settings.Clickhouse(url=self.url, password="admin", timeout_s=120)
            )
            migrate(self.url)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops it."""
        self.stack.close(failed=False)

    def pid(self) -> int:
        """Its process."""
        parts = json.loads(self.stack.succeed("contrail status --json"))
        return int(parts[0]["pid"] or 0)

    def wait_for_another_than(self, pid: int) -> None:
        """Waits until it was started again after it was killed, and answers."""
        end = time.monotonic() + 60
        while self.pid() in (0, pid):
            # It is started again by itself, after a pause that this ends.
            self.stack.execute("contrail start clickhouse")
            if time.monotonic() > end:
                raise RuntimeError("the engine is not started again")
            time.sleep(0.1)
        self.stack.wait_for_unit("clickhouse")


def migrate(url: str) -> None:
    """Makes the tables."""
    environment = os.environ | {
        "FLIGHT_INGESTER_CLICKHOUSE__URL": url,
        "FLIGHT_INGESTER_CLICKHOUSE__USER": "default",
        "FLIGHT_INGESTER_CLICKHOUSE__PASSWORD": "admin",
    }
    command = [str(PROGRAM.parent / "flight-ingester"), "migrate"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)


def fill(client: clickhouse.Client, day: str, rows: int, first: int = 0, blocks: int = 1) -> None:
    """Inserts positions of a day with offsets from `first`, in so many blocks."""
    each = rows // blocks
    for block in range(blocks):
        begin = first + block * each
        client.execute(
            f"""
            INSERT INTO {POSITIONS} ({COLUMNS})
            SELECT
                'F' || toString(number % 500), 'C' || toString(number % 500),
                toFloat64(number % 36000) / 100 - 180, toFloat64(number % 17000) / 100 - 85,
                30000 + number % 100 * 10, 450 + number % 7,
                toDateTime64({{day:String}}, 3, 'UTC') + INTERVAL (number - {first}) * 80000000 / {rows} MILLISECOND,
                'abc123', number % 360, NULL, '7000', false, 'test-source', number
            FROM numbers({begin}, {each})
            """,
            day=day,
        )
