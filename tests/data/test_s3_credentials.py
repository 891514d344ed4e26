"""Credentials of S3 that expire in the middle of a run, and are rotated. An S3 server behind one that refuses."""

from __future__ import annotations

import http.client
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.shard_sets import build, save, texture
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from cyclesr_dist.config.schema import load
from cyclesr_dist.data.shards import ShardSet
from cyclesr_dist.errors import UnreachableError

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


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """An S3 server with a bucket, reached through a guard, with the key OLD from a credentials file."""
    import boto3

    server = ThreadedMotoServer(port=0)
    server.start()
    guard = Guard(*server.get_host_and_port())
    threading.Thread(target=guard.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{guard.server_address[1]}"
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    write_key(tmp_path / "credentials", "OLD")
    settings = {
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "no_proxy": "*",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    boto3.Session().client("s3", endpoint_url=endpoint).create_bucket(Bucket="shards")
    yield guard
    guard.shutdown()
    guard.server_close()
    server.stop()


def opened(tmp_path: Path, *overrides: str) -> tuple[ShardSet, ShardSet]:
    """A set in the bucket, and the same in a folder."""
    import boto3

    (tmp_path / "photos").mkdir()
    save(tmp_path / "photos/a.png", texture(48, 64, 0))
    folder = build(tmp_path)
    client = boto3.Session().client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    name = tmp_path.name.replace("_", "-")  # of its own: fsspec keeps its sessions for the whole process
    for path in folder.iterdir():
        client.put_object(Bucket="shards", Key=f"{name}/{path.name}", Body=path.read_bytes())
    data = load(None, list(overrides)).data
    return ShardSet.open(f"s3://shards/{name}", "hr", data), ShardSet.open(str(folder), "hr")


@pytest.fixture(autouse=True)
def no_sessions_from_before() -> None:
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()


def test_a_rotated_key_is_read_anew_when_the_old_one_has_expired(guard: Guard, tmp_path: Path) -> None:
    ours, theirs = opened(tmp_path)
    assert (ours.read(0)["hr"] == theirs.read(0)["hr"]).all()
    guard.credentials, guard.expired = tmp_path / "credentials", "OLD"
    for i in range(1, len(ours)):
        assert (ours.read(i)["hr"] == theirs.read(i)["hr"]).all()
    assert guard.num_refused == 1


def test_a_key_that_stays_expired_is_storage_that_is_away(guard: Guard, tmp_path: Path) -> None:
    ours, _ = opened(tmp_path, "data.remote.retries=1")
    ours.read(0)
    guard.expired = "OLD"
    with pytest.raises(UnreachableError, match=r"token has expired.*check the credentials") as caught:
        ours.read(len(ours) - 1)
    assert caught.value.exit_code == 1
    with pytest.raises(UnreachableError, match=r"manifest\.json: cannot be read .*check the credentials"):
        ShardSet.open(ours.url, "hr", load(None, ["data.remote.retries=1"]).data)
