"""Traces of batches arrive where the collector stores them, and can be shown from there."""

import json
import time
import typing
import urllib.parse

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


def traces_are_shown(platform: Platform, dashboards: list[dict[str, typing.Any]]) -> None:
    """What Grafana asks of the collector's tables is answered: the list of traces, and the spans of one."""
    (panel,) = [
        panel
        for dashboard in dashboards
        for panel in dashboard["panels"]
        if panel["title"] == "Newest traces"
    ]
    (target,) = panel["targets"]
    # As the data source expands it.
    newest = target["rawSql"].replace(
        "$__timeFilter(Timestamp)", "Timestamp >= now() - INTERVAL 1 HOUR"
    )
    links = {
        override["matcher"]["options"]: override["properties"][0]["value"][0]["url"]
        for override in panel["fieldConfig"]["overrides"]
        if override["properties"][0]["id"] == "links"
    }
    panes = urllib.parse.parse_qs(urllib.parse.urlsplit(links["trace"]).query)["panes"][0]
    (pane,) = json.loads(panes).values()
    spans = pane["queries"][0]["rawSql"]

    def ask(sql: str) -> list[dict[str, typing.Any]]:
        assert "$" not in sql, sql
        # The user that Grafana is.
        options = ("-u", "reader:reader", "--data-binary", sql)
        answer = platform.curl(f"{platform.clickhouse}/?default_format=JSON", *options)
        rows: list[dict[str, typing.Any]] = json.loads(answer)["data"]
        return rows

    end = time.monotonic() + 60
    # Each service sends its spans when it suits it: those of the newest traces are still on their way.
    while True:
        listed = ask(newest)
        for row in listed:
            if row["source"] and int(row["inserted_rows"]) > 0:
                shown = ask(spans.replace("${__value.raw}", row["trace"]))
                assert {span["traceID"] for span in shown} == {row["trace"]}, shown
                if {span["serviceName"] for span in shown} >= set(SERVICES):
                    tags = {tag["key"] for span in shown for tag in span["tags"]}
                    assert "contrail.rows" in tags, tags
                    found = (
                        f"{len(listed)} traces are listed, {row['trace']} has {len(shown)} spans"
                    )
                    platform.node.log(found)
                    return
        assert time.monotonic() < end, f"no trace that is listed is whole: {listed[:3]}"
        time.sleep(1)
