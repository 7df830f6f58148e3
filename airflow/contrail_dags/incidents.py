"""Incidents: what is wrong from one run to the next, so that it is told once.

They are kept in Airflow's variables, that is in its own database: Kafka or ClickHouse being away is what
incidents are about.
"""

import dataclasses
import datetime
import json
import typing


@dataclasses.dataclass
class Incident:
    """Something that is wrong, since when, and what was done and told."""

    began: str
    finding: str
    restarts: int = 0
    told: bool = False
    escalated: bool = False


class Store(typing.Protocol):
    """Where texts are kept by name: Airflow's `Variable`."""

    def get(self, key: str, default: typing.Any = ...) -> typing.Any:
        """The text of a name."""

    def set(self, key: str, value: typing.Any) -> None:
        """Keeps a text."""

    def delete(self, key: str) -> None:
        """Forgets a text."""


class Ledger:
    """The incident of one duty."""

    def __init__(self, store: Store, duty: str) -> None:
        self.store = store
        self.key = f"contrail_incident_{duty}"
        self.well_key = f"contrail_well_{duty}"

    def open(self) -> Incident | None:
        """The incident that is open."""
        text = self.store.get(self.key, default=None)
        if not text:
            return None
        known = {field.name for field in dataclasses.fields(Incident)}
        try:
            found = json.loads(text)
            return Incident(**{name: value for name, value in found.items() if name in known})
        except (ValueError, TypeError, AttributeError):
            # Somebody edited it. What is unreadable is no incident; a new one is opened if need be.
            return None

    def save(self, incident: Incident) -> None:
        """Keeps an incident."""
        self.store.set(self.key, json.dumps(dataclasses.asdict(incident)))

    def close(self) -> None:
        """Forgets the incident."""
        self.store.delete(self.key)

    def keep_well(self, seen: str) -> None:
        """Keeps what was seen while all was well, for whoever is told when it no longer is."""
        self.store.set(self.well_key, seen)

    def last_well(self) -> str:
        """What was seen when all was well for the last time."""
        return str(self.store.get(self.well_key, default=None) or "not known")


def now() -> str:
    """The time, as mails give it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def airflow() -> Store:
    """Airflow's own variables."""
    from airflow.sdk import Variable

    return typing.cast(Store, Variable)
