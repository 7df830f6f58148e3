"""Settings of the DAGs: one TOML file, named by FLIGHT_DAGS_CONFIG.

Names that are not known are refused, and every message says which setting of which file is wrong. A key
that ends in `_file` names a file that holds a secret.
"""

import dataclasses
import os
import pathlib
import tomllib
import typing

VARIABLE = "FLIGHT_DAGS_CONFIG"


class SettingsError(Exception):
    """The settings cannot be used."""


@dataclasses.dataclass(frozen=True)
class Clickhouse:
    """ClickHouse's HTTP interface."""

    url: str = "http://127.0.0.1:8123"
    user: str = "default"
    password: str = ""
    password_file: str = ""
    # Longest wait for one statement; copying a day is one.
    timeout_s: int = 900


@dataclasses.dataclass(frozen=True)
class Producer:
    """flight-producer: its admin address, and how it is started again."""

    url: str = "http://127.0.0.1:8001"
    # The bearer token of /v1/replays.
    token: str = ""
    token_file: str = ""
    # Programs with their arguments. The defaults are those of a host with systemd.
    restart: tuple[str, ...] = (
        "systemctl",
        "--no-ask-password",
        "restart",
        "flight-producer.service",
    )
    log: tuple[str, ...] = (
        "journalctl",
        "--no-pager",
        "--quiet",
        "--output=cat",
        "--lines=20",
        "--unit=flight-producer.service",
    )
    # The checkpoint has to advance within this time.
    advance_s: float = 8.0
    # Recovery after a restart has to show within this time.
    recover_s: float = 60.0
    # How often an incident may restart it; afterwards somebody has to look.
    restarts: int = 5


@dataclasses.dataclass(frozen=True)
class Gaps:
    """Looking for what is missing, and having it sent again."""

    # Prints the gaps as JSON.
    command: tuple[str, ...] = ("contrail", "gaps", "--json")
    # Longest time for the search, and for replaying and ingesting all that was found.
    search_s: float = 240.0
    replay_s: float = 1800.0


@dataclasses.dataclass(frozen=True)
class Archive:
    """Moving days to the monthly table."""

    # Days before the newest one that stay in flight_positions.
    after_days: int = 31
    # Nothing must have been inserted for a day for this long: longer than an insert of the ingester may
    # be on its way (600 s).
    quiet_s: int = 900
    # Days in one run, the oldest first.
    days_a_run: int = 7
    # Threads that copy and compare; the ingester needs the others.
    threads: int = 1


@dataclasses.dataclass(frozen=True)
class Quality:
    """When data quality is worth a mail."""

    # Positions in an hour that cannot be true.
    impossible: int = 0
    # Airborne flights of the hour without a position in its last minutes, of all: in percent.
    stale_percent: float = 50.0
    stale_minutes: int = 15
    # Positions in the hour, of the mean of the day before: in percent, at least.
    volume_percent: float = 50.0
    # Records in the dead letters in an hour.
    dead_letters: int = 0
    # Where the ingester counts dead letters.
    ingester_url: str = "http://127.0.0.1:8002"
    # Above this a ground speed is no aircraft's, in knots, and an altitude none, in feet.
    max_speed_kt: int = 900
    max_altitude_ft: int = 60_000


@dataclasses.dataclass(frozen=True)
class Mail:
    """Who is told."""

    # Airflow's connection to the SMTP server.
    connection: str = "contrail_mail"
    sender: str = "contrail@localhost"
    to: tuple[str, ...] = ("operator@localhost",)
    # Lines of a log that a mail quotes.
    log_lines: int = 20


@dataclasses.dataclass(frozen=True)
class Settings:
    """All of it."""

    clickhouse: Clickhouse = Clickhouse()
    producer: Producer = Producer()
    gaps: Gaps = Gaps()
    archive: Archive = Archive()
    quality: Quality = Quality()
    mail: Mail = Mail()


def load() -> Settings:
    """The settings of the file that FLIGHT_DAGS_CONFIG names; the defaults where it names none."""
    named = os.environ.get(VARIABLE, "")
    return read(pathlib.Path(named)) if named else Settings()


def read(path: pathlib.Path) -> Settings:
    """The settings of a file."""
    try:
        found = tomllib.loads(path.read_text())
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} ({VARIABLE}): {error}") from error
    sections: dict[str, typing.Any] = {}
    kinds = {field.name: type(field.default) for field in dataclasses.fields(Settings)}
    for name, table in found.items():
        if name not in kinds:
            raise SettingsError(f"{path}: there is no section {name}: there are {', '.join(kinds)}")
        sections[name] = _section(path, name, kinds[name], table)
    return Settings(**sections)


def _section(path: pathlib.Path, name: str, kind: type, table: object) -> object:
    if not isinstance(table, dict):
        raise SettingsError(f"{path}: {name} is no section")
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    values: dict[str, typing.Any] = {}
    for key, value in table.items():
        where = f"{path}: {name}.{key}"
        if key not in defaults:
            raise SettingsError(f"{where} is not known: there are {', '.join(defaults)}")
        values[key] = _value(where, defaults[key], value)
    for key in ("password", "token"):
        file = values.get(f"{key}_file")
        if file:
            try:
                values[key] = pathlib.Path(os.path.expandvars(file)).read_text().strip()
            except OSError as error:
                raise SettingsError(f"{path}: {name}.{key}_file: {error}") from error
    return kind(**values)


def _value(where: str, default: object, value: object) -> object:
    if isinstance(default, tuple):
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise SettingsError(f"{where} must be a list of strings")
        if not value:
            raise SettingsError(f"{where} must not be empty")
        return tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        raise SettingsError(f"{where} must be of type {type(default).__name__}, not {value!r}")
    if isinstance(value, int | float) and value < 0:
        raise SettingsError(f"{where} must not be negative, not {value}")
    return value
