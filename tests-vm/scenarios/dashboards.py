"""Grafana answers every panel, through its own data sources."""

import json
import re
import time
import typing

from scenarios.platform import Platform

# What the pages put in for variables before they ask; the macros are expanded by the data sources.
VARIABLES = {"area": "-180 -90 180 90", "host": ".*"}


def filled(text: str, values: dict[str, str]) -> str:
    """A query with values in place of variables, texts quoted where they go into SQL."""

    def value(match: re.Match[str]) -> str:
        found = values[match["name"]]
        if match["format"] == "sqlstring":
            return "'" + found.replace("'", "''") + "'"
        return found

    return re.sub(r"\$\{?(?P<name>[a-z]+)(?::(?P<format>[a-z]+))?\}?", value, text)


def grafana_answers(
    platform: Platform, grafana: str, dashboards: list[dict[str, typing.Any]]
) -> None:
    """Every panel of every dashboard, which must be provisioned, too."""
    account = ("-u", "admin:admin")
    known = json.loads(platform.curl(f"{grafana}/api/search?tag=contrail", *account))
    uids = {one["uid"] for one in known}
    assert uids >= {dashboard["uid"] for dashboard in dashboards}, f"provisioned: {sorted(uids)}"
    table = "flight_data.flight_positions"
    values = VARIABLES | {
        "source": platform.query(f"SELECT max(source) FROM {table}"),
        "callsign": platform.query(f"SELECT max(callsign) FROM {table}"),
    }
    asked = 0
    for dashboard in dashboards:
        for panel in dashboard["panels"]:
            for target in panel.get("targets", ()):
                query = target | {"intervalMs": 15000, "maxDataPoints": 500}
                for key in ("rawSql", "expr"):
                    if key in query:
                        query[key] = filled(query[key], values)
                since = panel.get("timeFrom") or "1h"
                body = json.dumps({"from": f"now-{since}", "to": "now", "queries": [query]})
                headers = ("-H", "Content-Type: application/json")
                began = time.monotonic()
                text = platform.curl(f"{grafana}/api/ds/query", *account, *headers, "-d", body)
                result = json.loads(text)["results"][target["refId"]]
                name = f"{dashboard['title']}: {panel['title']}"
                assert "error" not in result, f"{name}: {result['error']}"
                assert result["frames"], f"{name}: no frame"
                took = time.monotonic() - began
                assert took < 30, f"{name}: {took:.1f} s"
                asked += 1
    platform.node.log(f"Grafana answered {asked} questions of {len(dashboards)} dashboards")


def prometheus_watches(platform: Platform, prometheus: str, rules: list[str]) -> None:
    """Prometheus has every rule, tells Alertmanager, and accounts for every event."""

    def ask(path: str) -> typing.Any:
        return json.loads(platform.curl(f"{prometheus}/api/v1/{path}"))["data"]

    loaded = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in loaded} >= set(rules), loaded
    assert all(rule["health"] in ("ok", "unknown") for rule in loaded), loaded
    assert ask("alertmanagers")["activeAlertmanagers"], "Prometheus knows no Alertmanager"
    for metric in (
        "contrail_account_missing_events",
        "contrail_account_duplicated_events",
        "contrail_ingester_lag_records",
        "contrail_newest_position_timestamp_seconds",
        "node_filesystem_avail_bytes",
    ):
        end = time.monotonic() + 120
        while not (found := ask(f"query?query={metric}")["result"]):
            assert time.monotonic() < end, f"Prometheus has no {metric}"
            time.sleep(2)
        if metric.startswith("contrail_account"):
            assert all(one["value"][1] == "0" for one in found), found
