"""Servers of a few lines that answer what a test wants: the producer's admin address, an SMTP server."""

import collections.abc
import contextlib
import http.server
import json
import socketserver
import threading


class Producer:
    """An admin address with a checkpoint that advances, or does not."""

    def __init__(self) -> None:
        self.ready = True
        self.advances = True
        self.checkpoint = 1000
        self.replays: list[dict[str, int]] = []
        self.replay_error = ""
        self.token = "secret"

    def metrics(self) -> str:
        """In Prometheus' text format."""
        if self.advances:
            self.checkpoint += 10
        return (
            f"flight_producer_source_checkpoint_offset {self.checkpoint}\n"
            "flight_producer_source_lag_events 7\n"
        )


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
            producer.replays.append(json.loads(body))
            self.answer(202, json.dumps({"id": "r1", "state": "running", "sent": 0, "total": 5}))

        def answer(self, status: int, body: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    with _served(server):
        yield f"http://127.0.0.1:{server.server_address[1]}"


@contextlib.contextmanager
def _served(server: socketserver.BaseServer) -> collections.abc.Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
