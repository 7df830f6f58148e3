"""Runs the scenarios of the VM tests on the local stack: python3 tests-vm/local.py [SCENARIO...].

Starts `contrail up` with a state, ports and settings of its own, offers the methods of the NixOS test
driver over it, and stops it. Needs the programs of `make build` and the parts of `make parts`.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import typing
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from scenarios.flow import (
    events_flow,
    metrics_are_served,
    questions_are_answered,
    registry_holds_the_schema,
)
from scenarios.platform import Platform
from scenarios.recovery import (
    catches_up_after_a_long_outage,
    gaps_are_found_and_mended,
    no_dead_letters,
    survives_an_outage,
    survives_kills,
)

ROOT = pathlib.Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "target/release/contrail"
# What systemd calls each part of the local stack.
COMPONENTS = {
    "apache-kafka": "kafka",
    "schema-registry": "registry",
    "clickhouse": "clickhouse",
    "flight-mock": "mock",
    "flight-producer": "producer",
    "flight-ingester": "ingester",
}
READY_SECONDS = 150
# Some seconds are a long outage, and caught up with so slowly that it can be looked at.
SETTINGS = """
[producer.env]
FLIGHT_PRODUCER_CATCH_UP__AFTER_EVENTS = "5000"
FLIGHT_PRODUCER_CATCH_UP__MAX_EVENTS_PER_S = "800"
"""


def wait_for(what: str, limit_s: float, look: Callable[[], typing.Any]) -> typing.Any:
    """What a look finds, once it finds something."""
    end = time.monotonic() + limit_s
    while not (found := look()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {limit_s:g} s: {what}")
        time.sleep(0.3)
    return found


class LocalStack:
    """The methods of the NixOS test driver's Machine that scenarios use, over `contrail up`."""

    def __init__(self, *arguments: str, settings: str = "") -> None:
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="contrail-scenarios-"))
        (self.directory / "contrail.toml").write_text(settings)
        self.environment = os.environ | {
            "CONTRAIL_STATE": str(self.directory / "state"),
            "CONTRAIL_PORT_OFFSET": str(free_offset()),
            "PATH": f"{PROGRAM.parent}:{os.environ['PATH']}",
        }
        self.log_file = (self.directory / "up.log").open("w")
        self.up = subprocess.Popen(
            [PROGRAM, "up", *arguments],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self.log_file,
            stderr=subprocess.STDOUT,
        )

    def close(self, failed: bool) -> None:
        """Stops the stack, by its process."""
        self.up.send_signal(signal.SIGINT)
        try:
            self.up.wait(30)
        except subprocess.TimeoutExpired:
            self.up.kill()
            self.up.wait()
        self.log_file.close()
        if failed:
            print((self.directory / "up.log").read_text()[-4000:])
            print(f"what the stack left is in {self.directory}")
        else:
            shutil.rmtree(self.directory)

    def status(self) -> dict[str, str]:
        """What each part is at."""
        output = self.succeed("contrail status --json")
        return {part["name"]: part["state"] for part in json.loads(output)}

    def ports(self) -> dict[str, int]:
        """Where each part listens."""
        output = self.succeed("contrail status --json")
        return {part["name"]: int(part["port"]) for part in json.loads(output)}

    def platform(self) -> Platform:
        """The platform as scenarios see it, once it has started."""
        ports = self.ports()
        return Platform(
            self,
            clickhouse=f"http://127.0.0.1:{ports['clickhouse']}",
            registry=f"http://127.0.0.1:{ports['registry']}/apis/ccompat/v7",
            ports={name: ports[name] for name in ("mock", "producer", "ingester")},
            replay_token=str(self.directory / "state/producer/replay-token"),
        )

    def wait_until_started(self) -> None:
        """Waits for the line that says that everything is ready."""
        end = time.monotonic() + READY_SECONDS
        while " ready in " not in (text := (self.directory / "up.log").read_text()):
            if self.up.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"contrail up does not become ready:\n{text[-4000:]}")
            time.sleep(0.5)

    def execute(self, command: str, timeout: float | None = 900) -> tuple[int, str]:
        """Runs a command; its exit status and standard output."""
        run = subprocess.run(
            ["bash", "-c", f"set -o pipefail\n{command}"],
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            timeout=timeout,
            check=False,
        )
        return run.returncode, run.stdout

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        """Runs commands that must succeed."""
        output = ""
        for command in commands:
            status, text = self.execute(command, timeout)
            if status != 0:
                raise RuntimeError(f"`{command}` failed ({status}): {text[-2000:]}")
            output += text
        return output

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        """Runs commands that must fail."""
        output = ""
        for command in commands:
            status, text = self.execute(command, timeout)
            if status == 0:
                raise RuntimeError(f"`{command}` unexpectedly succeeded")
            output += text
        return output

    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str:
        """Runs a command again and again until it succeeds."""
        end = time.monotonic() + timeout
        while True:
            status, text = self.execute(command)
            if status == 0:
                return text
            if time.monotonic() > end:
                raise RuntimeError(f"`{command}` did not succeed in {timeout} s: {text[-2000:]}")
            time.sleep(0.5)

    def systemctl(self, q: str) -> tuple[int, str]:
        """Does what `systemctl` would, with the control of the local stack."""
        words = q.split()
        verb, unit = words[0], words[-1].removesuffix(".service")
        known = {"kill": "kill", "stop": "stop", "start": "start", "restart": "restart"}
        if verb not in known or unit not in COMPONENTS:
            raise RuntimeError(f"the local stack has nothing for `systemctl {q}`")
        if verb == "kill" and "--signal=SIGKILL" not in words:
            raise RuntimeError("the local stack kills with SIGKILL only")
        return self.execute(f"contrail {known[verb]} {COMPONENTS[unit]}")

    def wait_for_unit(self, unit: str) -> None:
        """Waits until a part runs and answers."""
        component = COMPONENTS[unit.removesuffix(".service")]
        end = time.monotonic() + READY_SECONDS
        while (state := self.status()[component]) != "ready":
            if time.monotonic() > end:
                raise RuntimeError(f"{component} is {state} after {READY_SECONDS} s")
            time.sleep(0.5)

    def log(self, msg: str) -> None:
        """Says something."""
        print(f"  {msg}", flush=True)


