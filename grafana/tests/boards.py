"""The dashboards as Grafana gets them, and their queries as its ClickHouse plugin sends them."""

import dataclasses
import datetime
import json
import pathlib
import re
import sys
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "grafana/dashboards"
# Whoever has this module has what other tests of the project offer.
for folder in ("airflow", "airflow/tests", "tests-vm"):
    sys.path.insert(0, str(ROOT / folder))
Json = dict[str, typing.Any]
# Data points of a panel that does not say how many it wants.
POINTS = 1000
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def dashboards() -> dict[str, Json]:
    """Every dashboard, by the name of its file."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


@dataclasses.dataclass(frozen=True)
class Target:
    """A query of a panel."""

    dashboard: str
    panel: Json
    query: Json

    def __str__(self) -> str:
        return f"{self.dashboard}: {self.panel['title']} ({self.query['refId']})"


def targets(kind: str) -> list[Target]:
    """Every query to data sources of a type."""
    return [
        Target(uid, panel, query)
        for uid, dashboard in dashboards().items()
        for panel in dashboard["panels"]
        for query in panel.get("targets", ())
        if query["datasource"]["type"] == kind
    ]


def variables(kind: str) -> list[tuple[str, str, str]]:
    """Dashboard, name and query of every variable that asks data sources of a type."""
    return [
        (uid, variable["name"], variable["query"])
        for uid, dashboard in dashboards().items()
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query" and variable["datasource"]["type"] == kind
    ]


def duration(text: str) -> datetime.timedelta:
    """What `7d` means."""
    return datetime.timedelta(seconds=int(text[:-1]) * SECONDS[text[-1]])


def shown(target: Target, now: datetime.datetime) -> tuple[datetime.datetime, datetime.datetime]:
    """The time that a panel shows when its dashboard is opened."""
    since = dashboards()[target.dashboard]["time"]["from"].removeprefix("now-")
    return now - duration(target.panel.get("timeFrom") or since), now


def quoted(text: str) -> str:
    """A text for SQL, as the format `sqlstring` makes it."""
    return "'" + text.replace("'", "''") + "'"


def expand(
    sql: str,
    since: datetime.datetime,
    until: datetime.datetime,
    values: dict[str, str | list[str]],
    points: int = POINTS,
) -> str:
    """A query with the values of variables and with the plugin's macros, as ClickHouse gets it."""
    # Grafana rounds to steps that people like; for the query it is a number of seconds of at least one.
    interval = max(1, int((until - since).total_seconds()) // points)
    start, end = (f"toDateTime({int(time.timestamp())})" for time in (since, until))
    days = tuple(time.astimezone(datetime.UTC).date().isoformat() for time in (since, until))

    def variable(match: re.Match[str]) -> str:
        value = values[match["name"]]
        chosen = [value] if isinstance(value, str) else value
        if match["format"] == "sqlstring":
            return ",".join(quoted(one) for one in chosen)
        raise ValueError(f"{match[0]}: texts go into SQL in the format sqlstring only")

    sql = re.sub(r"\$\{(?P<name>[a-z]+)(?::(?P<format>[a-z]+))?\}", variable, sql)

    def macro(match: re.Match[str]) -> str:
        column = match["column"]
        made = {
            "fromTime": start,
            "toTime": end,
            "interval_s": str(interval),
            "timeFilter": f"{column} >= {start} AND {column} <= {end}",
            "dateFilter": f"{column} >= toDate('{days[0]}') AND {column} <= toDate('{days[1]}')",
            "timeInterval": f"toStartOfInterval(toDateTime({column}), INTERVAL {interval} second)",
        }
        if (match["name"] in ("timeFilter", "dateFilter", "timeInterval")) != bool(column):
            raise ValueError(f"{match[0]}: wrong number of arguments")
        return made[match["name"]]

    sql = re.sub(r"\$__(?P<name>[a-zA-Z_]+)(?:\((?P<column>[A-Za-z_]+)\))?", macro, sql)
    if left := re.search(r"\$\S*", sql):
        raise ValueError(f"not expanded: {left[0]}")
    return sql
