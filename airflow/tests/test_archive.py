"""monthly_archive on the real engine, killed at every statement."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import unittest

import world
from contrail_dags import archive, clickhouse, settings

DAY = "2026-03-05"
ROWS = 30_000
# Ends the process before the named statement, for the so-manyeth time that it is reached.
KILLED = """
import os, sys
sys.path.insert(0, sys.argv[1])
from contrail_dags import archive, clickhouse, settings
def step(name):
    print(name, flush=True)
    if name == sys.argv[4]:
        os.kill(os.getpid(), 9)
client = clickhouse.Client(settings.Clickhouse(url=sys.argv[2], password="admin"))
archive.Archivist(client, settings.Archive(), step).archive(sys.argv[3])
"""
# What it does for a day that nothing happened to before.
STEPS = (
    "end-former",
    "drop-copy",
    "create-copy",
    "copy",
    "move-copy",
    "record-copied",
    "record-switched",
    "drop-copy-after",
    "create-leaving",
    "move-day",
    "record-dropped",
    "drop-leaving",
)


class Archive(unittest.TestCase):
    """One engine for all; each test has days of its own."""

    engine: world.Engine

    @classmethod
    def setUpClass(cls) -> None:
        cls.engine = world.Engine()

    @classmethod
    def tearDownClass(cls) -> None:
        cls.engine.close()

    def setUp(self) -> None:
        self.client = self.engine.client
        for table in ("flight_positions", "flight_positions_monthly", "archived_days"):
            self.client.execute(f"TRUNCATE TABLE flight_data.{table}")
        for table in (archive.COPY, archive.LEAVING):
            self.client.execute(f"DROP TABLE IF EXISTS {table} SYNC")

    def archivist(self, **changes: int) -> archive.Archivist:
        """With no waiting for a day to be quiet."""
        values = {"quiet_s": 0, **changes}
        return archive.Archivist(self.client, settings.Archive(**values))

    def assert_once(self, rows: int, day: str = DAY) -> None:
        """The uniting view has every row of a day once."""
        found = self.client.row(
            "SELECT count() AS row_count, uniqExact(source, source_offset) AS distinct"
            " FROM flight_data.flight_positions_all WHERE date = {day:Date}",
            day=day,
        )
        self.assertEqual((rows, rows), (found["row_count"], found["distinct"]))
        by_hour = self.client.number(
            "SELECT sum(positions) FROM flight_data.flight_positions_by_hour WHERE date = {day:Date}",
            day=day,
        )
        self.assertEqual(rows, by_hour)

    def assert_archived(self, rows: int, late: int = 0) -> None:
        """The day is in the monthly table, and gone from the other one."""
        self.assert_once(rows + late)
        count = "SELECT count() FROM {table} WHERE date = '{day}'"
        self.assertEqual(rows, self.client.number(count.format(table=archive.MONTHLY, day=DAY)))
        self.assertEqual(late, self.client.number(count.format(table=archive.LIVE, day=DAY)))
        self.assertEqual("dropped", self.archivist().state(DAY))
        left = self.client.number(
            "SELECT count() FROM system.tables WHERE database = 'flight_data'"
            " AND name IN ('flight_positions_copying', 'flight_positions_leaving')"
        )
        self.assertEqual(0, left)

    def test_a_day_moves(self) -> None:
        world.fill(self.client, DAY, ROWS, blocks=3)
        moved = self.archivist().archive(DAY)
        self.assertEqual((ROWS, 0), (moved.row_count, moved.late))
        self.assert_archived(ROWS)

    def test_days_that_are_due(self) -> None:
        for day in ("2026-03-01", "2026-03-02", "2026-03-09", "2026-03-10"):
            world.fill(self.client, day, 100)
        due = self.archivist(after_days=5).due()
        self.assertEqual(["2026-03-01", "2026-03-02"], due)
        self.assertEqual([], self.archivist(after_days=5, quiet_s=900).due())
        self.assertEqual(["2026-03-01"], self.archivist(after_days=5, days_a_run=1).due())
        self.archivist().archive("2026-03-01")
        self.assertEqual(["2026-03-02"], self.archivist(after_days=5).due())

    def test_a_clock_that_jumped_ahead_archives_nothing(self) -> None:
        # The engine's clock is months ahead of the newest position here, and only that one counts.
        world.fill(self.client, DAY, 100)
        self.assertEqual([], self.archivist(after_days=1).due())

    def test_a_clock_that_was_set_back_between_two_steps_loses_nothing(self) -> None:
        for step in ("record-switched", "record-dropped"):
            with self.subTest(step):
                self.setUp()
                world.fill(self.client, DAY, ROWS)

                def set_back(name: str, at: str = step) -> None:
                    if name == at:
                        # What was written down before seems to be of tomorrow.
                        self.client.execute(
                            f"INSERT INTO {archive.DAYS} SELECT date, state, rows, checksum, at + INTERVAL 1 DAY"
                            f" FROM {archive.DAYS} FINAL"
                        )

                archive.Archivist(self.client, settings.Archive(), set_back).archive(DAY)
                self.assert_archived(ROWS)

    def test_killed_before_each_statement(self) -> None:
        reached: set[str] = set()
        for step in STEPS:
            with self.subTest(step):
                self.setUp()
                world.fill(self.client, DAY, ROWS, blocks=2)
                done = self._archive_killed_at(step)
                reached.update(done.stdout.split())
                self.assertEqual(-9, done.returncode, done.stderr)
                self.assert_once(ROWS)
                # A late event comes while it is down.
                world.fill(self.client, DAY, 1, first=ROWS)
                # Whether it counts at once depends on where it was killed; it must in the end.
                archivist = self.archivist()
                if archivist.state(DAY) != "dropped":
                    archivist.archive(DAY)
                late = self.client.number(
                    f"SELECT count() FROM {archive.LIVE} WHERE date = '{DAY}'"
                )
                # What was left is cleared by the next look.
                self.archivist().due()
                self.assert_archived(ROWS + 1 - late, late)
        self.assertLessEqual(set(STEPS), reached)

    def _archive_killed_at(self, step: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-c",
            KILLED,
            str(world.ROOT / "airflow"),
            self.engine.url,
            DAY,
            step,
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def test_the_engine_is_killed_within_each_statement(self) -> None:
        # Where in the statement a kill hits is chance: from before it to after it.
        for step in ("copy", "move-copy", "move-day", "drop-leaving"):
            for delay_s in (0.0, 0.005, 0.02):
                with self.subTest(step, delay_s=delay_s):
                    self.setUp()
                    world.fill(self.client, DAY, ROWS, blocks=4)
                    pid = self.engine.pid()
                    killers: list[threading.Timer] = []

                    def kill(
                        name: str,
                        at: str = step,
                        after: float = delay_s,
                        target: int = pid,
                        begun: list[threading.Timer] = killers,
                    ) -> None:
                        if name == at and not begun:
                            begun.append(threading.Timer(after, os.kill, (target, signal.SIGKILL)))
                            begun[0].start()

                    archivist = archive.Archivist(self.client, settings.Archive(), kill)
                    with contextlib.suppress(archive.ArchiveError, clickhouse.ClickhouseError):
                        archivist.archive(DAY)
                    self.assertTrue(killers)
                    killers[0].join()
                    self.engine.wait_for_another_than(pid)
                    self.assert_once(ROWS)
                    if self.archivist().state(DAY) != "dropped":
                        self.archivist().archive(DAY)
                    self.archivist().due()
                    self.assert_archived(ROWS)

    def test_a_late_event_while_it_moves_counts_once(self) -> None:
        for step, late in (
            ("copy", 0),
            ("record-switched", 1),
            ("move-day", 1),
            ("record-dropped", 1),
        ):
            with self.subTest(step):
                self.setUp()
                world.fill(self.client, DAY, ROWS)
                came: list[str] = []

                def come(name: str, at: str = step, done: list[str] = came) -> None:
                    if name == at and not done:
                        done.append(name)
                        world.fill(self.client, DAY, 1, first=ROWS)

                archivist = archive.Archivist(self.client, settings.Archive(), come)
                if step == "copy":
                    # The copy has a row that was not there when the day was counted: the next run begins anew.
                    with self.assertRaisesRegex(archive.ArchiveError, "changed meanwhile"):
                        archivist.archive(DAY)
                    self.assert_once(ROWS + 1)
                archivist.archive(DAY) if archivist.state(DAY) != "dropped" else None
                self.assert_archived(ROWS + 1 - late, late)

    def test_a_late_event_for_a_moved_day_counts_once(self) -> None:
        world.fill(self.client, DAY, ROWS)
        self.archivist().archive(DAY)
        world.fill(self.client, DAY, 2, first=ROWS)
        self.assert_archived(ROWS, late=2)

    def test_a_ttl_is_refused(self) -> None:
        world.fill(self.client, DAY, 100)
        self.client.execute(f"ALTER TABLE {archive.LIVE} MODIFY TTL date + INTERVAL 3000 DAY")
        try:
            for attempt in (lambda: self.archivist().due(), lambda: self.archivist().archive(DAY)):
                with self.assertRaisesRegex(archive.ArchiveError, "positions_retention_days"):
                    attempt()
        finally:
            self.client.execute(f"ALTER TABLE {archive.LIVE} REMOVE TTL")
        self.assert_once(100)

    def test_what_was_changed_by_hand_is_not_dropped(self) -> None:
        world.fill(self.client, DAY, ROWS)
        self.assertEqual(-9, self._archive_killed_at("create-leaving").returncode)
        self.client.execute(
            f"ALTER TABLE {archive.MONTHLY} DELETE WHERE source_offset = 7 SETTINGS mutations_sync = 2"
        )
        with self.assertRaisesRegex(archive.ArchiveError, "nothing is dropped"):
            self.archivist().archive(DAY)
        self.assertEqual(ROWS, self.archivist().content(archive.LIVE, DAY).row_count)

    def test_a_migration_between_two_runs_stops_none(self) -> None:
        world.fill(self.client, DAY, ROWS)
        self.assertEqual(-9, self._archive_killed_at("move-day").returncode)
        self.client.execute(f"ALTER TABLE {archive.LIVE} ADD INDEX later gspeed TYPE minmax")
        try:
            self.archivist().archive(DAY)
        finally:
            self.client.execute(f"ALTER TABLE {archive.LIVE} DROP INDEX later")
        self.assert_archived(ROWS)

    def test_an_engine_that_is_away_is_named(self) -> None:
        away = clickhouse.Client(settings.Clickhouse(url="http://127.0.0.1:9"))
        with self.assertRaisesRegex(clickhouse.ClickhouseError, "127.0.0.1:9"):
            archive.Archivist(away, settings.Archive()).due()
        wrong = clickhouse.Client(settings.Clickhouse(url=self.engine.url, password="wrong"))
        with self.assertRaisesRegex(clickhouse.ClickhouseError, "refuses user default"):
            archive.Archivist(wrong, settings.Archive()).due()


if __name__ == "__main__":
    unittest.main()
