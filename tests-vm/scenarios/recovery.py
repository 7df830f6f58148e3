"""Whatever is killed, every event is in the table once."""

import json
import time

from scenarios.platform import Platform


def kill(platform: Platform, unit: str) -> None:
    """Kills a service as a power cut would; its supervisor starts it again."""
    status, output = platform.node.systemctl(f"kill --signal=SIGKILL {unit}.service")
    assert status == 0, f"{unit} cannot be killed: {output}"


def survives_kills(platform: Platform, units: tuple[str, ...], rounds: int = 1) -> None:
    """Kills each service in turn while events flow; each time rows go on coming."""
    for _ in range(rounds):
        for unit in units:
            before = platform.wait_for_rows(0)
            kill(platform, unit)
            time.sleep(1)
            platform.node.wait_for_unit(f"{unit}.service")
            platform.wait_until_ready()
            platform.wait_for_rows(max(before, platform.wait_for_rows(0)))


def survives_an_outage(platform: Platform, unit: str, seconds: int) -> None:
    """Stops a service for a time; what came meanwhile is caught up with."""
    status, output = platform.node.systemctl(f"stop {unit}.service")
    assert status == 0, f"{unit} cannot be stopped: {output}"
    time.sleep(seconds)
    status, output = platform.node.systemctl(f"start {unit}.service")
    assert status == 0, f"{unit} cannot be started: {output}"
    platform.node.wait_for_unit(f"{unit}.service")
    platform.wait_until_ready()
    platform.wait_for_rows(platform.wait_for_rows(0))


def gaps_are_found_and_mended(platform: Platform) -> None:
    """Rows that are gone are named, and are there again once the producer was asked for them."""
    platform.wait_for_rows(2000)
    assert platform.gaps() == []
    table = "flight_data.flight_positions"
    last = int(platform.query(f"SELECT max(source_offset) - 1000 FROM {table}"))
    first = last - 99
    condition = f"source_offset BETWEEN {first} AND {last}"
    platform.query(f"ALTER TABLE {table} DELETE WHERE {condition} SETTINGS mutations_sync = 1")
    gaps = platform.gaps("--full")
    found = [(gap["first"], gap["last"], gap["where"]) for gap in gaps]
    assert found == [(first, last, "clickhouse")], gaps
    for _ in range(2):
        platform.replay(first, last)
        assert platform.gaps() == []
    rows = platform.query(f"SELECT count() FROM {table} WHERE {condition}")
    assert rows == "100", f"{rows} rows, wanted 100"


def no_dead_letters(platform: Platform) -> None:
    """Nothing that was killed made a record unreadable."""
    letters = json.loads(platform.node.succeed(f"{platform.contrail} dlq list --json"))
    assert letters == [], letters
