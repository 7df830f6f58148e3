"""Pipeline: events through each stage, how late and how far behind they are, and what was lost or doubled."""

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from contrail_grafana import build, traces
from contrail_grafana.build import Sql, promql

UID = "contrail-pipeline"
# To be counted by the panel's own steps.
STEP = "[$__rate_interval]"
# By the ingester, as soon as a batch is acknowledged, and by the exporter, which asks ClickHouse: whoever knows more.
AGE = (
    "time() - max by (source)"
    " (flight_ingester_newest_timestamp_seconds or contrail_newest_position_timestamp_seconds)"
)


def dashboard() -> models.Dashboard:
    """The dashboard."""
    well: list[build.Panel] = [
        build.number(
            "Missing events",
            "Events that are neither in the tables nor among the dead letters nor on their way; must be 0.",
            units.Short,
            promql(("sum(contrail_account_missing_events)", "missing")),
            bad_above=1,
        ),
        build.number(
            "Doubled events",
            "Events that are in more than one row; must be 0.",
            units.Short,
            promql(("sum(contrail_account_duplicated_events)", "doubled")),
            bad_above=1,
        ),
        build.number(
            "Age of the newest position",
            "Seconds since the newest position in ClickHouse, of the source that is furthest behind.",
            units.Seconds,
            promql((f"max({AGE})", "age")),
            bad_above=60,
        ),
        build.number(
            "Dead letters",
            "Events that could not be read and were not sent on their way again.",
            units.Short,
            promql(
                (
                    "sum(contrail_dead_letters) + max(contrail_dead_letters_without_identity)",
                    "dead letters",
                )
            ),
            bad_above=1,
        ),
        build.number(
            "Ready services",
            "Services that say that they can do their work, of those that Prometheus asks.",
            units.PercentUnit,
            promql(("avg(flight_ready)", "ready")),
            bad_below=1,
        ),
        build.number(
            "Last account",
            "Seconds since events were last accounted for.",
            units.Seconds,
            promql(
                (
                    'max(time() - contrail_exporter_last_look_timestamp_seconds{look="account"})',
                    "ago",
                )
            ),
            bad_above=600,
        ),
        build.number(
            "Lag of the ingester",
            "Records in Kafka that the ingester has not closed, in all partitions together.",
            units.Short,
            promql(("sum(contrail_ingester_lag_records)", "lag")),
            bad_above=100_000,
        ),
        build.number(
            "Lag of the producer",
            "Events up to the live edge of the source that are not committed to Kafka.",
            units.Short,
            promql(("sum(flight_producer_source_lag_events)", "lag")),
            bad_above=100_000,
        ),
    ]
    flow: list[build.Panel] = [
        build.lines(
            "Events through each stage",
            "Events a second: sent by the source, committed to Kafka, inserted into ClickHouse.",
            units.EventsPerSecond,
            promql(
                (f"sum(rate(flight_mock_events_sent_total{STEP}))", "sent by the source"),
                (f"sum(rate(flight_producer_events_committed_total{STEP}))", "committed to Kafka"),
                (f"sum(rate(flight_ingester_rows_inserted_total{STEP}))", "inserted"),
            ),
        ),
        build.lines(
            "Where events wait",
            "Events behind the source, and records behind Kafka.",
            units.Short,
            promql(
                ("sum(flight_producer_source_lag_events)", "source to Kafka"),
                ("sum(contrail_ingester_lag_records)", "Kafka to ClickHouse"),
            ),
        ),
        build.heat(
            "From the source until queryable",
            "How old each row was when it could be queried; the darker, the more rows.",
            units.Seconds,
            promql(
                (f"sum by (le) (increase(flight_ingester_latency_seconds_bucket{STEP}))", "{{le}}"),
                buckets=True,
            ),
        ),
        build.lines(
            "Latency",
            "How old rows were when they could be queried: half, nineteen of twenty, 99 of 100 rows.",
            units.Seconds,
            promql(
                *(
                    (
                        (
                            f"histogram_quantile({share},"
                            f" sum by (le) (rate(flight_ingester_latency_seconds_bucket{STEP})))"
                        ),
                        name,
                    )
                    for share, name in ((0.5, "50 %"), (0.95, "95 %"), (0.99, "99 %"))
                )
            ),
        ),
        build.lines(
            "Age of the newest position by source",
            "Seconds since the newest position of each source in ClickHouse.",
            units.Seconds,
            promql((AGE, "{{source}}")),
        ),
        build.lines(
            "Bytes from the source",
            "Bytes a second that the source sends, by transport.",
            units.BytesPerSecondSI,
            promql(
                (f"sum by (transport) (rate(flight_mock_sent_bytes_total{STEP}))", "{{transport}}")
            ),
        ),
    ]
    batches: list[build.Panel] = [
        build.lines(
            "Rows of a batch",
            "Rows of an insert: the mean, and nineteen of twenty.",
            units.Short,
            promql(
                (
                    (
                        f"sum(rate(flight_ingester_batch_rows_sum{STEP}))"
                        f" / sum(rate(flight_ingester_batch_rows_count{STEP}))"
                    ),
                    "mean",
                ),
                (
                    f"histogram_quantile(0.95, sum by (le) (rate(flight_ingester_batch_rows_bucket{STEP})))",
                    "95 %",
                ),
            ),
        ),
        build.lines(
            "Time of an insert",
            "From the first try of an insert until it was acknowledged: half and nineteen of twenty.",
            units.Seconds,
            promql(
                *(
                    (
                        (
                            f"histogram_quantile({share},"
                            f" sum by (le) (rate(flight_ingester_insert_seconds_bucket{STEP})))"
                        ),
                        name,
                    )
                    for share, name in ((0.5, "50 %"), (0.95, "95 %"))
                )
            ),
        ),
        build.lines(
            "Time of a transaction's commit",
            "Flush and commit of the producer's transactions: half and nineteen of twenty.",
            units.Seconds,
            promql(
                *(
                    (
                        (
                            f"histogram_quantile({share},"
                            f" sum by (le) (rate(flight_producer_commit_duration_seconds_bucket{STEP})))"
                        ),
                        name,
                    )
                    for share, name in ((0.5, "50 %"), (0.95, "95 %"))
                )
            ),
        ),
        build.lines(
            "Transactions",
            "Transactions of the producer, by how they ended; one of unknown outcome is settled at the next start.",
            units.OpsPerSecond,
            promql(
                (
                    f"sum by (outcome) (rate(flight_producer_transactions_total{STEP}))",
                    "{{outcome}}",
                )
            ),
        ),
        build.lines(
            "Partitions of each ingester",
            "Partitions that each ingester has; together they must be all of the topic.",
            units.Short,
            promql(("flight_ingester_partitions_assigned", "{{instance}}")),
        ),
        build.lines(
            "Records that wait in the producer",
            "Records that Kafka has not acknowledged yet.",
            units.Short,
            promql(("flight_producer_kafka_queue_records", "{{instance}}")),
        ),
    ]
    mended: list[build.Panel] = [
        build.lines(
            "Retries and errors",
            "What failed and was tried again: errors of the Kafka clients, commits of offsets, questions that came to nothing.",
            units.Short,
            promql(
                (f"sum(increase(flight_producer_kafka_errors_total{STEP}))", "producer: Kafka"),
                (f"sum(increase(flight_ingester_kafka_errors_total{STEP}))", "ingester: Kafka"),
                (f"sum(increase(flight_ingester_commit_errors_total{STEP}))", "ingester: commits"),
                (
                    f"sum(increase(contrail_exporter_failures_total{STEP})) or vector(0)",
                    "exporter: looks",
                ),
            ),
        ),
        build.lines(
            "Mended after a crash",
            "Ranges that were open and were redone, rows that were there already, rows that a killed engine had lost.",
            units.Short,
            promql(
                (f"sum(increase(flight_ingester_ranges_redone_total{STEP}))", "ranges redone"),
                (
                    f"sum(increase(flight_ingester_rows_present_total{STEP}))",
                    "rows that were there",
                ),
                (
                    f"sum(increase(flight_ingester_rows_supplied_total{STEP}))",
                    "rows supplied again",
                ),
            ),
        ),
        build.lines(
            "Gaps among offsets that were read again",
            "Gaps in a partition, longer than a transaction's marker, that the ingester read twice before it believed them.",
            units.Short,
            promql((f"sum(increase(flight_ingester_gaps_read_again_total{STEP}))", "gaps")),
        ),
        build.lines(
            "Catching up after an outage",
            "Events that were passed over in a long outage: those still to be sent, and those sent since, in a second.",
            units.Short,
            promql(
                ("sum(flight_producer_catch_up_pending_events)", "to be sent"),
                (f"sum(rate(flight_producer_catch_up_events_total{STEP}))", "events a second"),
            ),
        ),
        build.lines(
            "Sessions and fencing of the producer",
            "Sessions begun, times that a newer producer took over, and partitions whose open transaction was ended.",
            units.Short,
            promql(
                (f"sum(increase(flight_producer_sessions_total{STEP}))", "sessions"),
                (f"sum(increase(flight_producer_fenced_total{STEP}))", "fenced"),
                (f"sum(increase(flight_producer_settled_partitions_total{STEP}))", "settled"),
            ),
        ),
        build.lines(
            "Dead letters by reason",
            "Events that could not be read, by who found that and why.",
            units.Short,
            promql(
                (
                    f"sum by (reason) (increase(flight_producer_events_dead_lettered_total{STEP}))",
                    "producer: {{reason}}",
                ),
                (
                    f"sum by (reason) (increase(flight_ingester_dead_letters_total{STEP})) or vector(0)",
                    "ingester: {{reason}}",
                ),
            ),
        ),
        build.lines(
            "Lost to retention",
            "Offsets that Kafka deleted before the ingester took them; must be 0.",
            units.Short,
            promql((f"sum(increase(flight_ingester_offsets_expired_total{STEP}))", "offsets")),
        ),
        build.lines(
            "Replays",
            "Events a second that replays send again, and replays that run or wait.",
            units.Short,
            promql(
                (f"sum(rate(flight_producer_replay_events_total{STEP}))", "events a second"),
                ("sum(flight_producer_replays_running)", "running"),
            ),
        ),
        build.rows(
            "Missing events by source",
            "What the newest look for gaps has found of each source, and how far it came.",
            units.Short,
            [
                Sql(
                    """
                    SELECT
                        source, begin AS first_offset, checked_below AS checked_below_offset,
                        arraySum(gap -> gap.2 - gap.1 + 1, missing) AS missing_events, length(missing) AS gaps, checked_at
                    FROM flight_data.gap_checks FINAL
                    ORDER BY source
                    """
                )
            ],
            size=(24, 6),
        ),
    ]
    return build.board(
        UID,
        "Pipeline",
        "Events from the source through Kafka into ClickHouse: how many, how late, and whether each is there once.",
        {
            "Is it well?": well,
            "Flow": flow,
            "Batches": batches,
            "Mended and lost": mended,
            "Traces": [traces.newest()],
        },
    )
