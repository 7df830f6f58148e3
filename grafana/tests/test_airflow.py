"""Panels about Airflow itself, on a real Prometheus that reads what Airflow told by way of a StatsD exporter.

The local stack has no such exporter. The VM test airflow-failure asks the same of the real ones, and the file was
written down there.
"""

import contextlib
import functools
import http.server
import json
import math
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import typing
import unittest
import urllib.parse

import boards
from contrail_dags import http as client
from local import wait_for

TOLD = pathlib.Path(__file__).with_name("airflow_metrics.txt")
UID = "contrail-airflow"
CONFIGURATION = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: airflow
    metrics_path: /{path}
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files, and logs nothing."""

    def log_message(self, format: str, *arguments: typing.Any) -> None:
        """Nobody reads it."""


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


@contextlib.contextmanager
def exporter() -> typing.Iterator[int]:
    """The port of what serves the file."""
    handler = functools.partial(Quiet, directory=str(TOLD.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@contextlib.contextmanager
def prometheus() -> typing.Iterator[str]:
    """The address of a Prometheus that reads the file."""
    with exporter() as port, tempfile.TemporaryDirectory(prefix="contrail-prometheus-") as folder:
        file = pathlib.Path(folder) / "prometheus.yml"
        file.write_text(CONFIGURATION.format(path=TOLD.name, port=port))
        address = f"127.0.0.1:{free_port()}"
        command = [
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
        process = subprocess.Popen(command)
        try:
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait(30)


def ask(address: str, expression: str) -> list[dict[str, typing.Any]]:
    """What Prometheus answers; nothing while it starts."""
    url = f"{address}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
    try:
        answer = client.ask(url)
    except client.HttpError:
        return []
    if answer.status == 503:
        return []
    found: list[dict[str, typing.Any]] = json.loads(answer.text)["data"]["result"]
    return found


class AirflowItself(unittest.TestCase):
    """Every question to Prometheus of the dashboard."""

    def test_every_question_has_an_answer(self) -> None:
        wanted = [t for t in boards.targets("prometheus") if t.dashboard == UID]
        self.assertTrue(wanted)
        with prometheus() as address:
            scraped = "count_over_time(up[1m]) >= 3 and up == 1"
            wait_for("three readings", 60, lambda: ask(address, scraped))
            for target in wanted:
                with self.subTest(str(target)):
                    expression = target.query["expr"].replace("$__rate_interval", "20s")
                    self.assertNotIn("$", expression)
                    answer = ask(address, expression)
                    self.assertTrue(answer, expression)
                    values = [float(series["value"][1]) for series in answer]
                    self.assertTrue(all(map(math.isfinite, values)), f"{expression}: {values}")
                    named = {
                        label for label in target.query["legendFormat"].split() if "{" in label
                    }
                    for series in answer:
                        labels = {
                            f"{{{{{name}}}}}" for name, text in series["metric"].items() if text
                        }
                        self.assertLessEqual(named, labels, series)
        print(f"{len(wanted)} questions about Airflow itself, all answered", file=sys.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-v"])
