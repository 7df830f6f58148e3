"""Moves complete days from flight_positions to flight_positions_monthly.

A day takes these steps. The ledger, flight_data.archived_days, says how far it is, and the uniting view reads
it, so that each row counts once at every moment:

    (none)    1. copy the day into a table of its own, in the shape of the monthly one
              2. compare count and checksum with the day
              3. move the copy, as parts, into the monthly table
              4. compare again: what came in meanwhile makes it begin anew
    copied    5. one row in the ledger: from here on the monthly table's rows count
    switched  6. move the day, as parts, out of flight_positions: what is moved keeps its tokens, so that an
                 insert of the ingester that is repeated still adds nothing
              7. compare what was moved with the monthly table; a row that came in since step 4 goes back
    dropped   8. drop what was moved. What comes in for the day from here on counts again.

Each step may be killed at any statement. Whoever comes next looks at the ledger and at the tables, not at what
was to be done: a copy that is not whole is thrown away, whatever is whole stays.
"""

import collections.abc
import dataclasses
import datetime

from contrail_dags import clickhouse, settings

LIVE = "flight_data.flight_positions"
MONTHLY = "flight_data.flight_positions_monthly"
DAYS = "flight_data.archived_days"
# A day's copy, in the shape of the monthly table.
COPY = "flight_data.flight_positions_copying"
# A day that left flight_positions, until it was compared.
LEAVING = "flight_data.flight_positions_leaving"

COLUMNS = (
    "flight_id, callsign, longitude, latitude, altitude, gspeed, timestamp, icao24, track, vertical_rate,"
    " squawk, on_ground, source, source_offset"
)
# A hash of NULL is NULL: what may be NULL is hashed as a value, and whether it is.
HASHED = (
    "flight_id, callsign, longitude, latitude, altitude, gspeed, timestamp, ifNull(icao24, ''), isNull(icao24),"
    " ifNull(track, 0), isNull(track), ifNull(vertical_rate, 0), isNull(vertical_rate), ifNull(squawk, ''),"
    " isNull(squawk), ifNull(on_ground, false), isNull(on_ground), source, source_offset"
)
# Whatever the order of the rows. A sum sees a row that is there twice, an exclusive or would not.
SUMMED = f"count() AS row_count, sumWithOverflow(cityHash64({HASHED})) AS checksum"
# How often a day that changes while it is copied is begun anew.
ATTEMPTS = 3


class ArchiveError(Exception):
    """A day cannot be archived; nothing of it is lost."""


@dataclasses.dataclass(frozen=True)
class Content:
    """Rows of a day: how many, and a checksum of all of them."""

    row_count: int
    checksum: int


@dataclasses.dataclass(frozen=True)
class Moved:
    """A day that was archived."""

    day: str
    row_count: int
    late: int
    seconds: float


# Called before each statement with its name: tests end the process there.
Step = collections.abc.Callable[[str], None]


def _nothing(_: str) -> None:
    return


