"""`cyclesr shards build` killed and called again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import write_photos
from helpers.waiting import until
from PIL import Image

from cyclesr_dist.config.schema import Shards
from cyclesr_dist.data import build as module
from cyclesr_dist.data.build import build_set

CUT = Shards(patch=8, stride=4, samples_per_shard=9)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def build(photos: Path, out: Path, workers: int = 1) -> int:
    return build_set("hr", out, CUT, scale=2, hr_dir=photos, workers=workers, progress=False)


@pytest.mark.parametrize("waits_for", ["*/000003.json", "shard-000002.json"])
def test_a_killed_build_goes_on_to_the_same_bytes(tmp_path: Path, waits_for: str) -> None:
    photos = write_photos(tmp_path / "photos", 8, 96, 96, seed=0)
    build(photos, tmp_path / "whole")
    code = (
        "import sys; from pathlib import Path; import time;"
        "import cyclesr_dist.data.build as b; from test_build_resume import build;"
        "real = b.write_text; b.write_text = lambda *a: (time.sleep(0.1), real(*a));"
        "build(Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(photos), str(tmp_path / "parts")]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}) as process:
        until(lambda: process.poll() is not None or list((tmp_path / ".parts.building").glob(waits_for)))
        assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "parts").exists()
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / ".parts.building").rglob("*.json") if p.name[0] != "."}
    assert kept
    for folder in (tmp_path / ".parts.building", tmp_path / ".parts.building/.cuts"):
        (folder / ".shard-000001.tar.1.tmp").write_bytes(b"killed while writing this")
    cut: list[str] = []
    real = module.cut_photograph

    def counted(source, **settings):
        cut.append(source.stem)
        return real(source, **settings)

    module.cut_photograph = counted
    try:
        assert build(photos, tmp_path / "parts", workers=3) > 0
    finally:
        module.cut_photograph = real
    assert len(cut) == 8 - len([p for p in kept if p.parent.name == ".cuts"])
    assert files(tmp_path / "parts") == files(tmp_path / "whole")
    assert not (tmp_path / ".parts.building").exists()


def test_what_was_begun_with_other_settings_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = write_photos(tmp_path / "photos", 3, 64, 64, seed=0)

    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "pack_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build(photos, tmp_path / "set")
    assert list((tmp_path / ".set.building/.cuts").glob("*.json"))
    write_photos(photos, 3, 64, 64, seed=1)
    build(photos, tmp_path / "set")
    build(photos, tmp_path / "fresh")
    assert files(tmp_path / "set") == files(tmp_path / "fresh")


def test_what_was_left_out_is_known_after_a_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = write_photos(tmp_path / "photos", 3, 64, 64, seed=0)
    Image.new("RGB", (15, 40)).save(photos / "small.png")
    Image.new("RGB", (16, 24)).save(photos / "flat.png")
    settings = {"scale": 2, "hr_dir": photos, "progress": False}
    shards = replace(CUT, min_std=0.001)

    def interrupted(*args, **settings):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "pack_shard", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_set("hr", tmp_path / "set", shards, **settings)
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(module, "cut_photograph", None)  # all is cut already
        build_set("hr", tmp_path / "set", shards, **settings)
    assert [line.split(":")[0] for line in capsys.readouterr().err.splitlines()] == ["small.png"]
    build_set("hr", tmp_path / "fresh", shards, **settings)
    assert files(tmp_path / "set") == files(tmp_path / "fresh")
    manifest = json.loads((tmp_path / "set/manifest.json").read_text())
    assert (manifest["left_out"], manifest["flat"]) == (["small.png"], 2)