def free_offset() -> int:
    """An offset under which no port of the stack is in use."""
    used: set[int] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in pathlib.Path(table).read_text().splitlines()[1:]:
            used.add(int(line.split()[1].rsplit(":", 1)[1], 16))
    base = (
        8000,
        8001,
        8002,
        8003,
        8025,
        8081,
        8085,
        8123,
        8793,
        9090,
        9091,
        9092,
        9093,
        9094,
        5435,
        1025,
    )
    start = 2000 + os.getpid() % 200 * 100
    candidates: list[int] = [*range(start, 22000, 100), *range(2000, start, 100)]
    for offset in candidates:
        if not used & {port + offset for port in base}:
            return offset
    raise RuntimeError("every range of ports is in use")


def scenarios(platform: Platform) -> dict[str, Callable[[], object]]:
    """What is run, in this order."""
    services = ("flight-producer", "flight-ingester", "flight-mock")
    around = ("clickhouse", "schema-registry", "apache-kafka")
    return {
        "events_flow": lambda: events_flow(platform),
        "questions_are_answered": lambda: questions_are_answered(platform),
        "registry_holds_the_schema": lambda: registry_holds_the_schema(platform),
        "metrics_are_served": lambda: metrics_are_served(platform),
        "services_are_killed": lambda: survives_kills(platform, services),
        "systems_around_are_killed": lambda: survives_kills(platform, around),
        "clickhouse_is_away": lambda: survives_an_outage(platform, "clickhouse", 3),
        "catches_up_after_a_long_outage": lambda: catches_up_after_a_long_outage(platform, 25),
        "gaps_are_found_and_mended": lambda: gaps_are_found_and_mended(platform),
        "no_dead_letters": lambda: no_dead_letters(platform),
        "every_event_is_accounted_for": lambda: platform.verify("all"),
    }


def main() -> int:
    """Runs the scenarios that are named, or all."""
    if not PROGRAM.is_file():
        print(f"{PROGRAM} is missing: run `make build parts`", file=sys.stderr)
        return 2
    stack = LocalStack(settings=SETTINGS)
    failed = True
    try:
        stack.wait_until_started()
        known = scenarios(stack.platform())
        wanted = sys.argv[1:] or list(known)
        if unknown := [name for name in wanted if name not in known]:
            print(
                f"no scenario {', '.join(unknown)}: there are {', '.join(known)}", file=sys.stderr
            )
            return 2
        for number, name in enumerate(wanted):
            began = time.monotonic()
            try:
                known[name]()
            except Exception as error:  # noqa: BLE001, whatever it was, the scenario failed
                print(f"scenario {name} ... FAILED: {error}", flush=True)
                print(f"{number} passed, 1 failed")
                return 1
            print(f"scenario {name} ... ok ({time.monotonic() - began:.1f} s)", flush=True)
        print(f"{len(wanted)} passed, 0 failed")
        failed = False
        return 0
    finally:
        stack.close(failed)


if __name__ == "__main__":
    assert re.fullmatch(r"3\.(1[1-9]|[2-9]\d)\.\d+.*", sys.version.split()[0]), sys.version
    sys.exit(main())
