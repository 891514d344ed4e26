"""Folders of photographs of which some are bad, and the commands that go through them, as a person starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from cyclesr_dist.data.images import write_png

FILL = 'head -c ${size}k /dev/zero > "$folder/fill"'
READ_ONLY = 'mount -o remount,ro "$folder"'
CYCLESR = (sys.executable, "-m", "cyclesr_dist.cli.main")


def photographs(folder: Path, count: int, bad: int = 0, height: int = 8, width: int = 8) -> Path:
    """`p<n>.png` of noise, and `bad<n>.jpg` that are no images."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    for number in range(count):
        write_png(folder / f"p{number:04d}.png", rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    for number in range(bad):
        (folder / f"bad{number:02d}.jpg").write_bytes(b"\xff\xd8\xff\xe0 no photograph" * number)
    return folder


def start(*words: object, variables: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A command as a process, its output in pipes; undecodable bytes are kept."""
    return subprocess.Popen(
        [*CYCLESR, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="surrogateescape",
        env={**os.environ, **(variables or {})},
    )


def call(*words: object, variables: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and error of a command."""
    with start(*words, variables=variables) as process:
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def call_on_small_disk(folder: Path, kilobytes: int, *words: object, before: str = "") -> tuple[int, str, list[str]]:
    """The same with a file system of that size at `folder`: code, all that it prints, and what is there afterwards.

    `before` is a shell command that runs on it first, FILL or READ_ONLY. Skips where nobody may mount one.
    """
    script = f"""
        folder=$1; size=$2; shift 2
        mount -t tmpfs -o size=${{size}}k tmpfs "$folder" || exit 99
        {before}
        "$@" 1>&2; code=$?
        find "$folder" -mindepth 1
        exit $code"""
    command = ["unshare", "--mount", "bash", "-c", script, "bash", str(folder), str(kilobytes), *CYCLESR]
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --mount is not allowed here")
    found = subprocess.run([*command, *map(str, words)], capture_output=True, text=True, check=False)
    if found.returncode == 99:
        pytest.skip(f"a small file system cannot be mounted here: {found.stderr}")
    return found.returncode, found.stderr, found.stdout.splitlines()
