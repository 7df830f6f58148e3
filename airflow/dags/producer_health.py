"""Every minute: is flight-producer ready, and does its checkpoint advance? If not, it is started again."""

import datetime

from airflow.sdk import dag, task

EVERY = datetime.timedelta(minutes=1)


@dag(
    schedule=EVERY,
    start_date=datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC),
    catchup=False,
    max_active_runs=1,
    # A run that hangs must not keep the next ones away.
    dagrun_timeout=datetime.timedelta(minutes=5),
    default_args={"retries": 0, "execution_timeout": datetime.timedelta(minutes=3)},
    tags=["contrail"],
    doc_md=__doc__,
)
def producer_health() -> None:
    """The tasks; docs/airflow.md says which of them run when."""

    @task
    def check() -> str:
        from contrail_dags import health

        return health.describe(health.watch().check())

    @task(trigger_rule="all_failed")
    def restart() -> str:
        from contrail_dags import health

        return health.watch().restart()

    @task(trigger_rule="none_skipped")
    def tell(ti: object = None) -> bool:
        from contrail_dags import health

        done = ti.xcom_pull(task_ids="restart")  # type: ignore[attr-defined]
        return health.watch().tell(done or "nothing: the task `restart` failed, see its log")

    @task(trigger_rule="none_skipped")
    def confirm() -> str:
        from contrail_dags import health

        watch = health.watch()
        seen = watch.confirm()
        watch.end(seen)
        return health.describe(seen)

    @task
    def close() -> bool:
        from contrail_dags import health, producer

        watch = health.watch()
        if watch.ledger.open() is None:
            return False
        return watch.end(producer.look(watch.configuration.producer))

    checked = check()
    restarted = restart()
    told = tell()
    checked >> restarted >> told >> confirm()
    checked >> close()


producer_health()
