"""How commands are found in documents: in fences, in sentences, in tables, over several lines."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from helpers.documents import WrongError, is_ours, shown


def commands_of(tmp_path: Path, text: str) -> list[str]:
    page = tmp_path / "page.md"
    page.write_text(text)
    return [shlex.join(command.words) for command in shown(page)]


def test_commands_are_found_however_they_are_written(tmp_path: Path) -> None:
    text = """\
A sentence with `cyclesr report RUN`, `cyclesr.yaml` and `cyclesr fit
--hours 1`.

```sh
# a comment, the reader's
cyclesr train --config a.yaml \\
    nets.sr.arguments='{width: 64; # no comment}'   # it's a comment
A=1 B=2 cyclesr report runs/a && cyclesr compare a b; make demo | tee log > file
```

  ```console
  $ cyclesr demo
  bicubic 22.5
  $ cyclesr estimate \\
      --hr a
  ```

    torchrun --nproc-per-node 2 \\
        launch/train.py

```text
cyclesr          23.5     25.2
```

| `cyclesr bench train ...` | seconds |
|---|---|
| `--rounds 3` | 5 |
"""
    assert commands_of(tmp_path, text) == [
        "cyclesr train --config a.yaml 'nets.sr.arguments={width: 64; # no comment}'",
        "cyclesr report runs/a",
        "cyclesr compare a b",
        "make demo",
        "tee log",
        "cyclesr demo",
        "cyclesr estimate --hr a",
        "torchrun --nproc-per-node 2 launch/train.py",
        "cyclesr report RUN",
        "cyclesr fit --hours 1",
        "cyclesr bench train",
        "cyclesr bench train --rounds 3",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "```\ncyclesr demo\n```\n",
        "```fish\ncyclesr demo\n```\n",
        "```text\ncyclesr demo --config configs/no.yaml\n```\n",
        "~~~yaml\n$ make demo\n~~~\n",
        "```sh\ncyclesr demo\n",
        "```sh\ncyclesr demo 'open\n```\n",
    ],
)
def test_what_cannot_be_told_apart_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(WrongError, match=r"page\.md:[12]"):
        commands_of(tmp_path, text)


def test_sentences_and_tables_are_no_commands() -> None:
    assert not any(map(is_ours, ["cyclesr          23.5", "make a folder", "python is needed", "torchrun", "bash it"]))
    assert all(map(is_ours, ["cyclesr fit", "  $ make test", "A=1 python x.py", "python -m x", "bash .ci/run"]))
