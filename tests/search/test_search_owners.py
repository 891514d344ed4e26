"""Two searches in one run folder, or of one name in one storage: the second is refused, or follows a killed one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers.processes import marked, outcome, started
from helpers.searches import TUNE, reports
from helpers.waiting import until

pytest.importorskip("ray.tune", reason="Ray is not installed")
pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 server's."""
    import boto3
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    settings = {"ACCESS_KEY_ID": "key", "SECRET_ACCESS_KEY": "secret", "DEFAULT_REGION": "us-east-1"}
    settings |= {"ENDPOINT_URL": f"http://{host}:{port}", "EC2_METADATA_DISABLED": "true"}
    for name, value in settings.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("no_proxy", "*")
    bucket = boto3.Session().resource("s3", endpoint_url=settings["ENDPOINT_URL"]).Bucket("searches")
    bucket.create()
    yield bucket
    server.stop()


def owner(claims: list[str | bytes]) -> int:
    """The process that has the place; 0: none."""
    for text in claims:
        try:
            claim = json.loads(text)
        except ValueError:  # on its way
            continue
        if claim["holds"]:
            return int(claim["pid"])
    return 0


def below(folder: Path) -> list[str | bytes]:
    found: list[str | bytes] = []
    for path in folder.glob("*.json"):
        with suppress(FileNotFoundError):  # given up meanwhile
            found.append(path.read_text())
    return found


def one_goes_on_and_is_followed(
    command: Callable[[Path], list[str]], runs: tuple[Path, Path], owner_now: Callable[[], int], what: str, mark: str
) -> None:
    with started(command(runs[0]), MARK=mark) as first:
        until(lambda: owner_now() == first.pid or first.poll() is not None)
        with started(command(runs[1])) as second:
            code, stderr = outcome(second)
        assert code == 2, stderr
        (line,) = stderr
        assert line.startswith(f"cyclesr: error: {what} is in use by process {first.pid} on ")
        until(lambda: reports(runs[0]) or first.poll() is not None, 600)
        assert first.poll() is None
        first.kill()
        with started(command(runs[1]), MARK=mark) as third:
            until(lambda: owner_now() == third.pid or third.poll() is not None)
            assert third.poll() is None
    for process in marked(mark):
        process.kill()


@pytest.fixture
def command(write_search) -> Callable[..., Callable[[Path], list[str]]]:
    def of(**changes: object) -> Callable[[Path], list[str]]:
        path = write_search(steps=4000, max_concurrent=1, **changes)
        return lambda run: [*TUNE, "--config", str(path), "--run-dir", str(run), "--quiet", "--resume"]

    return of


def test_a_run_folder(command, mark, tmp_path) -> None:
    run = tmp_path / "run"
    one_goes_on_and_is_followed(command(), (run, run), lambda: owner(below(run / ".job")), f"run folder {run}", mark)


def test_a_storage_folder(command, mark, tmp_path) -> None:
    runs, storage = (tmp_path / "a/run", tmp_path / "b/run"), tmp_path / "storage"
    of = command(storage=str(storage))
    one_goes_on_and_is_followed(of, runs, lambda: owner(below(storage / ".lease-run")), f"storage {storage}/run", mark)


def test_a_bucket(command, bucket, mark, tmp_path) -> None:
    def claims() -> list[str | bytes]:
        found: list[str | bytes] = []
        for item in bucket.objects.filter(Prefix="all/.lease-run/"):
            with suppress(bucket.meta.client.exceptions.NoSuchKey):  # given up meanwhile
                found += [item.get()["Body"].read()] if item.key.endswith(".json") else []
        return found

    runs = tmp_path / "a/run", tmp_path / "b/run"
    of = command(storage="s3://searches/all")
    one_goes_on_and_is_followed(of, runs, lambda: owner(claims()), "storage s3://searches/all/run", mark)
