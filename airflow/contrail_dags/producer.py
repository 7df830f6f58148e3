"""flight-producer: what it is at, and what it can be asked for."""

import dataclasses
import json
import time
import typing

from contrail_dags import http, settings


class ProducerError(Exception):
    """The producer is not what it should be, or refuses what it is asked for."""


class BeginsLater(ProducerError):
    """The source begins behind what was asked for."""

    def __init__(self, message: str, begins_at: int) -> None:
        super().__init__(message)
        self.begins_at = begins_at


@dataclasses.dataclass(frozen=True)
class Seen:
    """What was seen of the producer."""

    healthy: bool
    # Why it is not, or that it is.
    finding: str
    # The first source offset that is not in Kafka, and events up to the source's live edge.
    checkpoint: int | None = None
    lag_events: int | None = None


def metric(text: str, name: str) -> float | None:
    """The sum over all labels of one metric in Prometheus' text format."""
    found: float | None = None
    for line in text.splitlines():
        if line.startswith((name + " ", name + "{")):
            found = (found or 0.0) + float(line.rsplit(" ", 1)[1])
    return found


def _sample(url: str) -> Seen:
    answer = http.ask(f"{url}/readyz")
    text = http.ask(f"{url}/metrics").text
    checkpoint = metric(text, "flight_producer_source_checkpoint_offset")
    lag = metric(text, "flight_producer_source_lag_events")
    known = (
        int(checkpoint) if checkpoint is not None else None,
        int(lag) if lag is not None else None,
    )
    if answer.status == 200:
        return Seen(True, "ready", *known)
    try:
        unmet = json.loads(answer.text)["unmet"]
        why = "; ".join(f"{name}: {reason}" for name, reason in dict(unmet).items())
    except (ValueError, KeyError, TypeError):
        why = f"status {answer.status}: {answer.text[:300]}"
    return Seen(False, f"not ready: {why}", *known)


def look(configuration: settings.Producer) -> Seen:
    """Whether the producer is ready and its checkpoint advances; takes up to `advance_s`."""
    end = time.monotonic() + configuration.advance_s
    first: Seen | None = None
    while True:
        try:
            seen = _sample(configuration.url)
        except http.HttpError as error:
            return Seen(False, f"does not answer: {error}")
        if first is None or first.checkpoint is None:
            first = seen
        advanced = (
            seen.checkpoint is not None
            and first.checkpoint is not None
            and seen.checkpoint > first.checkpoint
        )
        if seen.healthy and advanced:
            return dataclasses.replace(seen, finding="ready, and its checkpoint advances")
        if time.monotonic() >= end:
            if not seen.healthy:
                return seen
            stuck = f"ready, but its checkpoint stands at {seen.checkpoint} for {configuration.advance_s:g} s"
            return dataclasses.replace(seen, healthy=False, finding=stuck)
        time.sleep(0.5)


def wait_until_healthy(configuration: settings.Producer) -> Seen:
    """What the producer is at once it is well, or after `recover_s`."""
    end = time.monotonic() + configuration.recover_s
    while True:
        seen = look(configuration)
        if seen.healthy or time.monotonic() >= end:
            return seen
        time.sleep(0.5)


def _begins_at(text: str) -> int | None:
    try:
        return int(json.loads(text)["begins_at"])
    except (ValueError, KeyError, TypeError):
        return None


@dataclasses.dataclass(frozen=True)
class Replay:
    """A range of source offsets that the producer sends again."""

    id: str
    state: str
    sent: int
    total: int
    error: str


class Replays:
    """The producer's /v1/replays."""

    def __init__(self, configuration: settings.Producer) -> None:
        self.configuration = configuration

    def begin(self, source: str, ranges: list[tuple[int, int]]) -> Replay:
        """Asks for ranges of offsets of a source to be sent again, both ends included."""
        return self._ask("POST", "/v1/replays", {"source": source, "ranges": ranges})

    def at(self, identifier: str) -> Replay:
        """How far a replay is."""
        return self._ask("GET", f"/v1/replays/{identifier}", None)

    def _ask(self, method: str, path: str, body: dict[str, object] | None) -> Replay:
        url = self.configuration.url + path
        headers = {"Authorization": f"Bearer {self.configuration.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body).encode()
        answer = http.ask(url, method=method, body=data, headers=headers, timeout_s=30.0)
        if answer.status in (401, 403):
            raise ProducerError(
                f"{method} {url}: the token is refused ({answer.status}): producer.token or"
                f" producer.token_file must hold the producer's own: {answer.text[:300]}"
            )
        if answer.status not in (200, 202):
            why = f"{method} {url}: {answer.status}: {answer.text[:600]}"
            begins_at = _begins_at(answer.text)
            raise ProducerError(why) if begins_at is None else BeginsLater(why, begins_at)
        try:
            found: dict[str, typing.Any] = json.loads(answer.text)
            return Replay(
                id=str(found["id"]),
                state=str(found["state"]),
                sent=int(found.get("sent") or 0),
                total=int(found.get("total") or 0),
                error=str(found.get("error") or ""),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProducerError(f"{method} {url}: cannot be read: {answer.text[:300]}") from error
