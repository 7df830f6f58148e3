"""Positions for the tests: a fleet over two days up to now, one old day, and what Airflow's DAGs write."""

import dataclasses
import datetime

from contrail_dags import clickhouse
from local import LocalStack
from world import COLUMNS, Engine

__all__ = ["COLUMNS", "VALUES", "Engine", "Fleet", "LocalStack", "fill"]

SOURCE = "mock-s42-f500-p1000-e1767225600000"
# Of the variables: two sources and a callsign with a quotation mark, which must not end the text.
VALUES: dict[str, str | list[str]] = {
    "source": [SOURCE, "o'source"],
    "callsign": "T'EST1",
    "area": "-123 37 -121.5 38.5",
}


@dataclasses.dataclass(frozen=True)
class Fleet:
    """So many aircraft, a position of each every so many seconds, for so long."""

    aircraft: int = 60
    period_s: int = 20
    days: int = 2

    @property
    def rows(self) -> int:
        """Positions up to now."""
        return self.days * 86400 // self.period_s * self.aircraft


def fill(client: clickhouse.Client, fleet: Fleet, until: datetime.datetime) -> None:
    """Inserts positions that end at a time, by blocks of a million."""
    period, aircraft = fleet.period_s, fleet.aircraft
    block = 1_000_000
    for first in range(0, fleet.rows, block):
        client.execute(
            f"""
            INSERT INTO flight_data.flight_positions ({COLUMNS})
            SELECT
                concat('F', toString(n), '-', toString(intDiv(tick * {period}, 14400))),
                n = 1 ? 'T''EST1' : concat('FDB', toString(n)),
                -- The first aircraft stays where a box of the map is.
                n = 1 ? -122 + 0.1 * sin(tick / 50) : positiveModulo(n * 37.5 + tick * {period} * 0.002, 360) - 180,
                n = 1 ? 37.5 : 60 * sin(n + tick * {period} / 7200),
                30000 + toInt32(5000 * sin(tick * {period} / 3600 + n)), 430 + n % 60,
                toDateTime64({int(until.timestamp())}, 3, 'UTC') - INTERVAL ({fleet.rows // aircraft} - tick) * {period} SECOND,
                'abc123', n % 360, 0, '7000', false, n % 10 = 0 ? 'o''source' : '{SOURCE}', i
            FROM (SELECT number AS i, number % {aircraft} AS n, intDiv(number, {aircraft}) AS tick
                  FROM numbers({first}, {min(block, fleet.rows - first)}))
            """
        )
    old = (until - datetime.timedelta(days=40)).date().isoformat()
    client.execute(
        f"""
        INSERT INTO flight_data.flight_positions_monthly ({COLUMNS})
        SELECT 'F', 'OLD', 8, 50, 30000, 400, toDateTime64('{old}', 3, 'UTC') + number, NULL, NULL, NULL, NULL, NULL,
               '{SOURCE}', number FROM numbers(1000)
        """
    )
    for statement in (
        f"INSERT INTO flight_data.archived_days VALUES ('{old}', 'dropped', 1000, 1, now64(3))",
        (
            "INSERT INTO flight_data.data_quality VALUES"
            " (toStartOfHour(now()), 'stale_flights', 1, 5, true, 'percent', now64(3)),"
            " (toStartOfHour(now()), 'volume', 80, 50, false, 'percent', now64(3))"
        ),
        f"INSERT INTO flight_data.repairs VALUES ('{SOURCE}', 5, 9, 'filled', now64(3), now64(3), 'r', '')",
        f"INSERT INTO flight_data.gap_checks VALUES ('{SOURCE}', 0, 100, [(5, 9), (20, 20)], now64(3))",
        "SYSTEM REFRESH VIEW flight_data.h3_cells_counting",
        "SYSTEM WAIT VIEW flight_data.h3_cells_counting",
        "SYSTEM REFRESH VIEW flight_data.popular_cells",
        "SYSTEM WAIT VIEW flight_data.popular_cells",
    ):
        client.execute(statement)
