"""Every five minutes: finds what is missing in Kafka or ClickHouse, has it sent again, and mails what came of it."""

import datetime

from airflow.sdk import dag, task


@dag(
    schedule=datetime.timedelta(minutes=5),
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=datetime.timedelta(hours=1),
    default_args={"retries": 0, "execution_timeout": datetime.timedelta(minutes=45)},
    tags=["contrail"],
    doc_md=__doc__,
)
def repair_gaps() -> None:
    """A range that fails makes `judge` fail after the mail; the next run finds it again."""

    @task
    def find() -> list[dict[str, object]]:
        import dataclasses

        from contrail_dags import gaps

        return [dataclasses.asdict(gap) for gap in gaps.repairer().find()]

    @task
    def repair(found: list[dict[str, object]]) -> list[dict[str, object]]:
        import dataclasses
        import typing

        from contrail_dags import gaps

        wanted = [gaps.Gap(**typing.cast(dict[str, typing.Any], gap)) for gap in found]
        return [dataclasses.asdict(repair) for repair in gaps.repairer().repair(wanted)]

    @task
    def tell(repaired: list[dict[str, object]]) -> bool:
        import typing

        from contrail_dags import gaps, settings

        rows = typing.cast(list[dict[str, typing.Any]], repaired)
        repairs = [gaps.Repair(gaps.Gap(**row["gap"]), row["state"], row["detail"]) for row in rows]
        return gaps.tell(settings.load().mail, repairs)

    @task
    def judge(repaired: list[dict[str, object]]) -> None:
        failed = [row for row in repaired if row["state"] == "failed"]
        if failed:
            raise RuntimeError(
                f"{len(failed)} of {len(repaired)} ranges could not be filled: {failed[0]['detail']}"
            )

    repaired = repair(find())  # type: ignore[arg-type]
    tell(repaired) >> judge(repaired)  # type: ignore[arg-type]


repair_gaps()
