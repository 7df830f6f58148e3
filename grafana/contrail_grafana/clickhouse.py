"""ClickHouse: what it is asked, how it inserts and merges. Of a server, or of the embedded engine.

Each question to Prometheus names the server's metric first and the embedded engine's second; one of the two is there.
"""

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from contrail_grafana import build
from contrail_grafana.build import Sql, promql

UID = "contrail-clickhouse"
STEP = "[$__rate_interval]"


def _events(name: str) -> str:
    return f"sum(rate(ClickHouseProfileEvents_{name}{STEP}))"


def _queries(kind: str) -> str:
    return f'sum(rate(clickhouse_embedded_queries_total{{kind="{kind}"}}{STEP}))'


def _embedded_mean(kind: str) -> str:
    return (
        f'sum(rate(clickhouse_embedded_query_seconds_sum{{kind="{kind}"}}{STEP}))'
        f' / sum(rate(clickhouse_embedded_query_seconds_count{{kind="{kind}"}}{STEP}))'
    )


def _server_mean(kind: str) -> str:
    return f"{_events(f'{kind}QueryTimeMicroseconds')} / {_events(f'{kind}Query')} / 1000000"


def dashboard() -> models.Dashboard:
    """The dashboard."""
    queries: list[build.Panel] = [
        build.number(
            "Queries now",
            "Queries that run at this moment.",
            units.Short,
            promql(
                (
                    "sum(ClickHouseMetrics_Query) or sum(clickhouse_embedded_queries_running)",
                    "running",
                )
            ),
        ),
        build.number(
            "Failed queries",
            "Queries a second that ended in an error.",
            units.OpsPerSecond,
            promql(
                (
                    (
                        f"{_events('FailedQuery')} or"
                        f' sum(rate(clickhouse_embedded_queries_total{{outcome="error"}}{STEP})) or vector(0)'
                    ),
                    "failed",
                )
            ),
        ),
        build.number(
            "Memory",
            "Memory that the server has taken: as it counts itself, or of the embedded engine's process.",
            units.BytesIEC,
            promql(
                (
                    'sum(ClickHouseMetrics_MemoryTracking) or sum(process_resident_memory_bytes{job="clickhouse"})',
                    "resident",
                )
            ),
        ),
        build.number(
            "Threads",
            "Threads that work for queries and in the background.",
            units.Short,
            promql(
                (
                    'sum(ClickHouseMetrics_GlobalThreadActive) or sum(process_threads{job="clickhouse"})',
                    "threads",
                )
            ),
        ),
        build.lines(
            "Queries",
            "Queries a second, by kind.",
            units.OpsPerSecond,
            promql(
                (f"{_events('SelectQuery')} or {_queries('select')}", "select"),
                (f"{_events('InsertQuery')} or {_queries('insert')}", "insert"),
            ),
        ),
        build.lines(
            "Time of a query",
            "Mean time of a query, by kind.",
            units.Seconds,
            promql(
                (f"{_server_mean('Select')} or {_embedded_mean('select')}", "select"),
                (f"{_server_mean('Insert')} or {_embedded_mean('insert')}", "insert"),
            ),
        ),
        build.lines(
            "Rows",
            "Rows a second that inserts brought and queries read.",
            units.RowsPerSecond,
            promql(
                (
                    f"{_events('InsertedRows')} or sum(rate(clickhouse_embedded_written_rows_total{STEP}))",
                    "inserted",
                ),
                (
                    f"{_events('SelectedRows')} or sum(rate(clickhouse_embedded_read_rows_total{STEP}))",
                    "read",
                ),
            ),
        ),
        build.lines(
            "Rows of an insert",
            "Mean rows of an insert: the larger, the less each row costs.",
            units.Short,
            promql(
                (
                    (
                        f"{_events('InsertedRows')} / {_events('InsertQuery')} or"
                        f" sum(rate(clickhouse_embedded_insert_rows_sum{STEP}))"
                        f" / sum(rate(clickhouse_embedded_insert_rows_count{STEP}))"
                    ),
                    "mean",
                )
            ),
        ),
        build.lines(
            "Processor",
            "Processors that the server's process uses.",
            units.Short,
            promql(
                (
                    (
                        f"{_events('OSCPUVirtualTimeMicroseconds')} / 1000000 or"
                        f' sum(rate(process_cpu_seconds_total{{job="clickhouse"}}{STEP}))'
                    ),
                    "processors",
                )
            ),
        ),
        build.lines(
            "Open files",
            "File descriptors of the server's process that are open.",
            units.Short,
            promql(
                (
                    'sum(ClickHouseMetrics_OpenFileForRead) or sum(process_open_fds{job="clickhouse"})',
                    "open",
                )
            ),
        ),
    ]
    tables: list[build.Panel] = [
        build.rows(
            "Positions by day",
            "Positions in each day of the last 60, and in which table they count, from counts by hour.",
            units.Short,
            [
                Sql(
                    """
                    SELECT day, positions, if(archived.date != toDate(0), 'monthly', 'live') AS place
                    FROM
                    (
                        SELECT date AS day, sum(positions) AS positions
                        FROM flight_data.flight_positions_by_hour
                        WHERE date >= toDate($__toTime, 'UTC') - 60
                        GROUP BY day
                    ) AS days
                    LEFT JOIN
                    (
                        SELECT date FROM flight_data.archived_days FINAL WHERE state != 'copied'
                    ) AS archived ON archived.date = days.day
                    ORDER BY day DESC
                    """
                )
            ],
            size=(12, 10),
        ),
        build.lines(
            "Rows by hour",
            "Rows of each source in each hour of the last week, from counts by hour.",
            units.Short,
            [
                Sql(
                    """
                    SELECT toDateTime(date, 'UTC') + toIntervalHour(hour) AS time, source, count() AS positions
                    FROM flight_data.flight_positions
                    WHERE $__dateFilter(date)
                    GROUP BY date, hour, source
                    ORDER BY time
                    """,
                    series=True,
                )
            ],
            size=(12, 10),
        ).time_from("7d"),
    ]
    return build.board(
        UID,
        "ClickHouse",
        "What ClickHouse is asked and how it answers, and what its tables hold.",
        {"Queries and inserts": queries, "Tables": tables},
    )