class Archivist:
    """Archives days of one server."""

    def __init__(
        self,
        client: clickhouse.Client,
        configuration: settings.Archive,
        step: Step = _nothing,
    ) -> None:
        self.client = client
        self.configuration = configuration
        self.step = step
        # The ingester comes first.
        self.limits = f"SETTINGS max_threads = {max(1, configuration.threads)}"

    def due(self) -> list[str]:
        """Days that are due, the oldest first; those that were begun before all others."""
        self._refuse_ttl()
        self._tidy()
        begun = self.client.rows(
            f"SELECT toString(date) AS day FROM {DAYS} FINAL WHERE state != 'dropped' ORDER BY date"
        )
        # The newest day by the clock and by the data: a clock that jumped ahead archives nothing early.
        found = self.client.rows(
            f"""
            WITH
                (SELECT max(timestamp) FROM {LIVE} WHERE timestamp <= now() + 86400) AS newest,
                least(today(), toDate(newest)) AS day_now
            SELECT toString(date) AS day
            FROM (SELECT date, count() FROM {LIVE} GROUP BY date)
            WHERE date < day_now - {{after:UInt32}}
              AND date NOT IN (SELECT date FROM {DAYS})
            ORDER BY date
            """,
            after=self.configuration.after_days,
        )
        days = [row["day"] for row in begun] + [row["day"] for row in found]
        quiet = [day for day in days if self._is_quiet(day)]
        return quiet[: self.configuration.days_a_run]

    def _is_quiet(self, day: str) -> bool:
        """Whether nothing was inserted for the day, or merged, for long enough."""
        # A day of which nothing is left here is as quiet as can be.
        newest = self.client.number(
            "SELECT if(count() = 0, 4294967295, toInt64(now() - max(modification_time))) FROM system.parts"
            " WHERE database = 'flight_data' AND table = 'flight_positions' AND active"
            " AND partition_id = {partition:String}",
            partition=day.replace("-", ""),
        )
        return newest >= self.configuration.quiet_s

    def _refuse_ttl(self) -> None:
        engine = self.client.row(
            "SELECT engine_full FROM system.tables WHERE database = 'flight_data' AND name = 'flight_positions'"
        )["engine_full"]
        if " TTL " in engine:
            raise ArchiveError(
                f"{LIVE} has a TTL, which could delete what was not moved yet: set positions_retention_days of the"
                " ingester to 0 and run `flight-ingester migrate` first"
            )

    def _tidy(self) -> None:
        """Drops what left by a run that was killed after all of it was found in the monthly table.

        An empty table too: flight_positions may have got another index since it was made.
        """
        if not self.client.number(f"EXISTS TABLE {LEAVING}"):
            return
        waiting = self.client.rows(
            f"SELECT DISTINCT date FROM {LEAVING} WHERE date NOT IN"
            f" (SELECT date FROM {DAYS} FINAL WHERE state = 'dropped')"
        )
        if not waiting:
            self._execute("drop-left", f"DROP TABLE IF EXISTS {LEAVING} SYNC")

    def archive(self, day: str) -> Moved:
        """Takes a day all the way, from wherever it stands."""
        datetime.date.fromisoformat(day)
        began = datetime.datetime.now(datetime.UTC)
        self._refuse_ttl()
        self._end_former(day)
        self._tidy()
        state = self.state(day)
        if state in ("", "copied"):
            self._copy(day)
            state = "switched"
        late = 0
        if state == "switched":
            # Its parts are in the monthly table, or, after a kill, are doubles of those.
            self._execute("drop-copy-after", f"DROP TABLE IF EXISTS {COPY} SYNC")
            late = self._leave(day)
        if state == "dropped":
            raise ArchiveError(f"{day} is archived already")
        seconds = (datetime.datetime.now(datetime.UTC) - began).total_seconds()
        return Moved(day, self.content(MONTHLY, day).row_count, late, seconds)

    def state(self, day: str) -> str:
        """How far a day is, as the ledger has it; empty where it has nothing."""
        rows = self.client.rows(
            f"SELECT toString(state) AS state FROM {DAYS} FINAL WHERE date = {{day:Date}}", day=day
        )
        return str(rows[0]["state"]) if rows else ""

    def content(self, table: str, day: str) -> Content:
        """What a table holds of a day."""
        row = self.client.row(
            f"SELECT {SUMMED} FROM {table} WHERE date = {{day:Date}} {self.limits}", day=day
        )
        return Content(int(row["row_count"]), int(row["checksum"]))

    def _execute(self, step: str, statement: str, **parameters: clickhouse.Value) -> None:
        self.step(step)
        self.client.execute(statement, **parameters)

    def _end_former(self, day: str) -> None:
        """A copy by a run that was killed may still go on in the server: it must not add to ours."""
        self.step("end-former")
        running = self.client.number(
            "SELECT count() FROM system.processes WHERE query LIKE {like:String} AND query NOT LIKE '%system.processes%'",
            like=f"%{COPY}%",
        )
        if running:
            raise ArchiveError(
                f"{running} statements on {COPY} still run, of a run before this one: {day} is left to the next run"
            )

    def _copy(self, day: str) -> None:
        """Steps 1 to 5."""
        for _ in range(1, ATTEMPTS + 1):
            before = self.content(LIVE, day)
            if before.row_count == 0:
                raise ArchiveError(f"{LIVE} has no rows of {day}")
            if self.content(MONTHLY, day) != before:
                self._fill(day, before)
            self._record("copied", day, before)
            if self.content(LIVE, day) == before:
                self._record("switched", day, before)
                return
            # Nothing of it counts yet: away with it.
        raise ArchiveError(
            f"{day} changed {ATTEMPTS} times while it was copied: it is left to the next run"
        )

    def _fill(self, day: str, wanted: Content) -> None:
        if self.content(MONTHLY, day).row_count:
            # Of a run that was killed, or of a day that changed. It does not count.
            self._execute(
                "clear-monthly",
                f"ALTER TABLE {MONTHLY} DELETE WHERE date = {{day:Date}} SETTINGS mutations_sync = 2",
                day=day,
            )
        self._execute("drop-copy", f"DROP TABLE IF EXISTS {COPY} SYNC")
        self._execute("create-copy", f"CREATE TABLE {COPY} AS {MONTHLY}")
        self._execute(
            "copy",
            f"INSERT INTO {COPY} ({COLUMNS}) SELECT {COLUMNS} FROM {LIVE} WHERE date = {{day:Date}}"
            f" {self.limits}, max_insert_threads = 1",
            day=day,
        )
        found = self.content(COPY, day)
        if found != wanted:
            raise ArchiveError(
                f"the copy of {day} has {found.row_count} rows (checksum {found.checksum}), the day had"
                f" {wanted.row_count} (checksum {wanted.checksum}): it changed meanwhile, or was not copied whole"
            )
        month = day[:7].replace("-", "")
        self._execute(
            "move-copy", f"ALTER TABLE {COPY} MOVE PARTITION ID '{month}' TO TABLE {MONTHLY}"
        )
        found = self.content(MONTHLY, day)
        if found != wanted:
            raise ArchiveError(
                f"{MONTHLY} has {found.row_count} rows of {day}, not {wanted.row_count}, after the copy was moved"
                " there: nothing was dropped, and the next run begins anew"
            )

    def _record(self, state: str, day: str, content: Content) -> None:
        # The newest row of a day holds, so it has to be the newest also where the clock was set back.
        self._execute(
            f"record-{state}",
            f"INSERT INTO {DAYS} (date, state, rows, checksum, at) SELECT {{day:Date}}, {{state:String}},"
            " {rows:UInt64}, {checksum:UInt64}, greatest(now64(3), max(at) + INTERVAL 1 MILLISECOND)"
            f" FROM {DAYS} WHERE date = {{day:Date}}",
            day=day,
            state=state,
            rows=content.row_count,
            checksum=content.checksum,
        )

    def _leave(self, day: str) -> int:
        """Steps 6 to 8; how many rows came in late and went back."""
        archived = self.content(MONTHLY, day)
        recorded = self.client.row(
            f"SELECT rows, checksum FROM {DAYS} FINAL WHERE date = {{day:Date}}", day=day
        )
        if archived != Content(int(recorded["rows"]), int(recorded["checksum"])):
            raise ArchiveError(
                f"{MONTHLY} has {archived.row_count} rows of {day}, and {DAYS} says {recorded['rows']}, or their"
                " checksums differ: nothing is dropped; look at it yourself"
            )
        self._execute("create-leaving", f"CREATE TABLE IF NOT EXISTS {LEAVING} AS {LIVE}")
        others = self.client.rows(
            f"SELECT toString(date) AS day FROM {LEAVING} WHERE date != {{day:Date}} LIMIT 1",
            day=day,
        )
        if others:
            raise ArchiveError(
                f"{LEAVING} still has rows of {others[0]['day']}: that day comes first"
            )
        if self.client.number(f"SELECT count() FROM {LIVE} WHERE date = {{day:Date}}", day=day):
            self._execute(
                "move-day",
                f"ALTER TABLE {LIVE} MOVE PARTITION ID '{day.replace('-', '')}' TO TABLE {LEAVING}",
            )
        late = 0
        if self.content(LEAVING, day) != archived:
            late = self._give_back(day)
        self._record("dropped", day, archived)
        self._execute("drop-leaving", f"DROP TABLE IF EXISTS {LEAVING} SYNC")
        return late

    def _give_back(self, day: str) -> int:
        """Returns to flight_positions what is not in the monthly table, each row once."""
        # Only hours in which the two differ are compared row by row.
        hours = [
            int(row["hour"])
            for row in self.client.rows(
                f"""
                SELECT hour FROM
                (
                    SELECT hour, 1 AS side, {SUMMED} FROM {LEAVING} WHERE date = {{day:Date}} GROUP BY hour
                    UNION ALL
                    SELECT hour, 2 AS side, {SUMMED} FROM {MONTHLY} WHERE date = {{day:Date}} GROUP BY hour
                )
                GROUP BY hour HAVING count() = 1 OR uniqExact(row_count, checksum) > 1
                ORDER BY hour {self.limits}
                """,
                day=day,
            )
        ]
        late = 0
        for hour in hours:
            known = f"date = {{day:Date}} AND hour = {hour}"
            missing = (
                f"{LEAVING} WHERE {known}"
                f" AND (source, source_offset) NOT IN (SELECT source, source_offset FROM {MONTHLY} WHERE {known})"
                f" AND (source, source_offset) NOT IN (SELECT source, source_offset FROM {LIVE} WHERE {known})"
            )
            count = self.client.number(f"SELECT count() FROM {missing}", day=day)
            if count:
                self._execute(
                    "give-back",
                    f"INSERT INTO {LIVE} ({COLUMNS}) SELECT {COLUMNS} FROM {missing}"
                    " LIMIT 1 BY source, source_offset",
                    day=day,
                )
                late += count
        unknown = self.client.number(
            f"""
            SELECT count() FROM {LEAVING} WHERE date = {{day:Date}} AND hour IN {{hours:Array(UInt8)}}
              AND (source, source_offset) NOT IN
                  (SELECT source, source_offset FROM {MONTHLY} WHERE date = {{day:Date}} AND hour IN {{hours:Array(UInt8)}})
              AND (source, source_offset) NOT IN
                  (SELECT source, source_offset FROM {LIVE} WHERE date = {{day:Date}} AND hour IN {{hours:Array(UInt8)}})
            """,
            day=day,
            hours=str(hours),
        )
        if unknown:
            raise ArchiveError(
                f"{unknown} rows of {day} that left {LIVE} are in neither table: they stay in {LEAVING}"
            )
        return late


def archivist() -> Archivist:
    """For the server of the settings."""
    configuration = settings.load()
    return Archivist(clickhouse.Client(configuration.clickhouse), configuration.archive)
