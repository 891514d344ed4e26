"""Whether `torch.compile` works here: it needs a compiler of the system's, and asks for it only in the first step."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache

from cyclesr_dist.errors import ConfigError

_TRIAL = "import torch; torch.compile(lambda x: torch.tanh(x) * 2 + 1)(torch.ones(64, device='{device}'))"


@cache
def check_compiler(device: str) -> None:
    """Raise ConfigError naming speed.compile when a function of one line cannot be compiled for "cpu" or "cuda".

    Tried in a process of its own, seconds: training's would keep the compiler's threads and caches.
    """
    # What torch looks for on a CPU, and Triton on a GPU.
    language, variable, known = ("C", "CC", ("gcc", "clang")) if device == "cuda" else ("C++", "CXX", _cxx())
    named = os.environ.get(variable)
    ways_out = f"install {known[0]}, set {variable} to a {language} compiler, or use speed.compile=false"
    if not any(map(shutil.which, (named,) if named is not None else known)):
        missing = f"there is no {' or '.join(known)}" if named is None else f"{variable} = {named!r} is no program"
        raise ConfigError(f"speed.compile = true needs a {language} compiler, and {missing}; {ways_out}")
    command = [sys.executable, "-c", _TRIAL.format(device=device)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise ConfigError(f"speed.compile = true, and torch.compile fails here ({_reason(done.stderr)}); {ways_out}")


def _cxx() -> tuple[str, ...]:
    return ("clang++",) if sys.platform == "darwin" else ("g++",)


def _reason(traceback: str) -> str:
    """The line of a traceback that says what is wrong: the compiler's, if it has one, or the exception's."""
    lines = [line.strip() for line in traceback.splitlines() if line.strip()]
    of_compiler = [line for line in lines if " error: " in line]
    of_exception = [line for line in lines if "Error: " in line]
    return (of_compiler or of_exception or lines or ["it says nothing"])[0][:300]
