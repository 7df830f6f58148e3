"""Servers of a few lines that answer what a test wants: the producer's admin address, a source, an SMTP server."""

import collections.abc
import contextlib
import http.server
import json
import socket
import socketserver
import threading
import typing

import world
from contrail_dags import clickhouse, settings
from contrail_dags import http as http_client

assert world.ROOT


class Producer:
    """An admin address with a checkpoint that advances, or does not."""

    def __init__(self) -> None:
        self.ready = True
        self.advances = True
        self.checkpoint = 1000
        self.replays: list[dict[str, typing.Any]] = []
        self.replay_error = ""
        # What it reads, and from where on.
        self.source = "s"
        self.begins_at = 0
        self.token = "secret"

    def metrics(self) -> str:
        """In Prometheus' text format."""
        if self.advances:
            self.checkpoint += 10
        return (
            f"flight_producer_source_checkpoint_offset {self.checkpoint}\n"
            "flight_producer_source_lag_events 7\n"
        )


class Clickhouse(clickhouse.Client):
    """Takes every statement, and keeps it."""

    def __init__(self) -> None:
        super().__init__(settings.Clickhouse())
        self.statements: list[str] = []

    def execute(self, statement: str, **parameters: clickhouse.Value) -> None:
        self.statements.append(statement)


@contextlib.contextmanager
def admin(producer: Producer) -> collections.abc.Iterator[str]:
    """Serves it; its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/readyz":
                unmet = {} if producer.ready else {"kafka": "no broker answers"}
                body = json.dumps({"ready": producer.ready, "unmet": unmet})
                self.answer(200 if producer.ready else 503, body)
            elif self.path == "/metrics":
                self.answer(200, producer.metrics())
            else:
                state = "failed" if producer.replay_error else "done"
                body = json.dumps(
                    {
                        "id": "r1",
                        "state": state,
                        "sent": 5,
                        "total": 5,
                        "error": producer.replay_error,
                    }
                )
                self.answer(200, body)

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers["Authorization"] != f"Bearer {producer.token}":
                self.answer(401, "who are you?")
                return
            wanted = json.loads(body)
            if wanted["source"] != producer.source:
                said = f"source {wanted['source']} is not there any more: the producer reads {producer.source}"
                self.answer(400, json.dumps({"error": said}))
                return
            if min(first for first, _ in wanted["ranges"]) < producer.begins_at:
                refusal = {"error": "before the beginning", "begins_at": producer.begins_at}
                self.answer(400, json.dumps(refusal))
                return
            producer.replays.append(wanted)
            self.answer(202, json.dumps({"id": "r1", "state": "running", "sent": 0, "total": 5}))

        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with _served(server) as port:
        yield f"http://127.0.0.1:{port}"


class Source:
    """Stands before flight-mock, and says of it that it begins at `begins_at`: a source that forgot events."""

    def __init__(self) -> None:
        self.begins_at = 0
        # Where flight-mock listens on the loopback.
        self.target = 0

    def answer(self, client: socket.socket) -> None:
        """One connection."""
        head = b""
        while b"\r\n\r\n" not in head:
            if not (part := client.recv(4096)):
                return
            head += part
        if head.startswith(b"GET /v1/source "):
            url = f"http://127.0.0.1:{self.target}/v1/source"
            found = json.loads(http_client.ask(url).text) | {"origin": self.begins_at}
            body = json.dumps(found).encode()
            client.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
                + f"Content-Length: {len(body)}\r\n\r\n".encode()
                + body
            )
            return
        with socket.create_connection(("127.0.0.1", self.target)) as server:
            server.sendall(head)
            back = threading.Thread(target=_pass_on, args=(server, client), daemon=True)
            back.start()
            _pass_on(client, server)
            back.join()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := one.recv(1 << 16):
            other.sendall(part)
    for end in (one, other):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def forgetful(source: Source) -> collections.abc.Iterator[str]:
    """Serves it; its address."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError, http_client.HttpError):
                source.answer(self.request)

    with _served(_Threads(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def smtp(refusals: dict[str, str]) -> collections.abc.Iterator[int]:
    """An SMTP server that refuses some verbs in these words; its port."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 ready\r\n")
            while line := self.rfile.readline().decode().strip():
                verb = line.split()[0].upper()
                answer = "250-here\r\n250 AUTH PLAIN LOGIN" if verb == "EHLO" else "250 ok"
                self.wfile.write(f"{refusals.get(verb, answer)}\r\n".encode())

    with _served(_Threads(("127.0.0.1", 0), Handler)) as port:
        yield port


class _Threads(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False


@contextlib.contextmanager
def _served(server: socketserver.TCPServer) -> collections.abc.Iterator[int]:
    """Serves it meanwhile; its port."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
