"""The processes that `cyclesr bench` measures in: one that fails is named with its reason."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from cyclesr_dist.errors import CycleSRError, InputError
from cyclesr_dist.workflows.bench.processes import in_a_process


def answers(number: int) -> dict[str, int]:
    return {"answer": number}


def is_refused() -> dict[str, int]:
    raise InputError("photo.png: cannot be read")


def has_no_memory() -> dict[str, int]:
    raise MemoryError


def is_killed() -> dict[str, int]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def leaves() -> dict[str, int]:
    sys.exit(3)


def test_an_answer() -> None:
    assert in_a_process("case", answers, 7) == {"answer": 7}


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        (is_refused, "case: photo.png: cannot be read"),
        (has_no_memory, "case: MemoryError: no reason given"),
        (is_killed, "case: its process was killed (SIGKILL): the system does so where memory runs out; "
         "measure something smaller"),
        (leaves, "case: its process has ended with 3"),
    ],
)  # fmt: skip
def test_one_that_fails_is_named_with_the_reason(measure: object, text: str) -> None:
    with pytest.raises(CycleSRError) as raised:
        in_a_process("case", measure)  # type: ignore[arg-type]
    assert str(raised.value) == text
