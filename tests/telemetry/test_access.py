"""Who may read /metrics and push: real servers, TLS with a CA of the test's own, tokens and passwords."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from helpers.ports import free_port
from helpers.runs import run
from helpers.waiting import until

from cyclesr_dist.config.schema import Telemetry
from cyclesr_dist.errors import InputError
from cyclesr_dist.telemetry import definitions
from cyclesr_dist.telemetry.access import check_endpoint
from cyclesr_dist.telemetry.endpoint import Endpoint, Pusher
from cyclesr_dist.telemetry.series import Series


@dataclass(frozen=True)
class Files:
    certificate: str
    key: str
    other_key: str
    locked_key: str
    both: str


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """A certificate for 127.0.0.1 that is its own CA; a key of somebody else; the key behind a password."""
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    for name in ("own", "other"):
        openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.pem"),
        )
    openssl("rsa", "-aes256", "-in", "own.key", "-passout", "pass:hunter2", "-out", "locked.key")
    (folder / "both.pem").write_text((folder / "own.pem").read_text() + (folder / "own.key").read_text())
    return Files(*(str(folder / n) for n in ("own.pem", "own.key", "other.key", "locked.key", "both.pem")))


def series() -> Series:
    made = Series((definitions.STEP,), {"run": "mine", "rank": "0"})
    made.set(definitions.STEP, 7)
    return made


@contextmanager
def served(**settings: Any) -> Iterator[int]:
    endpoint = Endpoint(Telemetry(port=free_port(), port_search=100, **settings), 0, series().registry)
    try:
        yield endpoint.port
    finally:
        endpoint.close()


def get(url: str, ca: str = "", token: str = "") -> tuple[int, str]:
    context = ssl.create_default_context(cafile=ca) if ca else None
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(request, timeout=180, context=context) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


@pytest.mark.parametrize("in_one_file", [False, True])
def test_metrics_over_tls(files: Files, in_one_file: bool) -> None:
    settings = {"tls_certificate": files.both} if in_one_file else {}
    with served(**(settings or {"tls_certificate": files.certificate, "tls_key": files.key})) as port:
        status, text = get(f"https://127.0.0.1:{port}/metrics", files.certificate)
        assert status == 200
        assert "cyclesr_step" in text
        with pytest.raises((ConnectionError, urllib.error.URLError)):
            get(f"http://127.0.0.1:{port}/metrics")
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            get(f"https://127.0.0.1:{port}/metrics")


def test_a_client_that_says_nothing_keeps_nobody_waiting(files: Files) -> None:
    with served(tls_certificate=files.both) as port, socket.create_connection(("127.0.0.1", port)):
        assert get(f"https://127.0.0.1:{port}/metrics", files.certificate)[0] == 200


def test_metrics_behind_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLESR_METRICS_TOKEN", "hunter2-token")
    with served() as port:
        url = f"http://127.0.0.1:{port}/metrics"
        for token in ("", "hunter2", "hunter2-token2", "h\u00fcnter"):
            status, text = get(url, token=token)
            assert status == 401
            assert "cyclesr" not in text
        assert get(url, token="hunter2-token")[0] == 200
        assert get(f"http://127.0.0.1:{port}/healthy") == (200, "ok\n")


def test_files_that_cannot_be_used_are_named(files: Files, tmp_path: Path) -> None:
    (tmp_path / "text.pem").write_text("no certificate")
    cases = [
        ({"tls_certificate": str(tmp_path / "gone.pem")}, r"telemetry\.tls_certificate = \S+gone\.pem: cannot be read"),
        ({"tls_certificate": files.certificate, "tls_key": str(tmp_path)}, r"telemetry\.tls_key = \S+: cannot be read"),
        ({"tls_certificate": files.certificate, "tls_key": files.other_key}, "do not fit each other"),
        ({"tls_certificate": files.certificate}, "do not fit each other, or are no PEM files"),
        ({"tls_certificate": str(tmp_path / "text.pem")}, "do not fit each other, or are no PEM files"),
        ({"tls_certificate": files.certificate, "tls_key": files.locked_key}, "is encrypted"),
    ]
    for settings, said in cases:
        with pytest.raises(InputError, match=said):
            check_endpoint(Telemetry(port=9400, **settings))
        check_endpoint(Telemetry(**settings))  # nothing listens


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (["telemetry.tls_certificate=/nowhere.pem", "telemetry.port=9400"], "/nowhere.pem: cannot be read"),
        (["telemetry.tls_key=/nowhere.key"], "telemetry.tls_key = /nowhere.key without telemetry.tls_certificate"),
    ],
)
def test_a_training_does_not_begin_with_them(override, said, config_file, tiny_data, tmp_path, capsys) -> None:
    for more in ([], ["--dry-run"]):
        assert run(config_file, tmp_path / "run", *tiny_data.overrides, *override, *more) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_serves_over_tls_with_a_token(files: Files, config_file, tiny_data, tmp_path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "cyclesr_dist.training", "--config", str(config_file), "--run-dir"]
    command += [str(tmp_path / "run"), *tiny_data.overrides, f"telemetry.port={port}", "train.max_steps=1000"]
    command += [f"telemetry.tls_certificate={files.both}"]
    environment = os.environ | {"CYCLESR_METRICS_TOKEN": "hunter2-token"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            targets = tmp_path / "run/prometheus_targets.json"
            until(lambda: targets.is_file() or process.poll() is not None)
            (target,) = json.loads(targets.read_text())
            assert target == {"targets": [f"127.0.0.1:{port}"], "labels": {"__scheme__": "https"}}
            url = f"https://127.0.0.1:{port}/metrics"
            assert get(url, files.certificate)[0] == 401
            assert "cyclesr_run_info" in get(url, files.certificate, "hunter2-token")[1]
        finally:
            process.kill()
            said = process.communicate()[1]
    assert "hunter2" not in said
    assert not any(b"hunter2" in path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file())


# Pushing


@dataclass
class Gateway:
    """A server that takes metrics of one authorization alone."""

    wanted: str
    url: str = ""
    got: list[bytes] = field(default_factory=list)


@contextmanager
def gateway(wanted: str, tls: str = "") -> Iterator[Gateway]:
    found = Gateway(wanted)

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:  # the name that http.server calls
            body = self.rfile.read(int(self.headers["Content-Length"]))
            fits = self.headers.get("Authorization") == found.wanted
            if fits:
                found.got.append(body)
            self.send_response(202 if fits else 401)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()


def push(url: str) -> list[str]:
    said: list[str] = []
    Pusher(url, {"run": "mine"}, series().registry, said.append).close()
    return said


BASIC = "Basic " + base64.b64encode(b"me:hunter2:x").decode()


def test_the_gateway_is_told_who_pushes(monkeypatch: pytest.MonkeyPatch) -> None:
    with gateway(BASIC) as basic, gateway("Bearer hunter2-token") as bearer:
        (refused,) = push(basic.url)
        assert "401" in refused
        assert "CYCLESR_PUSH_USER" in refused
        monkeypatch.setenv("CYCLESR_PUSH_USER", "me")
        monkeypatch.setenv("CYCLESR_PUSH_PASSWORD", "hunter2:x")
        assert push(basic.url) == []
        monkeypatch.delenv("CYCLESR_PUSH_USER")
        monkeypatch.delenv("CYCLESR_PUSH_PASSWORD")
        monkeypatch.setenv("CYCLESR_PUSH_TOKEN", "hunter2-token")
        assert push(bearer.url) == []
        assert b"cyclesr_step" in bearer.got[0]


def test_a_gateway_of_a_private_ca(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CYCLESR_PUSH_TOKEN", "hunter2-token")
    with gateway("Bearer hunter2-token", files.both) as found:
        (refused,) = push(found.url)
        assert "CERTIFICATE_VERIFY_FAILED" in refused
        assert "hunter2" not in refused
        monkeypatch.setenv("SSL_CERT_FILE", files.certificate)
        assert push(found.url) == []
    assert found.got


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"PASSWORD": "hunter2"}, "CYCLESR_PUSH_PASSWORD is set and CYCLESR_PUSH_USER is not"),
        ({"USER": "me"}, "CYCLESR_PUSH_USER is set and CYCLESR_PUSH_PASSWORD is not"),
        ({"USER": "me", "PASSWORD": "hunter2", "TOKEN": "hunter2"}, "are both set"),
        ({"USER": "m:e", "PASSWORD": "hunter2"}, "CYCLESR_PUSH_USER of the environment has a colon"),
        ({"TOKEN": "hunter2\n"}, "CYCLESR_PUSH_TOKEN of the environment has a blank, a line end"),
    ],
)
def test_credentials_that_contradict_each_other(variables, said, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"CYCLESR_PUSH_{name}", value)
    with pytest.raises(InputError, match=said) as caught:
        check_endpoint(Telemetry(push_gateway="http://127.0.0.1:9"))
    assert "hunter2" not in str(caught.value)
