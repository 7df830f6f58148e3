"""Whatever is killed, every event is in the table once."""

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
