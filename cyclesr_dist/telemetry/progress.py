"""The progress bar of training: step, loss terms, patches per second, time left."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from tqdm import tqdm

# In a log file a bar that redraws itself is noise: one line in so many seconds will do.
_LOG_INTERVAL_SECONDS = 20.0


class Progress:
    """A tqdm bar on stderr; quiet on all ranks but the main one."""

    def __init__(self, label: str, start: int, stop: int, enabled: bool) -> None:
        interval = 0.5 if sys.stderr.isatty() else _LOG_INTERVAL_SECONDS
        self.bar = tqdm(
            total=stop,
            initial=start,
            desc=label,
            unit="step",
            disable=not enabled,
            mininterval=interval,
            file=sys.stderr,
        )

    def advance(self) -> None:
        self.bar.update()

    def show(self, phase: str, terms: Mapping[str, float], patches_per_second: float) -> None:
        values = " ".join(f"{name} {value:.3g}" for name, value in terms.items())
        self.bar.set_postfix_str(f"{phase} {values} {patches_per_second:.1f} patches/s", refresh=False)

    def say(self, line: str) -> None:
        """Print a line above the bar."""
        if not self.bar.disable:
            self.bar.write(line, file=sys.stderr)

    def warn(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.say(f"warning: {line}")

    def alarm(self, line: str) -> None:
        """Print a line that matters on a quiet run, too."""
        self.bar.write(f"cyclesr: warning: {line}", file=sys.stderr)

    def back_to(self, step: int) -> None:
        self.bar.n = step
        self.bar.refresh()

    def close(self) -> None:
        self.bar.close()
