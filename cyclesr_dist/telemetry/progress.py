"""What a training shows on the main rank: one live view on a terminal, plain lines in a log, JSON lines on request.

Everything goes to stderr. A run with --quiet shows nothing but warnings, other ranks nothing. When nobody reads stderr
any more, a closed terminal or pipe, training goes on unseen.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import IO, Any, Literal, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cyclesr_dist.runtime.bars import clock
from cyclesr_dist.runtime.redact import redact
from cyclesr_dist.telemetry.rank_log import note, unlogged
from cyclesr_dist.telemetry.record import StepRecord, ValidationRecord

LogFormat = Literal["auto", "live", "plain", "json"]
_LINE_SECONDS = 20.0
REDRAW_SECONDS = 1.0
"""Between two drawings of the live view, which cost milliseconds each."""


class _Lenient:
    """A stream that loses what it cannot write."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError):
            self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            self.stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _stderr() -> IO[str]:
    return cast("IO[str]", _Lenient(sys.stderr))


class Progress:
    """Silent but for warnings; the views below show more."""

    def logged(self, record: StepRecord) -> None:
        """A step was logged."""

    def validated(self, record: ValidationRecord) -> None:
        """A validation is done."""

    def say(self, line: str) -> None:
        """Something worth a line."""

    def warn(self, line: str) -> None:
        """Something that matters on a quiet run, too."""
        print(f"cyclesr: warning: {redact(line)}", file=_stderr(), flush=True)

    def close(self) -> None:
        """No more will come."""


class Mute(Progress):
    """Of other ranks: the main rank speaks for all."""

    def warn(self, line: str) -> None:
        """Nothing is shown."""


class Plain(Progress):
    """Lines, at most one in so many seconds besides messages."""

    def __init__(self) -> None:
        self._shown = -_LINE_SECONDS

    def logged(self, record: StepRecord) -> None:
        now = time.monotonic()
        if now - self._shown < _LINE_SECONDS and record.step < record.num_steps:
            return
        self._shown = now
        terms = " ".join(f"{name} {value:.3g}" for name, value in record.losses.items())
        self.say(
            f"step {record.step}/{record.num_steps} epoch {record.epoch} {record.phase}: {terms}; "
            f"{record.speed}, {record.data_wait_share:.0%} waiting for data, "
            f"{clock(record.left_seconds)} left"
        )

    def validated(self, record: ValidationRecord) -> None:
        self.say(f"step {record.step}: validation {_scores(record.scores)}")

    def say(self, line: str) -> None:
        print(redact(line), file=_stderr(), flush=True)


class JsonLines(Progress):
    """One JSON object a line, for machines: `at` (seconds since 1970), `event`, and what belongs to it.

    A number that is not finite is null, as JSON has none such."""

    def logged(self, record: StepRecord) -> None:
        names = ("step", "num_steps", "epoch", "phase", "left_seconds", "patches_per_second", "data_wait_share")
        self._write("progress", **{name: getattr(record, name) for name in names}, terms=record.losses)

    def validated(self, record: ValidationRecord) -> None:
        self._write("validation", step=record.step, **record.scores)

    def say(self, line: str) -> None:
        self._write("message", message=redact(line))

    def warn(self, line: str) -> None:
        self._write("warning", message=redact(line))

    def _write(self, event: str, **more: Any) -> None:
        record = _finite({"at": round(time.time(), 3), "event": event, **more})
        print(json.dumps(record, allow_nan=False), file=_stderr(), flush=True)


class LiveView(Progress):
    """A few lines that are drawn over themselves when something is new; messages scroll above them."""

    def __init__(self, label: str, console: Console | None = None) -> None:
        self.label = label
        self.validation: ValidationRecord | None = None
        self.best_psnr: float | None = None
        self.record: StepRecord | None = None
        self.console = console or Console(file=cast("IO[str]", _Lenient(unlogged(sys.stderr))))
        self.live = Live(self._view(), console=self.console, auto_refresh=False)
        self.live.start(refresh=True)
        self.drawn = -math.inf
        self.console.show_cursor(True)  # a rank that is ended on the spot could not bring it back

    def logged(self, record: StepRecord) -> None:
        self.record = record
        self._update()

    def validated(self, record: ValidationRecord) -> None:
        self.validation = record
        if (psnr := record.scores.get("psnr")) is not None:
            self.best_psnr = psnr if self.best_psnr is None else max(psnr, self.best_psnr)
        self._update()

    def say(self, line: str) -> None:
        self.console.print(redact(line), markup=False, highlight=False)
        note(line)

    def warn(self, line: str) -> None:
        self.say(f"cyclesr: warning: {line}")

    def close(self) -> None:
        self.live.stop()

    def _update(self) -> None:
        due = time.monotonic() - self.drawn > REDRAW_SECONDS
        self.live.update(self._view(), refresh=due)
        if due:
            self.drawn = time.monotonic()

    def _view(self) -> Group:
        s = self.record
        if s is None:
            return Group(Text(f"{self.label}: the first steps"))
        head = Text(self.label, style="bold").append(
            f" · {s.phase}, epoch {s.epoch} · step {s.step:,} of {s.num_steps:,} · {100 * s.step / s.num_steps:.1f}%"
            f" · {clock(s.left_seconds)} left",
            style="not bold",
        )
        bar = Table.grid(expand=True)  # by itself a bar ends without a new line
        bar.add_row(ProgressBar(total=s.num_steps, completed=s.step))
        speed = f"{s.speed}, {s.data_wait_share:.0%} of the time waiting for data"
        lines = [speed]
        if self.validation is not None:
            best = f"; best PSNR {self.best_psnr:.3f} dB" if self.best_psnr is not None else ""
            lines.append(f"validation at step {self.validation.step:,}: {_scores(self.validation.scores)}{best}")
        terms = Table.grid(padding=(0, 2))
        pairs = [f"{name} {value:<8.3g}" for name, value in s.losses.items()]  # columns that stay where they are
        across = max(1, (self.console.width + 2) // (max(map(len, pairs), default=1) + 2))
        for first in range(0, len(pairs), across):
            terms.add_row(*pairs[first : first + across])
        return Group(head, bar, *(Text(line) for line in lines), terms)


def open_progress(log: LogFormat, label: str, enabled: bool) -> Progress:
    """The view that `telemetry.log` asks for; `auto` is live on a terminal and plain elsewhere."""
    if not enabled:
        return Progress()
    if log == "json":
        return JsonLines()
    if log == "live" or (log == "auto" and sys.stderr.isatty()):
        return LiveView(label)
    return Plain()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(of) for name, of in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _scores(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())
