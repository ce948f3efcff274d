"""Small HTTP servers on this machine's loopback, in threads of the test's own process."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable


class Handler(BaseHTTPRequestHandler):
    """Answers requests on behalf of `owner`; nothing is logged."""

    owner: object

    def __init__(self, owner: object, *connection: object) -> None:
        self.owner = owner
        super().__init__(*connection)  # type: ignore[arg-type]  # as socketserver gives it; this answers, too

    def do_GET(self) -> None:
        """See http.server."""
        self.get()

    def get(self) -> None:
        """Answer a GET."""
        raise NotImplementedError

    def answer(self, status: int, data: bytes, headers: Iterable[tuple[str, str]] = ()) -> None:
        """Send a whole answer."""
        self.send_response(status)
        for header in (*headers, ("Content-Length", str(len(data)))):
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        """Don't."""


class Server:
    """A server that runs until `close`. `host`: its address and port; `handler`: what makes a Handler of it."""

    def __init__(self, handler: Callable[..., Handler]) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *connection: handler(self, *connection))
        self.host = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def encrypt(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
