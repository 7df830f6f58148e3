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


# As the collector's exporter makes them; the codecs and the indexes do not matter here.
TRACES = (
    "CREATE DATABASE otel",
    """
    CREATE TABLE otel.otel_traces (
        Timestamp DateTime64(9), TraceId String, SpanId String, ParentSpanId String, TraceState String,
        SpanName LowCardinality(String), SpanKind LowCardinality(String), ServiceName LowCardinality(String),
        ResourceAttributes Map(LowCardinality(String), String), ScopeName String, ScopeVersion String,
        SpanAttributes Map(LowCardinality(String), String), Duration UInt64,
        StatusCode LowCardinality(String), StatusMessage String,
        Events Nested (Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String)),
        Links Nested (TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String))
    ) ENGINE = MergeTree PARTITION BY toDate(Timestamp) ORDER BY (ServiceName, SpanName, toDateTime(Timestamp))
    """,
    """
    CREATE TABLE otel.otel_traces_trace_id_ts (TraceId String, Start DateTime, End DateTime)
    ENGINE = MergeTree ORDER BY (TraceId, Start)
    """,
    """
    CREATE MATERIALIZED VIEW otel.otel_traces_trace_id_ts_mv TO otel.otel_traces_trace_id_ts AS
    SELECT TraceId, min(Timestamp) AS Start, max(Timestamp) AS End FROM otel.otel_traces GROUP BY TraceId
    """,
)
# Name, service, kind, milliseconds after the trace began and for how long, attributes; each a child of the one before.
SPANS = (
    (
        "emit",
        "flight-mock",
        "Producer",
        0,
        2,
        {
            "contrail.source": SOURCE,
            "contrail.source.first_offset": "100",
            "contrail.events": "500",
        },
    ),
    ("send flight.positions", "flight-producer", "Producer", 5, 1, {"contrail.source": SOURCE}),
    ("process flight.positions", "flight-ingester", "Consumer", 300, 40, {"contrail.rows": "1500"}),
    (
        "INSERT flight_positions",
        "flight-ingester",
        "Client",
        310,
        20,
        {"contrail.rows": "1500", "contrail.bytes": "60000"},
    ),
    ("query", "clickhouse-embedded", "Server", 311, 18, {"contrail.written_rows": "1500"}),
)


def trace(client: clickhouse.Client, identity: str, began: datetime.datetime) -> None:
    """Inserts the spans of one batch."""
    began_ns = int(began.timestamp() * 1000) * 1_000_000
    for place, (name, service, kind, after_ms, took_ms, attributes) in enumerate(SPANS):
        given = ", ".join(f"'{key}', '{value}'" for key, value in attributes.items())
        client.execute(
            f"""
            INSERT INTO otel.otel_traces
                (Timestamp, TraceId, SpanId, ParentSpanId, SpanName, SpanKind, ServiceName, ResourceAttributes, SpanAttributes,
                 Duration, StatusCode)
            SELECT
                fromUnixTimestamp64Nano(toInt64({began_ns + after_ms * 1_000_000})), '{identity}', '{place + 1:016x}',
                '{f"{place:016x}" if place else ""}', '{name}', '{kind}', '{service}', map('service.name', '{service}'), map({given}),
                {took_ms * 1_000_000}, 'Unset'
            """
        )


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
        *TRACES,
        "SYSTEM REFRESH VIEW flight_data.h3_cells_counting",
        "SYSTEM WAIT VIEW flight_data.h3_cells_counting",
        "SYSTEM REFRESH VIEW flight_data.popular_cells",
        "SYSTEM WAIT VIEW flight_data.popular_cells",
    ):
        client.execute(statement)
    for n, ago_s in enumerate((600, 60), 1):
        trace(client, f"{n:032x}", until - datetime.timedelta(seconds=ago_s))
