"""Finds what is missing, has the producer send it again, and waits until it is there.

flight_data.repairs has a row for each state of each range. A range that the source itself no longer has is told
of once and remembered as lost. Doing it twice does no harm: what a replay sends a second time the ingester
finds by identity.
"""

import collections.abc
import dataclasses
import json
import time
import typing

from contrail_dags import clickhouse, mail, producer, programs, settings

REPAIRS = "flight_data.repairs"
# Exit codes of `contrail gaps`.
NONE, SOME = 0, 1
# Words by which the producer says that the source has a range no more.
LOST = ("is before the beginning of source", "is not there any more")


class GapsError(Exception):
    """What is missing cannot be found out, or not all of it came back."""


@dataclasses.dataclass(frozen=True)
class Gap:
    """A range of source offsets that is missing, from `first` to `last`."""

    source: str
    first: int
    last: int
    count: int
    begin: str
    end: str
    where: str


def read(text: str) -> list[Gap]:
    """The gaps that `contrail gaps --json` prints."""
    try:
        found = json.loads(text)
        return [
            Gap(
                source=str(gap["source"]),
                first=int(gap["first"]),
                last=int(gap["last"]),
                count=int(gap["count"]),
                begin=str(gap.get("from") or ""),
                end=str(gap.get("to") or ""),
                where=str(gap["where"]),
            )
            for gap in found["gaps"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise GapsError(
            f"what `contrail gaps --json` prints cannot be read: {text[:300]}"
        ) from error


def find(configuration: settings.Gaps) -> list[Gap]:
    """What is missing now."""
    done = programs.run(configuration.command, timeout_s=configuration.search_s)
    if done.code not in (NONE, SOME):
        said = (done.errors or done.output).strip()[-600:]
        raise GapsError(f"{' '.join(configuration.command)}: exit code {done.code}: {said}")
    return read(done.output)


@dataclasses.dataclass(frozen=True)
class Repair:
    """A gap, and what came of it."""

    gap: Gap
    state: typing.Literal["filled", "failed", "lost"]
    detail: str


class Repairer:
    """Repairs gaps of one platform."""

    def __init__(
        self,
        client: clickhouse.Client,
        configuration: settings.Settings,
        find_gaps: collections.abc.Callable[[], list[Gap]],
    ) -> None:
        self.client = client
        self.configuration = configuration
        self.find = find_gaps
        self.replays = producer.Replays(configuration.producer)

    def fresh(self, found: list[Gap]) -> list[Gap]:
        """Those that are not known to be lost. Each is written down."""
        lost = {
            (row["source"], int(row["first"]), int(row["last"]))
            for row in self.client.rows(
                f"SELECT source, first, last FROM {REPAIRS} FINAL WHERE state = 'lost'"
            )
        }
        fresh = [gap for gap in found if (gap.source, gap.first, gap.last) not in lost]
        for gap in fresh:
            self._record(gap, "found", "", f"missing in {gap.where}")
        return fresh

    def repair(self, gaps: list[Gap]) -> list[Repair]:
        """Has each replayed, and waits until it is filled. One after the other: the source is one."""
        end = time.monotonic() + self.configuration.gaps.replay_s
        repairs: list[Repair] = []
        replayed: list[Gap] = []
        for gap in gaps:
            failure = self._replay(gap, end)
            if failure is None:
                replayed.append(gap)
            else:
                repairs.append(failure)
        repairs.extend(self._settle(replayed, end))
        return repairs

    def _replay(self, gap: Gap, end: float) -> Repair | None:
        try:
            replay = self.replays.begin(gap.first, gap.last)
            self._record(gap, "replaying", replay.id, "")
            while replay.state == "running":
                if time.monotonic() > end:
                    return self._ended(
                        gap,
                        "failed",
                        replay.id,
                        f"only {replay.sent} of {replay.total} were sent in time",
                    )
                time.sleep(0.5)
                replay = self.replays.at(replay.id)
        except producer.ProducerError as error:
            return self._refused(gap, "", str(error))
        if replay.state != "done":
            return self._refused(gap, replay.id, replay.error or f"the replay is {replay.state}")
        return None

    def _refused(self, gap: Gap, replay: str, why: str) -> Repair:
        is_lost = any(word in why for word in LOST)
        return self._ended(gap, "lost" if is_lost else "failed", replay, why)

    def _settle(self, gaps: list[Gap], end: float) -> list[Repair]:
        """Waits until what was sent is in the tables."""
        waiting = list(gaps)
        repairs: list[Repair] = []
        while waiting:
            missing = self.find()
            still = [gap for gap in waiting if any(_overlaps(gap, other) for other in missing)]
            for gap in waiting:
                if gap not in still:
                    repairs.append(self._ended(gap, "filled", "", f"{gap.count} events"))
            waiting = still
            if waiting and time.monotonic() > end:
                late = "it was sent, and is not in the tables in time"
                repairs.extend(self._ended(gap, "failed", "", late) for gap in waiting)
                break
            if waiting:
                time.sleep(2)
        return repairs

    def _ended(
        self, gap: Gap, state: typing.Literal["filled", "failed", "lost"], replay: str, detail: str
    ) -> Repair:
        self._record(gap, state, replay, detail)
        return Repair(gap, state, detail)

    def _record(self, gap: Gap, state: str, replay: str, detail: str) -> None:
        # The first sight of a range stays with it.
        self.client.execute(
            f"""
            INSERT INTO {REPAIRS} (source, first, last, state, found_at, replay, detail)
            WITH (SELECT min(found_at) FROM {REPAIRS} WHERE source = {{source:String}} AND first = {{first:UInt64}}
                  AND last = {{last:UInt64}}) AS known
            SELECT {{source:String}}, {{first:UInt64}}, {{last:UInt64}}, {{state:String}},
                   if(known > toDateTime64(0, 3, 'UTC'), known, now64(3)), {{replay:String}}, {{detail:String}}
            """,
            source=gap.source,
            first=gap.first,
            last=gap.last,
            state=state,
            replay=replay,
            detail=detail,
        )


def _overlaps(one: Gap, other: Gap) -> bool:
    return one.source == other.source and one.first <= other.last and other.first <= one.last


def tell(configuration: settings.Mail, repairs: list[Repair]) -> bool:
    """Mails a summary. True if there was anything to tell."""
    if not repairs:
        return False
    lines = []
    for repair in repairs:
        gap = repair.gap
        times = f", {gap.begin} to {gap.end}" if gap.begin else ""
        lines.append(
            f"{gap.source} {gap.first}..{gap.last} ({gap.count} events, missing in {gap.where}{times}):"
            f" {repair.state}: {repair.detail}"
        )
    counts = {state: 0 for state in ("filled", "failed", "lost")}
    for repair in repairs:
        counts[repair.state] += 1
    summary = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    mail.send(
        configuration,
        f"gaps: {summary}",
        "\n".join(lines) + f"\n\nAll ranges: {REPAIRS}\n",
    )
    return True


def repairer() -> Repairer:
    """For the platform of the settings."""
    configuration = settings.load()
    client = clickhouse.Client(configuration.clickhouse)
    return Repairer(client, configuration, lambda: find(configuration.gaps))
