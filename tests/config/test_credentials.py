"""A password has no place in a configuration, and a signature is seen by the storage alone."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from helpers.runs import launch, run

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.reader import dump
from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.kubernetes.plan import training_plan
from cyclesr_dist.search.config import load_search
from cyclesr_dist.workflows.table.config import load_table

CONFIGS = Path(__file__).parents[2] / "configs"
PASSWORD = "hunter2"
KEYS = {
    "telemetry.push_gateway": ("http", "CYCLESR_PUSH_USER and CYCLESR_PUSH_PASSWORD, or CYCLESR_PUSH_TOKEN"),
    "data.hr": ("https", "NETRC"),
    "data.lr": ("s3", "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    "data.pairs": ("sftp", "FSSPEC_SFTP_USERNAME and FSSPEC_SFTP_PASSWORD"),
    "data.valid_hr": ("http", "NETRC"),
    "data.valid_lr": ("http", "NETRC"),
    "train.checkpoints": ("s3", "AWS_ACCESS_KEY_ID"),
    "perceptual.source": ("http", "NETRC"),
    "nets.translator.estimate": ("http", "NETRC"),
    "nets.sr.init": ("https", "NETRC"),
    "train.start_from": ("s3", "AWS_ACCESS_KEY_ID"),
}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("login", [f"me:{PASSWORD}", f"me:{PASSWORD}/a?b#c@d", f":{PASSWORD}"])
def test_a_password_is_refused_and_not_shown(key: str, login: str, tmp_path: Path, capsys) -> None:
    scheme, instead = KEYS[key]
    url = f"{scheme}://{login}@host/place"
    assert cyclesr(["train", "--config", str(CONFIGS / "demo.yaml"), f"{key}={url}", "--debug", "--dry-run"]) == 2
    said = "".join(capsys.readouterr())
    section, _, leaf = key.rpartition(".")
    (tmp_path / "c.yaml").write_text(f"{section.replace('.', ': {')}: {{{leaf}: '{url}'}}" + "}" * section.count("."))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "c.yaml")
    for text in (said, str(caught.value)):
        assert PASSWORD not in text
        assert key in text
        assert instead in text


def test_nor_is_one_in_a_search_or_a_table(tmp_path: Path) -> None:
    url = f"s3://me:{PASSWORD}@bucket/x"
    for make in (
        lambda: load_search(CONFIGS / "tune_demo.yaml", [f"storage={url}"]),
        lambda: load_search(CONFIGS / "tune_demo.yaml", [f"overrides=['data.hr={url}']"]),
        lambda: load_search(CONFIGS / "tune_demo.yaml", ["storage=s3://bucket/x?token=hunter2"]),
        lambda: load_table(CONFIGS / "table_small.yaml", [f"run.train.checkpoints={url}"]),
        lambda: load_table(CONFIGS / "table_small.yaml", ["run.train.checkpoints=s3://bucket/x?token=hunter2"]),
        lambda: training_plan(CONFIGS / "demo.yaml", ["data.hr=https://h/hr?sig=hunter2"]),
        lambda: training_plan(CONFIGS / "demo.yaml", [f"cluster.prepare=[wget, 'https://h/x?sig={PASSWORD}']"]),
    ):
        with pytest.raises(ConfigError, match=r"has a (password|signature or token) in") as caught:
            make()
        assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["estimate", "--hr", f"http://me:{PASSWORD}@127.0.0.1:9/hr", "--lr", "lr", "--out", "out"],
        ["shards", "check", f"http://me:{PASSWORD}@127.0.0.1:9/hr"],
        ["shards", "build", "--hr", "hr", "--lr", "lr", "--out", f"s3://me:{PASSWORD}@bucket/x"],
        ["evaluate", "--model", f"http://me:{PASSWORD}@host/m.safetensors", "--lr", "lr", "--hr", "hr"],
        ["upscale", "x.png", "--model", f"http://me:{PASSWORD}@host/m.safetensors", "--out", "out"],
        ["tune", "--config", f"http://me:{PASSWORD}@host/c.yaml"],
        ["train", "--config", str(CONFIGS / "demo.yaml"), f"telemetry.push_gatewy=http://me:{PASSWORD}@host"],
        ["train", "--config", str(CONFIGS / "demo.yaml"), f"telemetry.push_gateway=me:{PASSWORD}@host:9091"],
        ["train", "--config", str(CONFIGS / "demo.yaml"), f"telemetry.port=http://me:{PASSWORD}@host"],
        ["train", "--config", str(CONFIGS / "demo.yaml"), f"http://me:{PASSWORD}@host"],
    ],
)
def test_no_command_shows_a_password(words: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert cyclesr([*words, "--debug"]) == 2
    assert PASSWORD not in "".join(capsys.readouterr())


def test_words_that_argparse_refuses_are_shown_without_it(capsys) -> None:
    with pytest.raises(SystemExit) as left:
        cyclesr(["report", "runs/x", f"--url=http://me:{PASSWORD}@host"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert "***@host" in said
    assert PASSWORD not in said


def test_a_signature_is_left_out_of_what_is_written_and_asked_for_again(tmp_path: Path) -> None:
    signed = "https://host/hr?X-Amz-Signature=hunter2&token=hunter3"
    config = load(None, [f"data.hr={signed}"])
    assert "hunter" not in dump(config)
    (tmp_path / "config.yaml").write_text(dump(config, signatures=True))
    assert load(tmp_path / "config.yaml") == config
    (tmp_path / "config.yaml").write_text(dump(config))
    with pytest.raises(ConfigError, match=r"data\.hr = 'https://host/hr\?X-Amz-Signature=\*\*\*.*: data\.hr=URL"):
        load(tmp_path / "config.yaml")
    assert load(tmp_path / "config.yaml", [f"data.hr={signed}"]) == config
    assert load(None, ["data.lr=abfs://container@account.dfs.core.windows.net/lr"]) != Config()


# A store that wants a signature, or a password, for every file


@dataclass
class Store:
    url: str
    asked: list[str] = field(default_factory=list)
    """Paths that were answered."""
    refused: list[str] = field(default_factory=list)


@contextmanager
def store(folder: Path, query: str = "", authorization: str = "") -> Iterator[Store]:
    found = Store("")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def send_head(self) -> Any:
            fits = parse_qs(urlsplit(self.path).query) == parse_qs(query)
            fits = fits and self.headers.get("Authorization", "") == authorization
            (found.asked if fits else found.refused).append(self.path)
            if fits:
                return super().send_head()
            self.send_error(403)
            return None

        def log_message(self, *args: Any) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}"
    yield found
    server.shutdown()
    server.server_close()


QUERY = "X-Amz-Signature=hunter2%2Fhunter2&token=hunter3&sv=2024-01-01"


@pytest.fixture
def sets(tiny_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny data's shard sets in one folder, and a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    values = dict(text.split("=", 1) for text in tiny_data.overrides)
    for name in ("hr", "lr"):
        shutil.copytree(values[f"data.{name}"], tmp_path / "sets" / name)
    return tmp_path / "sets"


def nothing_of_it(said: str, folder: Path) -> None:
    assert "hunter" not in said
    holding = [p for p in folder.rglob("*") if p.is_file() and b"hunter" in p.read_bytes()]
    assert not holding


def test_a_signed_set_is_trained_on_and_its_signature_stays_unseen(
    sets: Path, config_file, tiny_data, tmp_path: Path, capfd
) -> None:
    out = tmp_path / "run"
    with store(sets, QUERY) as signed:
        urls = [f"data.hr={signed.url}/hr?{QUERY}", f"data.lr={signed.url}/lr?{QUERY}", "data.remote.retries=0"]
        settings = [*tiny_data.overrides, *urls, "train.checkpoint_every_steps=2"]
        assert run(config_file, out, *settings, "--dry-run") == 0
        assert run(config_file, out, *settings, "train.max_steps=2", "--debug") == 0
        assert run(config_file, out, *settings, "train.max_steps=4", "--debug", "--resume") == 0
        assert not signed.refused
        capfd.readouterr()
        again = [str(out / "config.yaml"), "--run-dir", str(tmp_path / "other"), "--quiet"]
        assert cyclesr(["train", "--config", *again]) == 2
        assert "data.hr=URL" in capfd.readouterr().err
        assert cyclesr(["train", "--config", *again, *urls, "--dry-run"]) == 0
        assert cyclesr(["shards", "check", f"{signed.url}?{QUERY}", "--quiet"]) == 0
        assert cyclesr(["report", str(out)]) == 0
        wrong = [f"data.hr={signed.url}/hr?sig=hunter4", f"data.lr={signed.url}/lr?sig=hunter4"]
        assert run(config_file, tmp_path / "wrong", *settings, *wrong, "--debug") != 0
    said = "".join(capfd.readouterr())
    assert "/hr/manifest.json" in said
    nothing_of_it(said, out)
    nothing_of_it("", tmp_path / "cache")
    assert (out / "summary.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed"])
def test_launchers_show_nothing_of_it_either(launcher, sets: Path, tiny_data, tmp_path: Path) -> None:
    """The URL stands in a file: the launchers themselves show a command line."""
    with store(sets, QUERY) as signed:
        file = tmp_path / "signed.yaml"
        backend = "deepspeed" if launcher == "deepspeed" else "ddp"
        urls = f"hr: '{signed.url}/hr?{QUERY}', lr: '{signed.url}/lr?{QUERY}', remote: {{retries: 0}}"
        file.write_text(f"system: cyclesr\nbackend: {backend}\ndata: {{{urls}}}\n")
        others = [text for text in tiny_data.overrides if not text.startswith(("data.hr=", "data.lr="))]
        done = launch(launcher, file, tmp_path / "run", *others, "train.max_steps=2", "--debug")
        assert done.returncode == 0, done.stderr
        file.write_text(file.read_text().replace("hunter2", "hunter5"))
        wrong = launch(launcher, file, tmp_path / "wrong", *others, "--debug")
        assert wrong.returncode != 0
    nothing_of_it(done.stdout + done.stderr + wrong.stdout + wrong.stderr, tmp_path / "run")


def test_a_password_of_netrc_is_used(sets: Path, tmp_path: Path, monkeypatch, capsys) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password hunter2\n")
    netrc.chmod(0o600)
    with store(sets, authorization="Basic bWU6aHVudGVyMg==") as locked:
        monkeypatch.setenv("NETRC", os.devnull)
        assert cyclesr(["shards", "check", f"{locked.url}/hr", "--quiet"]) != 0
        monkeypatch.setenv("NETRC", str(netrc))
        assert cyclesr(["shards", "check", f"{locked.url}/hr", "--quiet"]) == 0
    assert "hunter2" not in "".join(capsys.readouterr())


def test_what_a_failure_says_is_without_it_in_json_too(tmp_path: Path) -> None:
    error = InputError(f"cannot read {json.dumps({'url': f'https://me:{PASSWORD}@h/x?sig=hunter3'})}")
    assert "hunter" not in str(error)
