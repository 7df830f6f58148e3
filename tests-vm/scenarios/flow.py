"""Events flow from the source into the table, and can be asked about."""

import json

from scenarios.platform import Platform

# The questions of the README, by the names of their files in sql/queries.
QUESTIONS = (
    "busiest_airspaces",
    "latest_position",
    "flight_path",
    "flights_in_area",
    "flights_by_hour",
    "altitude_by_hour",
    "popular_routes",
    "seasonal_pattern",
)
# Those that have no answer without rows, whatever flies where.
NEVER_EMPTY = {
    "busiest_airspaces",
    "flights_by_hour",
    "altitude_by_hour",
    "popular_routes",
    "seasonal_pattern",
}


def events_flow(platform: Platform) -> None:
    """Rows come, and go on coming."""
    platform.wait_until_ready()
    rows = platform.wait_for_rows(0)
    platform.wait_for_rows(rows)


def questions_are_answered(platform: Platform) -> None:
    """Each question of the README has an answer, with rows where there must be some."""
    for name in QUESTIONS:
        output = platform.node.succeed(f"{platform.contrail} query {name} --format JSON")
        answer = json.loads(output)
        assert answer["meta"], f"{name} has no columns"
        if name in NEVER_EMPTY:
            assert answer["rows"] > 0, f"{name} has no rows"


def registry_holds_the_schema(platform: Platform) -> None:
    """The schema is registered, and one that could not be read is refused."""
    subjects = json.loads(platform.curl(f"{platform.registry}/subjects"))
    assert "flight.positions-value" in subjects, subjects
    url = f"{platform.registry}/subjects/flight.positions-value/versions/latest"
    latest = json.loads(platform.curl(url))
    schema = json.loads(latest["schema"])
    assert schema["type"] == "record" and schema["fields"], schema
    level = json.loads(platform.curl(f"{platform.registry}/config"))["compatibilityLevel"]
    assert level == "BACKWARD", level


def metrics_are_served(platform: Platform) -> None:
    """Every service of the pipeline counts what it does."""
    wanted = {
        "mock": "flight_mock_",
        "producer": "flight_producer_",
        "ingester": "flight_ingester_",
    }
    for service, prefix in wanted.items():
        text = platform.curl(f"http://127.0.0.1:{platform.ports[service]}/metrics")
        assert prefix in text, f"{service} has no metric {prefix}*"
        assert "flight_ready 1" in text, f"{service} is not ready"
