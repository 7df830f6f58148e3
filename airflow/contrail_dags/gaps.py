"""Finds what is missing, has the producer send it again, and waits until it is there.

flight_data.repairs has a row for each state of each range. A range that the source itself no longer has is told
of once and remembered as lost: `contrail gaps --skip-lost` reads that table and leaves it out from then on.
Two runs at once do no harm: what a replay sends a second time the ingester finds by identity, and the producer
makes of the same request, while it is at it, one replay.
"""

import bisect
import collections.abc
import dataclasses
import functools
import itertools
import json
import time
import typing

from contrail_dags import clickhouse, mail, producer, programs, settings

REPAIRS = "flight_data.repairs"
# Exit codes of `contrail gaps`.
NONE, SOME = 0, 1
# Words by which the producer says that it reads another source.
GONE = "is not there any more"
# Ranges in one replay, and in one statement: the producer and ClickHouse have bounds.
RANGES_A_REPLAY = 10_000
RANGES_A_STATEMENT = 2_000
# Ranges that a mail names one by one.
RANGES_A_MAIL = 50


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
                where=str(gap["where"] or ""),
            )
            for gap in found["gaps"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise GapsError(
            f"what `contrail gaps --json` prints cannot be read: {text[:300]}"
        ) from error


def find(configuration: settings.Gaps, *, quick: bool = False) -> list[Gap]:
    """What is missing now, and not known to be lost. `quick` does not ask where it is missing."""
    command = [*configuration.command, "--skip-lost", *(["--quick"] if quick else [])]
    done = programs.run(command, timeout_s=configuration.search_s)
    if done.code not in (NONE, SOME):
        said = (done.errors or done.output).strip()[-600:]
        raise GapsError(f"{' '.join(command)}: exit code {done.code}: {said}")
    return read(done.output)


State = typing.Literal["filled", "failed", "lost"]


@dataclasses.dataclass(frozen=True)
class Repair:
    """A gap, and what came of it."""

    gap: Gap
    state: State
    detail: str


class Find(typing.Protocol):
    """Says what is missing."""

    def __call__(self, *, quick: bool = False) -> list[Gap]:
        """See `find`."""


class Repairer:
    """Repairs gaps of one platform."""

    def __init__(
        self,
        client: clickhouse.Client,
        configuration: settings.Settings,
        find_gaps: Find,
    ) -> None:
        self.client = client
        self.configuration = configuration
        self.look = find_gaps
        self.replays = producer.Replays(configuration.producer)

    def find(self) -> list[Gap]:
        """What is missing. Each range is written down."""
        found = self.look()
        for where, gaps in _grouped(found, lambda gap: gap.where):
            self._record(gaps, "found", "", f"missing in {where}" if where else "")
        return found

    def repair(self, gaps: list[Gap]) -> list[Repair]:
        """Has them replayed, and waits until they are filled."""
        end = time.monotonic() + self.configuration.gaps.replay_s
        repairs: list[Repair] = []
        replayed: list[Gap] = []
        for source, of_source in _grouped(gaps, lambda gap: gap.source):
            for some in _batches(of_source, RANGES_A_REPLAY):
                sent, others = self._replay(source, some, end)
                replayed.extend(sent)
                repairs.extend(others)
        repairs.extend(self._settle(replayed, end))
        return repairs

    def _replay(self, source: str, gaps: list[Gap], end: float) -> tuple[list[Gap], list[Repair]]:
        """What was sent, and what could not be."""
        lost: list[Repair] = []
        try:
            try:
                replay = self.replays.begin(source, [(gap.first, gap.last) for gap in gaps])
            except producer.BeginsLater as error:
                # What the source has no more is lost, the rest is asked for.
                gone, gaps = _cut(gaps, error.begins_at)
                lost = self._ended(gone, "lost", "", str(error))
                if not gaps:
                    return [], lost
                replay = self.replays.begin(source, [(gap.first, gap.last) for gap in gaps])
            self._record(gaps, "replaying", replay.id, "")
            pause = 0.1
            while replay.state == "running":
                if time.monotonic() > end:
                    late = f"only {replay.sent} of {replay.total} were sent in time"
                    return [], lost + self._ended(gaps, "failed", replay.id, late)
                time.sleep(pause)
                pause = min(2 * pause, 2.0)
                replay = self.replays.at(replay.id)
        except producer.ProducerError as error:
            return [], lost + self._refused(gaps, "", str(error))
        if replay.state != "done":
            why = replay.error or f"the replay is {replay.state}"
            return [], lost + self._refused(gaps, replay.id, why)
        return gaps, lost

    def _refused(self, gaps: list[Gap], replay: str, why: str) -> list[Repair]:
        return self._ended(gaps, "lost" if GONE in why else "failed", replay, why)

    def _settle(self, gaps: list[Gap], end: float) -> list[Repair]:
        """Waits until what was sent is in the tables."""
        waiting = list(gaps)
        repairs: list[Repair] = []
        while waiting:
            missing = self.look(quick=True)
            still = _still_missing(waiting, missing)
            there = [gap for gap in waiting if gap not in still]
            repairs.extend(self._ended(there, "filled", "", ""))
            waiting = list(still)
            if waiting and time.monotonic() > end:
                late = "it was sent, and is not in the tables in time"
                repairs.extend(self._ended(waiting, "failed", "", late))
                break
            if waiting:
                time.sleep(2)
        return repairs

    def _ended(self, gaps: list[Gap], state: State, replay: str, detail: str) -> list[Repair]:
        self._record(gaps, state, replay, detail)
        return [Repair(gap, state, detail) for gap in gaps]

    def _record(self, gaps: list[Gap], state: str, replay: str, detail: str) -> None:
        for source, of_source in _grouped(gaps, lambda gap: gap.source):
            for some in _batches(of_source, RANGES_A_STATEMENT):
                ranges = ", ".join(f"({gap.first}, {gap.last})" for gap in some)
                # The first sight of a range stays with it. The newest row holds, so it has to be the newest
                # also where the clock was set back.
                self.client.execute(
                    f"""
                    INSERT INTO {REPAIRS} (source, first, last, state, found_at, at, replay, detail)
                    SELECT {{source:String}}, range.1, range.2, {{state:String}},
                           if(known.seen > toDateTime64(0, 3, 'UTC'), known.seen, now64(3)),
                           greatest(now64(3), known.newest + INTERVAL 1 MILLISECOND),
                           {{replay:String}}, {{detail:String}}
                    FROM
                        (SELECT arrayJoin(CAST([{ranges}], 'Array(Tuple(UInt64, UInt64))')) AS range) AS wanted
                        LEFT JOIN
                        (SELECT first, last, min(found_at) AS seen, max(at) AS newest FROM {REPAIRS}
                         WHERE source = {{source:String}} GROUP BY first, last) AS known
                        ON known.first = range.1 AND known.last = range.2
                    """,
                    source=source,
                    state=state,
                    replay=replay,
                    detail=detail,
                )


def _grouped(
    gaps: list[Gap], key: collections.abc.Callable[[Gap], str]
) -> list[tuple[str, list[Gap]]]:
    ordered = sorted(gaps, key=lambda gap: (key(gap), gap.source, gap.first))
    return [(name, list(some)) for name, some in itertools.groupby(ordered, key)]


def _batches(gaps: list[Gap], size: int) -> list[list[Gap]]:
    return [gaps[begin : begin + size] for begin in range(0, len(gaps), size)]


def _cut(gaps: list[Gap], begins_at: int) -> tuple[list[Gap], list[Gap]]:
    """What lies before an offset, and what does not."""
    before: list[Gap] = []
    behind: list[Gap] = []
    for gap in gaps:
        if gap.first < begins_at:
            last = min(gap.last, begins_at - 1)
            before.append(dataclasses.replace(gap, last=last, count=last - gap.first + 1))
        if gap.last >= begins_at:
            first = max(gap.first, begins_at)
            behind.append(dataclasses.replace(gap, first=first, count=gap.last - first + 1))
    return before, behind


def _still_missing(waiting: list[Gap], missing: list[Gap]) -> set[Gap]:
    """Those of which something is missing."""
    still: set[Gap] = set()
    for source, wanted in _grouped(waiting, lambda gap: gap.source):
        others = sorted((gap.first, gap.last) for gap in missing if gap.source == source)
        firsts = [first for first, _ in others]
        for gap in wanted:
            # The last one that begins before this one ends.
            index = bisect.bisect_right(firsts, gap.last) - 1
            if index >= 0 and others[index][1] >= gap.first:
                still.add(gap)
    return still


def tell(configuration: settings.Mail, repairs: list[Repair]) -> bool:
    """Mails a summary. True if there was anything to tell."""
    if not repairs:
        return False
    lines = []
    for repair in repairs[:RANGES_A_MAIL]:
        gap = repair.gap
        times = f", {gap.begin} to {gap.end}" if gap.begin else ""
        where = f", missing in {gap.where}" if gap.where else ""
        detail = f": {repair.detail}" if repair.detail else ""
        lines.append(
            f"{gap.source} {gap.first}..{gap.last} ({gap.count} events{where}{times}): {repair.state}{detail}"
        )
    if len(repairs) > RANGES_A_MAIL:
        lines.append(f"... and {len(repairs) - RANGES_A_MAIL} ranges more")
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
    return Repairer(client, configuration, functools.partial(find, configuration.gaps))
