"""Traces: the newest ones as a table, each of which leads to its spans."""

import json
import urllib.parse

from grafana_foundation_sdk.builders import table
from grafana_foundation_sdk.models import units

from contrail_grafana import build
from contrail_grafana.build import Sql

# Where the collector's exporter stores them, see nixos/modules/opentelemetry-collector.nix.
TABLE = "otel.otel_traces"

# The columns that Grafana draws a trace from, by the names that it knows.
SPANS = f"""
SELECT
    TraceId AS traceID, SpanId AS spanID, ParentSpanId AS parentSpanID, ServiceName AS serviceName,
    SpanName AS operationName, toUnixTimestamp64Nano(Timestamp) / 1e6 AS startTime, Duration / 1e6 AS duration,
    arrayMap(key -> map('key', key, 'value', SpanAttributes[key]), mapKeys(SpanAttributes)) AS tags,
    arrayMap(key -> map('key', key, 'value', ResourceAttributes[key]), mapKeys(ResourceAttributes)) AS serviceTags,
    if(StatusCode = 'Error', 2, 0) AS statusCode
FROM {TABLE}
WHERE TraceId = '${{__value.raw}}'
  AND Timestamp >= (SELECT min(Start) FROM {TABLE}_trace_id_ts WHERE TraceId = '${{__value.raw}}')
  AND Timestamp <= (SELECT max(End) + 1 FROM {TABLE}_trace_id_ts WHERE TraceId = '${{__value.raw}}')
ORDER BY startTime
LIMIT 1000
"""


def explore() -> str:
    """Where Grafana shows the spans of the trace whose id is the value."""
    query = {
        "refId": "A",
        "datasource": {"type": build.CLICKHOUSE.type_val, "uid": build.CLICKHOUSE.uid},
        "editorType": "sql",
        "queryType": "traces",
        # As a trace.
        "format": 3,
        "rawSql": SPANS.strip(),
    }
    pane = {
        "datasource": build.CLICKHOUSE.uid,
        "queries": [query],
        "range": {"from": "now-7d", "to": "now"},
    }
    panes = urllib.parse.quote(json.dumps({"trace": pane}, separators=(",", ":")), safe="${}")
    return f"/explore?schemaVersion=1&orgId=1&panes={panes}"


def newest() -> table.Panel:
    """The newest traces: when, how long, of what, and how many rows were inserted."""
    panel = build.rows(
        "Newest traces",
        "Batches that were traced from their source into the insert (1 in 100, unless telemetry.sample_ratio says "
        "otherwise): how long it took until the last span ended, and the rows of the inserts in which they are. An id "
        "leads to the spans.",
        units.Short,
        [
            Sql(
                f"""
                SELECT
                    TraceId AS trace, min(Timestamp) AS started,
                    (max(toUnixTimestamp64Nano(Timestamp) + toInt64(Duration)) - min(toUnixTimestamp64Nano(Timestamp))) / 1e9
                        AS duration,
                    anyIf(SpanAttributes['contrail.source'], SpanAttributes['contrail.source'] != '') AS source,
                    minIf(toInt64OrZero(SpanAttributes['contrail.source.first_offset']), SpanName = 'emit') AS first_offset,
                    sumIf(toUInt64OrZero(SpanAttributes['contrail.events']), SpanName = 'emit') AS events,
                    sumIf(toUInt64OrZero(SpanAttributes['contrail.rows']), SpanName LIKE 'INSERT %') AS inserted_rows,
                    maxIf(Duration, SpanName LIKE 'INSERT %') / 1e9 AS longest_insert,
                    count() AS spans, countIf(StatusCode = 'Error') AS failed
                FROM {TABLE}
                WHERE $__timeFilter(Timestamp)
                GROUP BY TraceId
                ORDER BY started DESC
                LIMIT 50
                """
            )
        ],
        size=(24, 10),
        units={"duration": units.Seconds, "longest_insert": units.Seconds},
    )
    return build.with_link(panel, "trace", "Show its spans", explore())
