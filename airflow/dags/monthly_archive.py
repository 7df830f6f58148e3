"""Every day: moves complete days from flight_positions to flight_positions_monthly."""

import datetime

from airflow.sdk import dag, task


@dag(
    schedule="20 2 * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=datetime.timedelta(hours=12),
    default_args={
        "retries": 2,
        "retry_delay": datetime.timedelta(minutes=2),
        "execution_timeout": datetime.timedelta(hours=1),
    },
    tags=["contrail"],
    doc_md=__doc__,
)
def monthly_archive() -> None:
    """Days that are due, each by a task of its own, one after the other."""

    @task
    def due() -> list[str]:
        from contrail_dags import archive

        return archive.archivist().due()

    @task(max_active_tis_per_dag=1)
    def move(day: str) -> str:
        from contrail_dags import archive

        archivist = archive.archivist()
        # A retry, or a second run, of one that was done.
        if archivist.state(day) == "dropped":
            return f"{day}: archived already"
        moved = archivist.archive(day)
        return (
            f"{moved.day}: {moved.row_count} rows in {moved.seconds:.1f} s, {moved.late} came late"
        )

    move.expand(day=due())


monthly_archive()
