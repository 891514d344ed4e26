"""Where metrics are had: an HTTP endpoint that Prometheus scrapes, or a push gateway for jobs too short for that."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.error import HTTPError

from prometheus_client import CollectorRegistry, push_to_gateway
from prometheus_client.exposition import default_handler

from cyclesr_dist.config.credentials import PUSH_PASSWORD, PUSH_TOKEN, PUSH_USER
from cyclesr_dist.config.schema import Listening
from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.redact import redact
from cyclesr_dist.telemetry.access import metrics_token, push_headers, tls_context
from cyclesr_dist.telemetry.server import Server

_PUSH_TIMEOUT_SECONDS = 5.0
_LAST_PORT = 65535


class Endpoint:
    """`/metrics` on `telemetry.host`, port `telemetry.port` + `offset`; with port 0 nothing listens.

    Over TLS with `telemetry.tls_certificate`; with CYCLESR_METRICS_TOKEN in the environment only who sends it as a
    bearer token may read. Raises InputError when the port is taken and so are the `telemetry.port_search` ones behind
    it, when the host is none of this machine, or when certificate, key or token cannot be used.
    """

    def __init__(self, telemetry: Listening, offset: int, registry: CollectorRegistry) -> None:
        self.port = 0
        """The port that it got; 0: none."""
        if not telemetry.port:
            return
        first = telemetry.port + offset
        last = min(first + telemetry.port_search, _LAST_PORT)
        if first > _LAST_PORT:
            raise InputError(
                f"telemetry.port = {telemetry.port}: rank {offset} of this machine would listen on {first}; give a "
                f"port of at most {_LAST_PORT} less the ranks of a machine"
            )
        tls, token = tls_context(telemetry), metrics_token()
        for port in range(first, last + 1):
            try:
                self._server = Server(telemetry.host, port, registry, tls, token)
            except (OSError, OverflowError) as error:
                if port < last and getattr(error, "errno", None) == errno.EADDRINUSE:
                    continue
                ports = f"{telemetry.host}:{first}" + (f" to {last}" if last > first else "")
                raise InputError(
                    f"telemetry.port: cannot listen on {ports}: {error}; give another port, or telemetry.port_search=N "
                    "to try the N ports behind it"
                ) from error
            self.port = port
            return

    def close(self) -> None:
        if self.port:
            self._server.stop()
            self.port = 0


class Pusher:
    """Pushes a registry to the push gateway at `url` every `every_seconds`, and once more at the end.

    In a thread of its own: a gateway that is slow or gone never holds a step, and the end of the run for seconds alone.
    The first failure is told to `warn`. Who pushes stands in the environment, see `push_headers`; a CA that only
    this machine knows in the file that SSL_CERT_FILE names.
    """

    def __init__(
        self,
        url: str,
        labels: Mapping[str, str],
        registry: CollectorRegistry,
        warn: Callable[[str], None],
        every_seconds: float = 30.0,
    ) -> None:
        """An empty `url` is none, and nothing is pushed. Raises InputError for credentials that cannot be used."""
        self.url, self.labels, self.registry, self.warn = url, labels, registry, warn
        self.every_seconds = every_seconds
        self._headers = push_headers() if url else ()
        self._failed = False
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="push", daemon=True) if url else None
        if self._thread:
            self._thread.start()

    def close(self) -> None:
        """Push what there is now. It stays at the gateway, which is what a gateway is for."""
        if self._thread:
            self._closed.set()
            self._thread.join(_PUSH_TIMEOUT_SECONDS + 1)  # looking up a name has no timeout of its own

    def _run(self) -> None:
        while not self._closed.wait(self.every_seconds):
            self._push()
        self._push()

    def _push(self) -> None:
        try:
            push_to_gateway(
                self.url,
                "cyclesr",
                self.registry,
                grouping_key=dict(self.labels),
                timeout=_PUSH_TIMEOUT_SECONDS,
                handler=self._handler,
            )
        except Exception as error:  # whatever the network does: a metric is no reason to stop a training
            if not self._failed:
                self._failed = True
                refused = isinstance(error, HTTPError) and error.code in (401, 403)
                hint = f"; {PUSH_USER} and {PUSH_PASSWORD}, or {PUSH_TOKEN}, say who pushes" if refused else ""
                text = f"telemetry.push_gateway: {self.url} does not take the metrics: {_first_line(error)}{hint}"
                self.warn(redact(text))

    def _handler(
        self, url: str, method: str, timeout: float | None, headers: Sequence[tuple[str, str]], data: bytes
    ) -> Callable[[], None]:
        return default_handler(url, method, timeout, [*headers, *self._headers], data)


def _first_line(error: Any) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
