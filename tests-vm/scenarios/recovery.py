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


def wait_until_caught_up(platform: Platform) -> None:
    """Waits until nothing is left of what the producer has passed over to be live."""
    end = time.monotonic() + 180
    while (left := platform.pending()) > 0:
        assert time.monotonic() < end, f"{left} events are still pending"
        time.sleep(0.5)


def catches_up_after_a_long_outage(platform: Platform, seconds: int) -> None:
    """Without the producer for a time; then live events come first, and what was missed is sent beside them.

    The producer's settings call what came in that time a long outage, and bound how fast it is caught up.
    """
    wait_until_caught_up(platform)
    status, output = platform.node.systemctl("stop flight-producer.service")
    assert status == 0, f"the producer cannot be stopped: {output}"
    time.sleep(seconds)
    status, output = platform.node.systemctl("start flight-producer.service")
    assert status == 0, f"the producer cannot be started: {output}"
    platform.node.wait_for_unit("flight-producer.service")
    end = time.monotonic() + 60
    while (age_s := platform.newest_age_s()) > 4:
        assert time.monotonic() < end, f"the newest event is {age_s} s old"
        time.sleep(0.2)
    passed_over = platform.pending()
    assert passed_over > 0, "live events came after what was missed, and not before it"
    # Killed in the middle, it goes on with what is left.
    kill(platform, "flight-producer")
    time.sleep(1)
    platform.node.wait_for_unit("flight-producer.service")
    platform.wait_until_ready()
    left = platform.pending()
    assert left < passed_over, f"{left} are pending, and were {passed_over} before"
    wait_until_caught_up(platform)
    platform.node.log(f"{passed_over} events were caught up beside live ones")
    assert platform.gaps("--full") == []


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
