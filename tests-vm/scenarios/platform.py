"""The platform as scenarios see it: a machine, and where on it the services answer."""

import json
import shlex
import time
import typing


class Node(typing.Protocol):
    """What scenarios need of the machine: methods of the NixOS test driver."""

    def execute(self, command: str) -> tuple[int, str]:
        """Runs a command; its exit status and standard output."""

    def succeed(self, *commands: str, timeout: int | None = None) -> str:
        """Runs commands that must succeed."""

    def fail(self, *commands: str, timeout: int | None = None) -> str:
        """Runs commands that must fail."""

    def wait_until_succeeds(self, command: str, timeout: int = 900) -> str:
        """Runs a command again and again until it succeeds."""

    def systemctl(self, q: str) -> tuple[int, str]:
        """Asks the service manager."""

    def wait_for_unit(self, unit: str) -> None:
        """Waits until a unit is active."""

    def log(self, msg: str) -> None:
        """Says something in the test's log."""


class Platform:
    """One machine with the whole pipeline on it."""

    def __init__(
        self,
        node: Node,
        contrail: str = "contrail",
        clickhouse: str = "http://127.0.0.1:8123",
        registry: str = "http://127.0.0.1:8081",
        ports: dict[str, int] | None = None,
        user: str = "default",
        password: str = "admin",
        replay_token: str = "/run/contrail-credentials/replay-token",
    ) -> None:
        self.node = node
        self.contrail = contrail
        self.clickhouse = clickhouse
        self.registry = registry
        self.ports = ports or {"mock": 8000, "producer": 8001, "ingester": 8002}
        self.user = user
        self.password = password
        self.replay_token = replay_token

    def curl(self, url: str, *options: str) -> str:
        """What a URL answers; anything but success fails."""
        words = ["curl", "-sS", "--fail-with-body", "--max-time", "60", *options, url]
        return self.node.succeed(shlex.join(words))

    def query(self, sql: str) -> str:
        """The answer of ClickHouse to one statement."""
        account = f"{self.user}:{self.password}"
        return self.curl(self.clickhouse + "/", "-u", account, "--data-binary", sql).strip()

    def positions(self) -> int:
        """Rows in the table of positions."""
        return int(self.query("SELECT count() FROM flight_data.flight_positions"))

    def wait_until_ready(self, timeout: int = 300) -> None:
        """Waits until every service of the pipeline says that it can do its work."""
        end = time.monotonic() + timeout
        for service, port in self.ports.items():
            command = f"curl -s --max-time 10 http://127.0.0.1:{port}/readyz"
            while '"ready":true' not in (answer := self.node.execute(command)[1]):
                if time.monotonic() > end:
                    raise RuntimeError(f"flight-{service} is not ready after {timeout} s: {answer}")
                time.sleep(0.5)

    def wait_for_rows(self, more_than: int, timeout: int = 120) -> int:
        """Waits until the table holds more rows than so many; how many it holds then."""
        end = time.monotonic() + timeout
        while (rows := self.positions()) <= more_than:
            if time.monotonic() > end:
                raise RuntimeError(f"{rows} rows in the table, wanted more than {more_than}")
            time.sleep(0.5)
        return rows

    def newest_age_s(self) -> int:
        """How old the newest position is, in seconds."""
        newest = "SELECT max(timestamp) FROM flight_data.flight_positions"
        return int(self.query(f"SELECT dateDiff('second', ({newest}), now64(3))"))

    def look_for_gaps(self, *options: str) -> dict[str, typing.Any]:
        """What `contrail gaps` reports."""
        command = shlex.join([self.contrail, "gaps", "--json", *options])
        status, output = self.node.execute(command)
        if status not in (0, 1):
            raise RuntimeError(f"{command} cannot tell ({status})")
        report: dict[str, typing.Any] = json.loads(output)
        assert (status == 1) == bool(report["gaps"]), output
        return report

    def gaps(self, *options: str) -> list[dict[str, typing.Any]]:
        """What is missing."""
        gaps: list[dict[str, typing.Any]] = self.look_for_gaps("--wait", "120", *options)["gaps"]
        return gaps

    def pending(self) -> int:
        """Events that were passed over in an outage and are not there yet; none is missing."""
        report = self.look_for_gaps("--wait", "1")
        assert report["missing"] == 0, report
        return int(report["pending"])

    def replay(self, first: int, last: int) -> None:
        """Has the producer send events again, and waits until they are sent."""
        token = self.node.succeed(f"cat {shlex.quote(self.replay_token)}").strip()
        url = f"http://127.0.0.1:{self.ports['producer']}/v1/replays"
        options = ("-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json")
        body = json.dumps({"first": first, "last": last})
        replay = json.loads(self.curl(url, *options, "-d", body))
        end = time.monotonic() + 120
        while replay["state"] == "running":
            if time.monotonic() > end:
                raise RuntimeError(f"the replay is not done after 120 s: {replay}")
            time.sleep(0.5)
            replay = json.loads(self.curl(f"{url}/{replay['id']}", *options))
        assert replay["state"] == "done", replay

    def verify(self, sample: str = "10000") -> dict[str, typing.Any]:
        """The account of every event, which must be clean."""
        command = f"{self.contrail} verify --wait 120 --sample {sample}"
        status, output = self.node.execute(command)
        if status != 0:
            raise RuntimeError(f"{command} found fault ({status}): {output[-4000:]}")
        report: dict[str, typing.Any] = json.loads(output)
        for source in report["sources"]:
            self.node.log(
                f"{source['source']}: {source['distinct']} of {source['expected']} events"
            )
            assert source["expected"] > 0, "nothing was sent"
            assert source["distinct"] == source["expected"]
        return report
