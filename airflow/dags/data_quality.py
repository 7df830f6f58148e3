"""Every hour: looks at the positions of the hour before, writes down what it finds, and mails what is not right."""

import datetime

from airflow.sdk import dag, task


@dag(
    schedule="5 * * * *",
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=datetime.timedelta(minutes=50),
    params={"hour": ""},
    default_args={
        "retries": 1,
        "retry_delay": datetime.timedelta(minutes=1),
        "execution_timeout": datetime.timedelta(minutes=15),
    },
    tags=["contrail"],
    doc_md=__doc__,
)
def data_quality() -> None:
    """`params.hour` names another hour, as 2026-03-01 07:00:00."""

    @task
    def look(params: dict[str, str] | None = None) -> dict[str, object]:
        import dataclasses

        from contrail_dags import clickhouse, quality, settings

        configuration = settings.load()
        client = clickhouse.Client(configuration.clickhouse)
        # The server's clock: it is the one that rows are compared with.
        hour = (params or {}).get("hour") or str(
            client.row("SELECT toString(toStartOfHour(now('UTC')) - INTERVAL 1 HOUR) AS hour")[
                "hour"
            ]
        )
        found = quality.look(client, hour, configuration.quality)
        return {"hour": hour, "results": [dataclasses.asdict(result) for result in found]}

    @task
    def tell(found: dict[str, object]) -> bool:
        import typing

        from contrail_dags import quality, settings

        rows = typing.cast(list[dict[str, typing.Any]], found["results"])
        results = [quality.Result(**row) for row in rows]
        return quality.tell(settings.load(), str(found["hour"]), results)

    found = look()
    tell(found)  # type: ignore[arg-type]


data_quality()
