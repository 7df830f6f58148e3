"""Traces of batches arrive where the collector stores them."""

import time

from scenarios.platform import Platform

SERVICES = ("flight-mock", "flight-producer", "flight-ingester")


def traces_arrive(platform: Platform, database: str) -> None:
    """One trace has spans of every service, and ends with an insert of rows."""
    table = f"{database}.otel_traces"
    seen = " AND ".join(f"has(services, '{service}')" for service in SERVICES)
    whole = (
        "SELECT count() FROM (SELECT groupUniqArray(ServiceName) AS services,"
        " sumIf(toUInt64OrZero(SpanAttributes['contrail.rows']), SpanName LIKE 'INSERT %') AS rows"
        f" FROM {table} GROUP BY TraceId) WHERE {seen} AND rows > 0"
    )
    end = time.monotonic() + 120
    # The exporter makes the table when it is started.
    while platform.query(f"EXISTS TABLE {table}") != "1" or int(platform.query(whole)) == 0:
        assert time.monotonic() < end, f"no trace in {table} has spans of {SERVICES}"
        time.sleep(1)
    tree = platform.query(
        f"SELECT ServiceName, SpanName, Duration FROM {table} WHERE TraceId ="
        f" (SELECT TraceId FROM {table} WHERE SpanName LIKE 'INSERT %' ORDER BY Timestamp DESC LIMIT 1)"
        " ORDER BY Timestamp"
    )
    platform.node.log(f"a trace, in nanoseconds:\n{tree}")
    assert platform.query(f"SELECT count() FROM {table}_trace_id_ts") != "0"
