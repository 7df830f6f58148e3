"""Kafka: what its topics hold, and how far the ingester is."""

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from contrail_grafana import build
from contrail_grafana.build import promql

UID = "contrail-kafka"
STEP = "[$__rate_interval]"


def dashboard() -> models.Dashboard:
    """The dashboard."""
    topics: list[build.Panel] = [
        build.number(
            "Kafka answers",
            "Seconds since Kafka last answered all that `contrail exporter` asks of it.",
            units.Seconds,
            promql(
                ('max(time() - contrail_exporter_last_look_timestamp_seconds{look="kafka"})', "ago")
            ),
            size=(6, 5),
            bad_above=60,
        ),
        build.number(
            "Partitions of positions",
            "Partitions of the topic of positions; the number can never change.",
            units.Short,
            promql(('count(contrail_kafka_end_offset{topic="flight.positions"})', "partitions")),
            size=(6, 5),
        ),
        build.number(
            "Offsets of positions",
            "Offsets that Kafka has of positions, ends of transactions included.",
            units.Short,
            promql(
                (
                    (
                        'sum(contrail_kafka_end_offset{topic="flight.positions"}'
                        ' - contrail_kafka_start_offset{topic="flight.positions"})'
                    ),
                    "offsets",
                )
            ),
            size=(6, 5),
        ),
        build.number(
            "Offsets of dead letters",
            "Offsets that Kafka has of dead letters, those that were redriven and ends of transactions included.",
            units.Short,
            promql(
                (
                    (
                        'sum(contrail_kafka_end_offset{topic="flight.positions.dlq"}'
                        ' - contrail_kafka_start_offset{topic="flight.positions.dlq"})'
                    ),
                    "offsets",
                )
            ),
            size=(6, 5),
        ),
        build.lines(
            "Written",
            "Offsets a second that were added to each topic.",
            units.CountsPerSecond,
            promql(
                (f"sum by (topic) (deriv(contrail_kafka_end_offset{STEP}))", "{{topic}}"),
            ),
        ),
        build.lines(
            "Written by partition",
            "Offsets a second that were added to each partition of the positions: they should be alike.",
            units.CountsPerSecond,
            promql(
                (
                    f'deriv(contrail_kafka_end_offset{{topic="flight.positions"}}{STEP})',
                    "{{partition}}",
                ),
            ),
        ),
        build.lines(
            "Held",
            "Offsets of each topic that retention has left.",
            units.Short,
            promql(
                (
                    "sum by (topic) (contrail_kafka_end_offset - contrail_kafka_start_offset)",
                    "{{topic}}",
                ),
            ),
        ),
        build.lines(
            "Deleted",
            "Offsets of each topic that retention or compaction deleted in each interval.",
            units.Short,
            promql(
                (f"sum by (topic) (delta(contrail_kafka_start_offset{STEP}))", "{{topic}}"),
            ),
        ),
    ]
    consumers: list[build.Panel] = [
        build.lines(
            "Lag by partition",
            "Offsets of each partition that the ingester has not closed.",
            units.Short,
            promql(("contrail_ingester_lag_records", "{{partition}}")),
        ),
        build.lines(
            "Share of what is held",
            "How much of what Kafka holds of positions is not in ClickHouse yet: at 100 % retention begins to lose it.",
            units.PercentUnit,
            promql(
                (
                    (
                        "sum(contrail_ingester_lag_records) / clamp_min(sum("
                        'contrail_kafka_end_offset{topic="flight.positions"}'
                        ' - contrail_kafka_start_offset{topic="flight.positions"}), 1)'
                    ),
                    "share",
                )
            ),
        ),
        build.lines(
            "Errors of clients",
            "Errors that the Kafka clients of the producer and the ingester reported, passing ones included.",
            units.Short,
            promql(
                (f"increase(flight_producer_kafka_errors_total{STEP})", "producer {{instance}}"),
                (f"increase(flight_ingester_kafka_errors_total{STEP})", "ingester {{instance}}"),
            ),
        ),
        build.lines(
            "Not acknowledged",
            "Records of the producer that Kafka has not acknowledged yet.",
            units.Short,
            promql(("flight_producer_kafka_queue_records", "{{instance}}")),
        ),
    ]
    return build.board(
        UID,
        "Kafka",
        "What Kafka's topics hold and how far the ingester is, as `contrail exporter` sees it from outside.",
        {"Topics": topics, "Clients": consumers},
    )
