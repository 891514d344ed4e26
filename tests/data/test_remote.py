"""Shard sets behind real servers: an S3 server, and an HTTP server that drops connections."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
import pytest
from helpers import write_photos
from helpers.local_server import LocalServer
from moto.moto_server.threaded_moto_server import ThreadedMotoServer

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import load
from cyclesr_dist.data.check import check_set
from cyclesr_dist.data.loader import open_sources, rank_batches
from cyclesr_dist.data.shards import ShardSet
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import InputError, UnreachableError
from cyclesr_dist.training.main import main as train

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket on a real S3 server, reached through the environment as in production."""
    import boto3

    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    settings = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "no_proxy": "*",
    }
    before = dict(os.environ)
    os.environ.update(settings)
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket="shards")
    yield "s3://shards"
    server.stop()
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shard sets in a folder, and the photographs they are from."""
    root = tmp_path_factory.mktemp("local")
    write_photos(root / "a", 3, 64, 64, seed=0)
    write_photos(root / "b", 2, 48, 48, seed=1)
    (root / "c.yaml").write_text("shards: {patch: 8, stride: 8, samples_per_shard: 6}\n")
    assert cyclesr([*build_command(root), "--out", str(root / "sets")]) == 0
    return root


def build_command(root: Path) -> list[str]:
    argv = ["shards", "build", "--hr", str(root / "a"), "--lr", str(root / "b"), "--config", str(root / "c.yaml")]
    return [*argv, "--quiet", "--allow-overlap"]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- S3


def test_build_check_and_read_on_s3(bucket: str, local: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fsspec

    url = f"{bucket}/one"
    assert cyclesr([*build_command(local), "--out", url]) == 0
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    found = {path.split("/", 2)[2]: fs.cat_file(path) for path in fs.find("shards/one")}
    assert found == files(local / "sets")
    assert not list((cache / "staging").glob("*/*"))

    capsys.readouterr()
    assert cyclesr([*build_command(local), "--out", url]) == 0
    assert capsys.readouterr().out.count("nothing to do") == 2
    assert cyclesr(["shards", "check", url, "--quiet"]) == 0
    assert capsys.readouterr().out.count("sound") == 2

    ours, theirs = ShardSet.open(f"{url}/hr", "hr"), ShardSet.open(str(local / "sets/hr"), "hr")
    assert len(ours) == len(theirs) > 6
    for i in range(len(ours)):
        assert ours.key(i) == theirs.key(i)
        assert np.array_equal(ours.read(i)["hr"], theirs.read(i)["hr"])

    other = local / "other.yaml"
    other.write_text("shards: {patch: 8, stride: 7}\n")
    argv = [str(other) if part == str(local / "c.yaml") else part for part in build_command(local)]
    assert cyclesr([*argv, "--out", url]) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert cyclesr([*argv, "--out", url, "--overwrite"]) == 0
    assert cyclesr(["shards", "check", url, "--quiet"]) == 0
    assert not any("shard-000001" in path for path in fs.find("shards/one"))


def test_an_upload_without_a_manifest_is_no_set_and_no_obstacle(bucket: str, local: Path, capsys) -> None:
    import fsspec

    url = f"{bucket}/interrupted"
    fsspec.filesystem("s3").pipe_file("shards/interrupted/hr/shard-000000.tar", b"half of it")
    with pytest.raises(InputError, match=r"interrupted/hr: is not a shard set"):
        ShardSet.open(f"{url}/hr", "hr")
    assert cyclesr([*build_command(local), "--out", url]) == 0
    assert check_set(f"{url}/hr", progress=False).problems == ()
    fsspec.filesystem("s3").pipe_file("shards/foreign/hr/thesis.txt", b"mine")
    assert cyclesr([*build_command(local), "--out", f"{bucket}/foreign"]) == 2
    assert "holds something else" in capsys.readouterr().err


def test_check_on_s3_names_what_is_damaged(bucket: str, local: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fsspec

    url = f"{bucket}/damaged"
    assert cyclesr([*build_command(local), "--out", url]) == 0
    fs = fsspec.filesystem("s3")
    tar = fs.cat_file("shards/damaged/lr/shard-000000.tar")
    fs.pipe_file("shards/damaged/lr/shard-000000.tar", tar[:700] + b"damaged!" + tar[708:])
    capsys.readouterr()
    assert cyclesr(["shards", "check", url, "--quiet"]) == 2
    captured = capsys.readouterr()
    assert f"{url}/hr: sound" in captured.out
    assert f"{url}/lr/shard-000000.tar: does not have the checksum" in captured.err


def test_training_from_s3_is_training_from_a_folder(bucket: str, config_file, tiny_data, tmp_path, cache) -> None:
    import fsspec

    fs = fsspec.filesystem("s3")
    for kind in ("hr", "lr"):
        for path in (tiny_data.root / "shards" / kind).iterdir():
            fs.pipe_file(f"shards/tiny/{kind}/{path.name}", path.read_bytes())
    arguments = [*tiny_data.overrides, "train.max_steps=6", "data.log_keys=true"]

    def run(name: str, *more: str) -> int:
        argv = ["--config", str(config_file), "--run-dir", str(tmp_path / name), "--quiet"]
        return train([*argv, *arguments, *more])

    assert run("folder") == 0
    remote = [f"data.hr={bucket}/tiny/hr", f"data.lr={bucket}/tiny/lr"]
    assert run("s3", *remote) == 0
    # A process of its own: pytest's fork server may have started before the bucket's credentials were there.
    command = [sys.executable, str(Path(__file__).parents[2] / "launch/train.py"), "--config", str(config_file)]
    command += ["--run-dir", str(tmp_path / "workers"), "--quiet", *arguments, *remote, "data.workers=2"]
    assert subprocess.run(command, timeout=400, check=False).returncode == 0
    for file in ("model.safetensors", "keys.rank0.jsonl"):
        expected = (tmp_path / "folder" / file).read_bytes()
        assert (tmp_path / "s3" / file).read_bytes() == expected
        assert (tmp_path / "workers" / file).read_bytes() == expected
    assert list(cache.glob("*/shard-*.tar"))


# --- HTTP


class Flaky(http.server.SimpleHTTPRequestHandler):
    """Files with Range support. Drops connections at the start and in the middle, answers 503, by turns."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, FlakyServer)
        with server.lock:
            server.requests[self.path.rsplit("/", 1)[-1]] += 1
            trouble = next(server.troubles, "") if server.flaky else ""
        path = Path(self.translate_path(self.path))
        if trouble == "drop":
            self.close_connection = True
            return
        if trouble == "busy":
            self.send_error(503)
            return
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and server.ranges:
            first, last = int(asked[1]), int(asked[2] or len(data) - 1)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            data = data[first : last + 1]
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if trouble == "cut":
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
            return
        if trouble == "flip" and len(data) > 300 and path.suffix == ".tar":
            data = data[:100] + bytes([data[100] ^ 1]) + data[101:]
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Quiet."""


class FlakyServer(LocalServer):
    def __init__(self, folder: Path, flaky: bool = True, ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), partial(Flaky, directory=str(folder)))
        self.flaky, self.ranges = flaky, ranges
        self.lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        self.troubles: Iterator[str] = (
            ("flip" if i == 30 else ("drop", "", "cut", "", "busy", "", "")[i % 7]) for i in range(10**9)
        )


def config_for(url: str, *overrides: str):
    names = [f"data.hr={url}/hr", f"data.lr={url}/lr", "data.allow_overlap=true", "global_batch=4"]
    return load(None, [*names, "shards.patch=8", *overrides])


def stream(config, steps: int) -> list[tuple[tuple[str, ...], bytes, bytes]]:
    found = rank_batches(open_sources(config), config, World(), 0, steps)
    return [(item.hr_keys, arrays["hr"].tobytes(), arrays["lr"].tobytes()) for item, arrays in found]


@pytest.mark.parametrize("ranges", [True, False])
def test_an_http_server_that_fails_every_other_request_gives_the_same_stream(local: Path, ranges: bool) -> None:
    expected = stream(config_for(str(local / "sets")), 9)
    with FlakyServer(local / "sets", ranges=ranges) as server:
        assert stream(config_for(server.url, "data.remote.retries=12"), 9) == expected
        assert sum(server.requests.values()) > 30


def test_the_cache_spares_the_server_and_notices_damage(local: Path, cache: Path) -> None:
    expected = stream(config_for(str(local / "sets")), 9)
    with FlakyServer(local / "sets", flaky=False) as server:
        config = config_for(server.url)
        assert stream(config, 9) == expected
        first = sum(n for name, n in server.requests.items() if name.endswith(".tar"))
        assert stream(config, 9) == expected
        again = sum(n for name, n in server.requests.items() if name.endswith(".tar"))
        assert again == first
        # Rot in the cache: every byte from some place on, in every file, keeping the map.
        for path in cache.glob("*/shard-*.tar"):
            with path.open("r+b") as file:
                size = file.seek(0, 2)
                file.seek(600)
                file.write(b"\xaa" * (size - 600))
        assert stream(config, 9) == expected
        assert sum(n for name, n in server.requests.items() if name.endswith(".tar")) > again


def test_without_a_cache_nothing_is_kept(local: Path, cache: Path) -> None:
    with FlakyServer(local / "sets", flaky=False) as server:
        assert stream(config_for(server.url, "data.remote.cache_gb=0"), 3)
    assert not cache.exists()


def test_a_server_that_stays_away_is_an_error_with_the_name(local: Path) -> None:
    with FlakyServer(local / "sets", flaky=False) as server:
        found = ShardSet.open(f"{server.url}/hr", "hr", config_for(server.url, "data.remote.retries=1").data)
        found.key(0)
        server.troubles, server.flaky = repeat("drop"), True
        with pytest.raises(
            UnreachableError, match=r"http://127\.0\.0\.1:\d+/hr/shard-000000\.tar: sample .* cannot be"
        ):
            found.read(0)
        with pytest.raises(UnreachableError, match=r"manifest\.json: cannot be read"):
            ShardSet.open(f"{server.url}/hr", "hr", config_for(server.url, "data.remote.retries=1").data)


def test_a_missing_set_and_a_missing_shard_are_named_at_once(local: Path, tmp_path: Path) -> None:
    with FlakyServer(local / "sets", flaky=False) as server, pytest.raises(InputError, match=r"/nowhere: is not a sh"):
        ShardSet.open(f"{server.url}/nowhere", "hr")
    shutil.copytree(local / "sets", tmp_path / "sets")
    (tmp_path / "sets/hr/shard-000000.tar").unlink()
    (tmp_path / "sets/lr/shard-000001.json").unlink()
    with FlakyServer(tmp_path / "sets", flaky=False) as server:
        hr, lr = (ShardSet.open(f"{server.url}/{kind}", kind) for kind in ("hr", "lr"))
        with pytest.raises(InputError, match=r"shard-000000\.tar: sample .*\.hr cannot be read \(FileNotFound") as gone:
            hr.read(0)
        assert gone.value.exit_code == 2
        with pytest.raises(InputError, match=r"lr/shard-000001\.json: missing \(sample 0 of shard-000001\)"):
            lr.read(6)


def test_an_unknown_protocol_and_a_shell_are_refused() -> None:
    with pytest.raises(InputError, match="nofs"):
        ShardSet.open("nofs://x/y", "hr")
    with pytest.raises(InputError, match="run a shell"):
        ShardSet.open("pipe:cat x", "hr")


def test_any_fsspec_url_will_do(local: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for path in (local / "sets/hr").iterdir():
        memory.pipe_file(f"/anything/hr/{path.name}", path.read_bytes())
    ours, theirs = ShardSet.open("memory://anything/hr", "hr"), ShardSet.open(str(local / "sets/hr"), "hr")
    assert json.dumps(ours.manifest) == json.dumps(theirs.manifest)
    assert np.array_equal(ours.read(3)["hr"], theirs.read(3)["hr"])


def test_checkpoints_on_s3(bucket: str, config_file, tiny_data, tmp_path, capsys) -> None:
    """Another host, with nothing but the URL, goes on from the newest that is whole."""
    import fsspec

    place = f"train.checkpoints={bucket}/run"
    arguments = [*tiny_data.overrides, "train.checkpoint_every_steps=2", "train.keep_checkpoints=2"]

    def run(name: str, *more: str) -> int:
        return train(["--config", str(config_file), "--run-dir", str(tmp_path / name), "--quiet", *arguments, *more])

    assert run("whole", "train.max_steps=10") == 0
    assert run("first", place, "train.max_steps=8") == 0
    assert not (tmp_path / "first/checkpoints").exists()
    fs = fsspec.filesystem("s3")
    fs.invalidate_cache()
    kept = sorted(path.rsplit("/", 1)[-1] for path in fs.ls("shards/run"))
    assert kept[-2:] == ["step-00000006", "step-00000008"]
    tensors = "shards/run/step-00000008/tensors.safetensors"
    fs.pipe_file(tensors, fs.cat_file(tensors)[:-100])
    fs.pipe_file("shards/run/step-00000009/tensors.safetensors", b"an upload that was killed")
    capsys.readouterr()
    assert run("second", place, "train.max_steps=10", "--resume") == 0
    err = capsys.readouterr().err
    assert "step-00000008 is damaged" in err or "tensors.safetensors has" in err
    assert "resuming at step 6" in err
    expected = (tmp_path / "whole/model.safetensors").read_bytes()
    assert (tmp_path / "second/model.safetensors").read_bytes() == expected
    # The run folder's files are there as well; the logs of the first host's steps came back from there.
    there = {path.rsplit("/", 1)[-1]: fs.cat_file(path) for path in fs.ls("shards/run/run", refresh=True)}
    assert there["model.safetensors"] == expected
    assert json.loads(there["summary.json"])["completed"] is True
    assert b"<html" in there["report.html"]
    metrics = (tmp_path / "second/metrics.jsonl").read_bytes()
    assert there["metrics.jsonl"] == metrics
    assert [json.loads(line)["step"] for line in metrics.splitlines()] == list(range(1, 11))
