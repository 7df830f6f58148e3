"""Airflow: what its DAGs found, mended and moved, as they write it down; and how it runs, by its own metrics."""

from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import units

from contrail_grafana import build
from contrail_grafana.build import Sql, promql

UID = "contrail-airflow"


def dashboard() -> models.Dashboard:
    """The dashboard."""
    found: list[build.Panel] = [
        build.number(
            "Failed checks of quality",
            "Checks of the data's quality that failed in the last day.",
            units.Short,
            [
                Sql(
                    """
                    SELECT countIf(NOT passed) AS failed FROM flight_data.data_quality FINAL
                    WHERE hour >= $__toTime - INTERVAL 1 DAY AND hour <= $__toTime
                    """
                )
            ],
            size=(6, 5),
            bad_above=1,
        ),
        build.number(
            "Gaps that are open",
            "Ranges of missing events that were found and are neither filled nor lost for good.",
            units.Short,
            [
                Sql(
                    """
                    SELECT countIf(state IN ('found', 'replaying', 'failed')) AS open FROM flight_data.repairs FINAL
                    """
                )
            ],
            size=(6, 5),
            bad_above=1,
        ),
        build.number(
            "Events mended",
            "Missing events that were sent again and are there now.",
            units.Short,
            [
                Sql(
                    """
                    SELECT sumIf(last - first + 1, state = 'filled') AS events FROM flight_data.repairs FINAL
                    """
                )
            ],
            size=(6, 5),
        ),
        build.number(
            "Days moved",
            "Days that were moved to the monthly table and removed from the live one.",
            units.Short,
            [
                Sql(
                    """
                    SELECT countIf(state = 'dropped') AS days FROM flight_data.archived_days FINAL
                    """
                )
            ],
            size=(6, 5),
        ),
        build.lines(
            "Quality by check",
            "What each check of each hour found; each has a unit of its own, see the table.",
            units.Short,
            [
                Sql(
                    """
                    SELECT hour AS time, check, value FROM flight_data.data_quality FINAL
                    WHERE $__timeFilter(hour)
                    ORDER BY time
                    """,
                    series=True,
                )
            ],
        ),
        build.rows(
            "Newest checks",
            "The checks of the last two days, the newest first, with the bound that counts and examples.",
            units.Short,
            [
                Sql(
                    """
                    SELECT hour, check, value, threshold, passed, detail FROM flight_data.data_quality FINAL
                    WHERE hour >= $__toTime - INTERVAL 2 DAY AND hour <= $__toTime
                    ORDER BY hour DESC, check
                    LIMIT 200
                    """
                )
            ],
        ),
        build.rows(
            "Repairs",
            "Ranges of missing events that were found last, and what became of them.",
            units.Short,
            [
                Sql(
                    """
                    SELECT at, state, last - first + 1 AS events, source, first AS first_offset, last AS last_offset, detail
                    FROM flight_data.repairs FINAL
                    ORDER BY at DESC
                    LIMIT 200
                    """
                )
            ],
        ),
        build.rows(
            "Days on their way",
            "Days that were moved last: copied, switched to the monthly table, dropped from the live one.",
            units.Short,
            [
                Sql(
                    """
                    SELECT date, state, rows AS positions, at FROM flight_data.archived_days FINAL
                    ORDER BY date DESC
                    LIMIT 200
                    """
                )
            ],
        ),
    ]
    return build.board(
        UID,
        "Airflow",
        "What contrail's DAGs found, mended and moved, and how Airflow itself runs.",
        {"What the DAGs did": found, "Airflow itself": itself()},
        since="now-2d",
    )


def itself() -> list[build.Panel]:
    """What Airflow tells by StatsD. A counter of StatsD begins with its first event, which no rate would show."""
    return [
        build.lines(
            "Runs that ended well",
            "Runs of each DAG that ended well, counted since the StatsD exporter was started.",
            units.Short,
            promql(("sum by (dag_id) (airflow_dagrun_duration_success_count)", "{{dag_id}}")),
            size=(8, 8),
        ),
        build.lines(
            "Time of a run",
            "How long runs that ended well took: each DAG's mean of the last hour or, where none ended in it, of all runs.",
            units.Seconds,
            promql(
                (
                    (
                        "sum by (dag_id) (rate(airflow_dagrun_duration_success_sum[1h]))"
                        " / sum by (dag_id) (rate(airflow_dagrun_duration_success_count[1h])) > 0"
                        " or sum by (dag_id) (airflow_dagrun_duration_success_sum)"
                        " / sum by (dag_id) (airflow_dagrun_duration_success_count)"
                    ),
                    "{{dag_id}}",
                )
            ),
            size=(8, 8),
        ),
        build.lines(
            "Failed tasks",
            "Tasks that failed, counted since the StatsD exporter was started. A check fails where it finds fault: that "
            "is what it is for.",
            units.Short,
            promql(
                (
                    'sum by (dag_id, task_id) (airflow_ti_failures{dag_id!=""})',
                    "{{dag_id}} {{task_id}}",
                )
            ),
            size=(8, 8),
        ),
        build.lines(
            "Turns of the scheduler",
            "Turns that the scheduler's loop makes; none means that it hangs or is away.",
            units.OpsPerSecond,
            promql(("sum(rate(airflow_scheduler_heartbeat[$__rate_interval]))", "turns")),
            size=(8, 8),
        ),
        build.lines(
            "Open slots",
            "Tasks that could run besides those that do, in each pool.",
            units.Short,
            promql(("sum by (pool_name) (airflow_pool_open_slots)", "{{pool_name}}")),
            size=(8, 8),
        ),
        build.lines(
            "DAG files that cannot be read",
            "Files of DAGs in which the DAG processor found an error when it read them.",
            units.Short,
            promql(("max(airflow_dag_processing_import_errors)", "files")),
            size=(8, 8),
        ),
    ]
