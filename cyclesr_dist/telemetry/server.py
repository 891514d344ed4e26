"""The HTTP server behind `/metrics`: over TLS and behind a token where these are given.

Every connection has a thread, in which its TLS handshake takes place: a client that connects and says nothing keeps
nobody waiting.
"""

from __future__ import annotations

import hmac
import socket
import ssl
import threading
from collections.abc import Iterable
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

HEALTH = "/healthy"
"""Answers without a token, and tells no more than that the process lives: for probes, which have none."""
_CLIENT_SECONDS = 10.0


class Server(ThreadingMixIn, WSGIServer):
    """Serves in a thread of its own until `stop`. Raises OSError and OverflowError when it cannot listen."""

    daemon_threads = True

    def __init__(
        self, host: str, port: int, registry: CollectorRegistry, tls: ssl.SSLContext | None, token: str
    ) -> None:
        """Without a `token` everybody may read."""
        self.tls = tls
        self.address_family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        super().__init__(address[:2], _Handler)  # type: ignore[arg-type]  # of IPv6 the stubs know more parts
        self.set_app(_application(registry, token))
        self._thread = threading.Thread(target=self.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """In the connection's own thread."""
        request.settimeout(_CLIENT_SECONDS)
        if self.tls is None:
            super().finish_request(request, client_address)
            return
        with self.tls.wrap_socket(request, server_side=True) as encrypted:
            super().finish_request(encrypted, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early, or speaks no TLS, is no matter of the run's."""


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Scrapes are not worth a line each."""


def _application(registry: CollectorRegistry, token: str) -> WSGIApplication:
    metrics: WSGIApplication = make_wsgi_app(registry)
    wanted = f"Bearer {token}".encode()

    def application(environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") == HEALTH:
            start("200 OK", [("Content-Type", "text/plain")])
            return [b"ok\n"]
        given = str(environ.get("HTTP_AUTHORIZATION", "")).encode("latin-1", "replace")
        if token and not hmac.compare_digest(given, wanted):
            start("401 Unauthorized", [("Content-Type", "text/plain"), ("WWW-Authenticate", "Bearer")])
            return [b"a bearer token is needed\n"]
        return metrics(environ, start)

    return application
