"""A server that shows a certificate, and says nothing else."""

import contextlib
import pathlib
import socket
import ssl
import subprocess
import tempfile
import threading
import types
import typing


class TlsServer:
    """Listens on a free port of loopback, with a certificate that ends in so many days."""

    def __init__(self, days: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = pathlib.Path(folder, "key.pem"), pathlib.Path(folder, "cert.pem")
            subprocess.run(
                ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
                + ["-subj", "/CN=localhost", "-days", str(days)]
                + ["-keyout", str(key), "-out", str(certificate)],
                check=True,
                capture_output=True,
            )
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate, key)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.listener = context.wrap_socket(listener, server_side=True)
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        """Shakes hands until the listener is closed."""
        while self.listener.fileno() != -1:
            with contextlib.suppress(OSError):
                self.listener.accept()[0].close()

    def __enter__(self) -> typing.Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: types.TracebackType | None,
    ) -> None:
        # Wakes the thread, which does not see that the listener is closed.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
