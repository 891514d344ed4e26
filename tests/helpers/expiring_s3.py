"""An S3 server behind one that refuses expired keys."""

from __future__ import annotations

import http.client
import http.server
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

_EXPIRED = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>ExpiredToken</Code>'
    b"<Message>The provided token has expired.</Message></Error>"
)


class Guard(http.server.ThreadingHTTPServer):
    """Passes requests on, but refuses those that are signed with an expired key."""

    daemon_threads = True

    def __init__(self, host: str, port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind = (host, port)
        self.expired = ""
        self.credentials: Path | None = None
        """Where a new key is written at the first refusal."""
        self.num_refused = 0


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Guard

    def _pass_on(self) -> None:
        guard = self.server
        if guard.expired and f"Credential={guard.expired}/" in self.headers.get("Authorization", ""):
            guard.num_refused += 1
            if guard.credentials:
                write_key(guard.credentials, "NEW")
            self._answer(400, [("Content-Type", "application/xml")], _EXPIRED)
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = http.client.HTTPConnection(*guard.behind)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        content = answer.read()
        left_out = ("content-length", "transfer-encoding", "connection", "date", "server")
        self._answer(answer.status, [(k, v) for k, v in answer.getheaders() if k.lower() not in left_out], content)
        connection.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _pass_on  # noqa: N815  # the names that http.server calls

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: object) -> None:
        """Quiet."""


def write_key(path: Path, key: str) -> None:
    path.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")


@contextmanager
def guarded_bucket(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """An S3 server with the bucket `shards`, reached through a guard, with the key OLD from a credentials file in
    `folder`; for this process and what it starts."""
    import boto3

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    guard = Guard(*server.get_host_and_port())
    threading.Thread(target=guard.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{guard.server_address[1]}"
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        patch.delenv(name)
    write_key(folder / "credentials", "OLD")
    settings = {
        "AWS_SHARED_CREDENTIALS_FILE": str(folder / "credentials"),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(folder / "cache"),
        "no_proxy": "*",
    }
    for name, value in settings.items():
        patch.setenv(name, value)
    boto3.Session().client("s3", endpoint_url=endpoint).create_bucket(Bucket="shards")
    try:
        yield guard
    finally:
        guard.shutdown()
        guard.server_close()
        server.stop()
