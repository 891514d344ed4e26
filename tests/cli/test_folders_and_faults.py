"""The commands that go through folders, against what systems do: signals, full and read-only disks, odd terminals."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.many_photos import CYCLESR, FILL, READ_ONLY, call, call_in_turn, call_on_small_disk, photographs, start
from helpers.waiting import until

QUIET = ("--quiet",)


def slow(*values: Any) -> list[Any]:
    """Cases as the ones before, left to CI."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


def hidden(folder: Path) -> list[str]:
    """Temporary files, and folders half-made."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*")]


def words_of(command: str, photos: Path, out: Path) -> tuple[object, ...]:
    return {
        "upscale": ("upscale", photos, "--model", "bicubic", "--out", out),
        "degrade": ("degrade", "--hr", photos, "--track", "mild", "--out", out),
        "shards": (
            "shards",
            "build",
            "--hr",
            photos,
            "--lr",
            photos,
            "--allow-overlap",
            "--out",
            out,
            "shards.patch=8",
        ),
        "estimate": ("estimate", "--hr", photos, "--lr", photos, "--out", out),
    }[command] + QUIET


class TestStops:
    @pytest.mark.parametrize("number", [signal.SIGTERM, *slow(signal.SIGINT, signal.SIGHUP)])
    def test_upscale_leaves_no_temporary_file_and_goes_on(self, tmp_path: Path, number: signal.Signals) -> None:
        folder, out = photographs(tmp_path / "in", 60, height=200, width=200), tmp_path / "out"
        words = words_of("upscale", folder, out)
        with start(*words) as process:
            until(lambda: process.poll() is not None or any(out.glob("*.png")))
            process.send_signal(number)
            _, err = process.communicate(timeout=300)
        assert process.returncode == 75, err
        assert "the same command goes on" in err
        assert hidden(out) == []
        made = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
        assert 0 < len(made) < 60
        assert call(*words)[0] == 0
        assert len(list(out.iterdir())) == 60
        assert {name: (out / name).stat().st_mtime_ns for name in made} == made

    def has(self, out: Path, count: int, process: subprocess.Popen[str]) -> bool:
        return process.poll() is not None or len(list(out.glob("*.png"))) >= count

    @pytest.mark.slow
    def test_upscale_killed_at_any_moment(self, tmp_path: Path) -> None:
        folder, out = photographs(tmp_path / "in", 60, height=200, width=200), tmp_path / "out"
        whole = tmp_path / "whole"
        words = words_of("upscale", folder, out)
        for count in (1, 9, 20):
            with start(*words) as process:
                until(partial(self.has, out, count, process))
                process.kill()
        assert call(*words)[0] == 0
        assert call(*words_of("upscale", folder, whole))[0] == 0
        assert hidden(out) == []
        assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}

    @pytest.mark.parametrize("number", [signal.SIGTERM, *slow(signal.SIGHUP, signal.SIGKILL)])
    def test_degrade_goes_on_where_it_was(self, tmp_path: Path, number: signal.Signals) -> None:
        folder, out = photographs(tmp_path / "in", 40, height=200, width=200), tmp_path / "out"
        words, half = words_of("degrade", folder, out), tmp_path / ".out.building"
        with start(*words) as process:
            until(lambda: process.poll() is not None or len(list(half.glob("*.png"))) > 1)
            process.send_signal(number)
            _, err = process.communicate(timeout=300)
        assert process.returncode == (-number if number == signal.SIGKILL else 75), err
        made = {path.name: path.stat().st_mtime_ns for path in half.glob("[!.]*.png")}
        assert made
        assert call(*words)[0] == 0
        assert hidden(tmp_path) == []
        assert len(list(out.glob("*.png"))) == 40
        assert {name: (out / name).stat().st_mtime_ns for name in made} == made


class TestDisks:
    @pytest.mark.parametrize("command", ["upscale", "degrade", *slow("shards", "estimate")])
    def test_full(self, tmp_path: Path, command: str) -> None:
        folder, disk = photographs(tmp_path / "in", 6, height=160, width=160), tmp_path / "disk"
        disk.mkdir()
        code, err, left = call_on_small_disk(disk, 24, *words_of(command, folder, disk / "out"))
        assert code == 1, err
        assert err.count("\n") == 1, err
        assert "cannot be written (No space left on device)" in err
        assert str(disk / "out") in err
        assert left in ([], [str(disk / "out")]), left  # the folder that was asked for

    @pytest.mark.parametrize("command", ["upscale", "degrade", *slow("shards", "estimate")])
    def test_read_only(self, tmp_path: Path, command: str) -> None:
        folder, disk = photographs(tmp_path / "in", 1, height=160, width=160), tmp_path / "disk"
        disk.mkdir()
        words = words_of(command, folder, disk / "out")
        code, err, left = call_on_small_disk(disk, 100, *words, before=READ_ONLY)
        assert (code, left) == (1, []), err
        assert err.count("\n") == 1, err
        assert f"{disk / 'out'}" in err
        assert "cannot be written (Read-only file system)" in err

    def test_scores_are_printed_although_their_file_cannot_be_written(self, tmp_path: Path) -> None:
        hr, disk = photographs(tmp_path / "in", 6, height=40, width=40), tmp_path / "disk"
        disk.mkdir()
        words = ("evaluate", "--model", "bicubic", "--scale", 1, "--lr", hr, "--hr", hr, *QUIET)
        code, err, _ = call_on_small_disk(disk, 100, *words, "--json", disk / "scores.json", before=READ_ONLY)
        assert (code, err.count("\n")) == (1, 1)  # before the work
        assert f"--json {disk / 'scores.json'}: cannot be written (Read-only file system)" in err
        code, err, left = call_on_small_disk(disk, 4, *words, "--json", disk / "scores.json", before=FILL)
        assert code == 1
        assert err.startswith("bicubic, plain, mean of 6 images")
        assert err.endswith("scores.json: cannot be written (No space left on device)\n")
        assert left == [str(disk / "fill")]

    def test_a_full_standard_output(self, tmp_path: Path) -> None:
        folder = photographs(tmp_path / "in", 1)
        with Path("/dev/full").open("w") as full:
            words = [*CYCLESR, *map(str, words_of("upscale", folder, tmp_path / "out"))]
            found = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
        assert found.returncode == 1
        assert found.stderr == "cyclesr: error: standard output: No space left on device\n"

    def test_a_largest_file_size_fails_the_large_ones(self, tmp_path: Path) -> None:
        folder, out = photographs(tmp_path / "in", 2, height=8, width=8), tmp_path / "out"
        photographs(folder / "large", 1, height=300, width=300)
        (folder / "large" / "p0000.png").rename(folder / "large.png")
        words = [*CYCLESR, *map(str, words_of("upscale", folder, out))]
        found = subprocess.run(["prlimit", "--fsize=200000", *words], capture_output=True, text=True, check=False)
        assert found.returncode == 1
        assert "large.png: cannot be written (File too large)" in found.stderr
        assert sorted(os.listdir(out)) == ["p0000.png", "p0001.png"]

    def test_folders_that_may_not_be_looked_into(self, tmp_path: Path) -> None:
        root, out = photographs(tmp_path / "in", 2), tmp_path / "out"
        photographs(root / "locked", 1)
        photographs(root / "open", 1)
        (root / "p0001.png").chmod(0)
        (root / "locked").chmod(0)
        if not os.getuid():  # whom permissions do not stop, unless it gives that up
            most = "-dac_override,-dac_read_search"
            as_others = ["setpriv", f"--bounding-set={most}", f"--inh-caps={most}"]
            if subprocess.run([*as_others, "true"], capture_output=True, check=False).returncode:
                pytest.skip("setpriv is not allowed here")
        else:
            as_others = []
        words = [*as_others, *CYCLESR, *map(str, words_of("upscale", root, out)), "--recursive"]
        found = subprocess.run(words, capture_output=True, text=True, check=False)
        assert found.returncode == 1, found.stderr
        assert "locked: cannot be read (Permission denied)" in found.stderr
        assert "p0001.png: cannot be read (Permission denied)" in found.stderr
        assert sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png")) == ["open/p0000.png", "p0000.png"]
        closed = subprocess.run(
            [*as_others, *CYCLESR, *map(str, words_of("upscale", root / "locked", out))],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (closed.returncode, closed.stderr.count("\n")) == (2, 1), closed.stderr


@pytest.mark.parametrize("variables", [{"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}, *slow({"LC_ALL": "C"})])
def test_names_of_no_alphabet_on_an_ascii_terminal(tmp_path: Path, variables: dict[str, str]) -> None:
    folder = photographs(tmp_path / "in", 1, height=64, width=64)
    for name in (b"\xff\xfe.png", "é.png".encode(), b"line\nbreak.png"):
        shutil.copy(folder / "p0000.png", folder / os.fsdecode(name))
    (folder / os.fsdecode(b"bad\xff.png")).write_bytes(b"no image")
    out = tmp_path / "ö\udcff"
    counts = {"upscale": 4, "degrade": 4, "shards": None}
    scored = ("evaluate", "--model", "bicubic", "--scale", 1, "--lr", folder, "--hr", folder, "--json", out / "s.json")
    words = (*(words_of(command, folder, out / command) for command in counts), (*scored, *QUIET))
    *made, (scored_code, _, scored_err) = call_in_turn(*words, variables=variables)
    for (command, count), (code, said, err) in zip(counts.items(), made, strict=True):
        there = out / command
        assert code == 1, err
        assert "Traceback" not in err
        assert any(
            line.partition(": ")[0].endswith(("bad\\udcff.png", "bad\udcff.png")) for line in err.splitlines()
        ), err
        assert str(there).split("/")[-1] in said
        assert count is None or len(list(there.glob("*.png"))) == count
    assert scored_code == 1, scored_err
    scores = json.loads((out / "s.json").read_text())
    assert {image["name"] for image in scores["images"]} == {"p0000", "\udcff\udcfe", "é", "line\nbreak"}
    assert [Path(entry["name"]).name for entry in scores["failed"]] == ["bad\udcff.png"]
