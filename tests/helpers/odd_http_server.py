"""An HTTP server of files that treats parts of files in its own way, and counts the bytes that it sends of bodies."""

from __future__ import annotations

import gzip
import http.server
import re
import threading
import time
from collections import Counter
from functools import partial
from pathlib import Path

from helpers.local_server import LocalServer

WAYS = ("none", "sometimes", "longer", "gzip", "redirect")
_SLOW_SECONDS = 0.04


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: OddServer

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        way = self.server.way
        if self.server.refuses(name):
            self.send_error(403)
            return
        if way == "slow" and name.endswith(".tar"):
            threading.Event().wait(_SLOW_SECONDS)
        if way == "redirect" and not self.path.startswith("/there"):
            self.send_response(302)
            self.send_header("Location", f"/there{self.path}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        path = Path(self.translate_path(self.path.removeprefix("/there")))
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked and way != "none" and not self.server.ignores_this(name):
            first, last = int(asked[1]), int(asked[2])
            last += 100 if way == "longer" else 0
            body = data[first : last + 1]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(data)}")
        else:
            self.send_response(200)
            body = data
        if way == "gzip" and name.endswith(".tar"):
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.server.sent(name, len(body))
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet."""


class OddServer(LocalServer):
    """`way`: one of WAYS, "slow" for one whose every answer of a tar takes its time, or "" for an ordinary server."""

    daemon_threads = True

    def __init__(self, folder: Path, way: str = "") -> None:
        super().__init__(("127.0.0.1", 0), partial(_Handler, directory=str(folder)))
        self.way = way
        self.num_bytes: Counter[str] = Counter()
        self.num_refused = 0
        self._refuses_until: float | None = None
        self._seconds = 0.0
        self._num_asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def refuse_tars(self, seconds: float) -> None:
        """All requests for tars, from the next one on, for so long."""
        self._seconds, self._refuses_until = seconds, None

    def refuses(self, name: str) -> bool:
        with self._lock:
            if not self._seconds or not name.endswith(".tar"):
                return False
            if self._refuses_until is None:
                self._refuses_until = time.monotonic() + self._seconds
            refused = time.monotonic() < self._refuses_until
            self.num_refused += refused
            return refused

    def ignores_this(self, name: str) -> bool:
        """Every third request for a part, the way "sometimes"."""
        with self._lock:
            self._num_asked[name] += 1
            return self.way == "sometimes" and self._num_asked[name] % 3 == 2

    def sent(self, name: str, num_bytes: int) -> None:
        with self._lock:
            self.num_bytes[name.rpartition(".")[2]] += num_bytes
