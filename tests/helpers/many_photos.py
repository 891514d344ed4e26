"""Folders of photographs of which some are bad, and the commands that go through them, as a person starts them."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.reduction import DupFd
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

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


def call_in_turn(*commands: Sequence[object], variables: Mapping[str, str] | None = None) -> list[tuple[int, str, str]]:
    """The same of several commands, one after the other in one process: each start would import torch anew."""
    words = json.dumps([[os.fsencode(str(word)).hex() for word in command] for command in commands])
    environment = {**os.environ, **(variables or {})}
    done = subprocess.run([sys.executable, "-c", _IN_TURN, words], env=environment, capture_output=True, check=True)
    out, err = (stream.decode(errors="surrogateescape").split("\0") for stream in (done.stdout, done.stderr))
    return [(int(code), said, told) for said, code, told in zip(out[::2], out[1::2], err, strict=False)]


_IN_TURN = """
import json, os, sys
from cyclesr_dist.cli.main import main
for command in json.loads(sys.argv[1]):
    sys.argv[1:] = [os.fsdecode(bytes.fromhex(word)) for word in command]
    code = main()
    print(f"\\0{code}\\0", end="", flush=True)
    print("\\0", end="", file=sys.stderr, flush=True)
"""


def call_on_small_disk(folder: Path, kilobytes: int, *words: object, before: str = "") -> tuple[int, str, list[str]]:
    """The same with a file system of that size at `folder`: code, all that it prints, and what is there afterwards.

    `before` is a shell command that runs on it first, FILL or READ_ONLY. Skips where nobody may mount one. In a fork of
    a process that has torch.
    """
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("unshare --mount is not allowed here")
    with TemporaryFile("w+") as file:
        context = get_context("forkserver")
        receiver, sender = context.Pipe(duplex=False)
        told = (folder, kilobytes, before, [str(word) for word in words], sender, DupFd(file.fileno()))
        process = context.Process(target=_on_small_disk, args=told)
        process.start()
        sender.close()
        try:
            code, left = receiver.recv()
            process.join()
        finally:
            process.kill()
        file.seek(0)
        said = file.read()
    if code is None:
        pytest.skip(f"a small file system cannot be mounted here: {said}")
    return code, said, left


_CLONE_NEWNS = 0x00020000
_MOUNT = """
mount --make-rprivate / && mount -t tmpfs -o size=${size}k tmpfs "$folder" || exit 99
%s
"""


def _on_small_disk(folder: Path, kilobytes: int, before: str, words: list[str], sender: Connection, said: Any) -> None:
    from cyclesr_dist.cli.main import main

    descriptor = said.detach()
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    variables = {**os.environ, "folder": str(folder), "size": str(kilobytes)}
    code = None
    if not ctypes.CDLL(None).unshare(_CLONE_NEWNS):
        mounted = subprocess.run(["bash", "-c", _MOUNT % before], env=variables, check=False)
        code = None if mounted.returncode == 99 else main(words)
    sys.stdout.flush()
    sys.stderr.flush()
    sender.send((code, [str(path) for path in folder.rglob("*")]))
