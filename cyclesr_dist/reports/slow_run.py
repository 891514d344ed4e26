"""What limits a run, from the files of its folder, and which key to change: `cyclesr diagnose`.

Read are the lines of metrics.jsonl since the last start, without the first of them, in which everything is set up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from cyclesr_dist.reports.run_files import RunFiles, finite
from cyclesr_dist.runtime.host_load import NAMES

_PARTS = {
    "step": "steps",
    "data_wait": "waiting for batches",
    "validation": "validation",
    "checkpoint": "waiting for checkpoints",
}
_FEWEST_STEPS, _FEWEST_LINES = 20, 3
_SEEN = 0.2
"""Share of the time from which on a cause is worth its sentence."""
_SLOWER = 1.3
"""Times the others' forward passes."""
_MOSTLY = 0.6
"""Share of the lines in which it must be the same rank."""
_FAULT_SECONDS = 0.001
"""That a page from disk takes, roughly: an SSD is faster, a disk slower."""
_BESIDE = 0.4
"""What a checkpoint that is written beside training takes from it at most, of processors, memory and disk: one that is
written for more than half of the time is worth its sentence."""
_OVERHEAD = 0.3
"""Of a step, by operations that compute next to nothing in a loop; in a real step they take longer than there."""
_AIM = 0.1
"""Share of the time that validation or checkpoints may take, for what is suggested."""


@dataclass(frozen=True)
class Cause:
    """`share`: of the time, that is lost to it."""

    bound: str
    share: float
    text: str
    way_out: str
    key: str = ""
    """To turn; empty: none of the configuration's."""


@dataclass(frozen=True)
class SlowRun:
    """What `cyclesr diagnose` says. `bound` is empty where it cannot tell."""

    bound: str
    sentences: list[str]
    key: str = ""
    steps: tuple[int, int] = (0, 0)
    """First and last step that was looked at."""
    seconds_a_step: float = 0.0
    """With everything that is no step."""
    shares: dict[str, float] = field(default_factory=dict)
    """Of the time, by part of the loop on the main rank."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


class _Lines:
    """The lines that are looked at, and sums over them."""

    def __init__(self, run: RunFiles) -> None:
        starts = [event for event in run.events if event.get("event") in ("started", "rolled_back")]
        began = (finite(starts[-1].get("step")) if starts else None) or 0.0
        rows = [row for row in run.metrics if float(row["step"]) > began]
        self.rows = rows[1:]
        self.num_ranks = int(finite(starts[-1].get("num_ranks")) or 1) if starts else 1
        self.first = int(rows[0]["step"]) + 1 if rows else 0
        self.last = int(rows[-1]["step"]) if rows else 0
        self.steps = max(0, self.last - self.first + 1)
        self.seconds = {part: self.sum(f"seconds.{part}") for part in _PARTS}
        self.whole = sum(self.seconds.values())

    def sum(self, key: str) -> float:
        return sum(finite(row.get(key)) or 0.0 for row in self.rows)

    def median(self, key: str) -> float | None:
        known = [value for row in self.rows if (value := finite(row.get(key))) is not None]
        return median(known) if known else None

    def share(self, part: str) -> float:
        return self.seconds[part] / self.whole

    def slowest(self, name: str) -> tuple[int, float, float] | None:
        """A rank that most lines call the slowest, its seconds a step and the others'; None: there is none."""
        rows = [row for row in self.rows if f"ranks.{name}_slowest" in row]
        if not rows:
            return None
        rank, times = Counter(int(row[f"ranks.{name}_slowest"]) for row in rows).most_common(1)[0]
        if times < _MOSTLY * len(rows):
            return None
        own = [row for row in rows if int(row[f"ranks.{name}_slowest"]) == rank]
        seconds, others = (median(float(row[f"ranks.{name}_seconds{end}"]) for row in own) for end in ("", "_others"))
        return rank, seconds, others


def slow_run(run: RunFiles) -> SlowRun:
    """What bounds the run, in up to three sentences."""
    lines = _Lines(run)
    if len(lines.rows) < _FEWEST_LINES or lines.steps < _FEWEST_STEPS or not lines.whole:
        return SlowRun("", [_cannot_tell(lines)])
    shares = {part: round(lines.share(part), 4) for part in _PARTS}
    cause = _cause(lines, run.config)
    return SlowRun(
        cause.bound,
        [cause.text, _where_time_goes(lines), cause.way_out],
        cause.key,
        (lines.first, lines.last),
        round(lines.whole / lines.steps, 5),
        shares,
    )


def _cannot_tell(lines: _Lines) -> str:
    seen = f"{lines.steps} steps in {len(lines.rows)} lines of metrics.jsonl" if lines.rows else "nothing"
    return (
        f"This cannot be told yet: since its last start the run has logged {seen} after the first line, and "
        f"{_FEWEST_STEPS} steps in {_FEWEST_LINES} lines are needed (train.log_every_steps)."
    )


def _where_time_goes(lines: _Lines) -> str:
    parts = sorted(_PARTS, key=lambda part: -lines.seconds[part])
    told = ", ".join(f"{lines.share(part):.0%} {_PARTS[part]}" for part in parts if lines.share(part) >= 0.005)
    return (
        f"Steps {lines.first:,} to {lines.last:,} took {lines.whole / lines.steps:.3g} s each, everything counted; the "
        f"time went to: {told}."
    )


def _cause(lines: _Lines, config: Mapping[str, Any]) -> Cause:
    # A machine without memory or processors slows every part: that is why, wherever the time went.
    for cause in (_memory(lines), _held_back(lines)):
        if cause and cause.share >= _SEEN:
            return cause
    found: list[Cause | None] = [_storage(lines, config), _validation(lines, config), _checkpoints(lines, config)]
    found += [_starved_rank(lines), _slow_rank(lines)]
    largest = max((cause for cause in found if cause), key=lambda cause: cause.share, default=None)
    if largest and largest.share >= _SEEN:
        return largest
    return _overhead(lines, config) or _computing(lines, config)


def _memory(lines: _Lines) -> Cause | None:
    load = {name: lines.sum(f"host.{name}") for name in NAMES}
    waited = load["major_faults"] * _FAULT_SECONDS
    roughly = "about"
    if lines.median("host.io_stall_seconds") is not None:
        roughly = "at least"
        # Pages that come from a fast disk, or from a copy that is still in memory, are awaited for much less.
        waited = min(waited, load["memory_stall_seconds"] + load["io_stall_seconds"] + load["system_seconds"])
    share = min(1.0, max(load["memory_stall_seconds"], waited) / lines.whole)
    if not share:
        return None
    limited = load["memory_limit_hits"] > 0
    why = "the job's memory limit is too small for it" if limited else "the machine has too little of it"
    more = (
        "raise the limit of its control group (cluster.memory_gib in launch/submit.py)"
        if limited
        else "end other programs on the machine, or give the job more memory"
    )
    swapped = f" and {load['swapped_in_mb']:.0f} MB from swap" if load["swapped_in_mb"] else ""
    return Cause(
        "memory",
        share,
        f"Memory limits this run: {why}, and processes wait for pages from disk "
        f"({load['major_faults']:,.0f} of them{swapped}; {roughly} {share:.0%} of the time).",
        f"Set micro_batch (auto) or a smaller global_batch, or fewer data.workers; or {more}.",
        "micro_batch",
    )


def _held_back(lines: _Lines) -> Cause | None:
    limit, heat = (lines.sum(f"host.{name}") for name in ("throttled_seconds", "heat_seconds"))
    share = min(1.0, max(limit, heat) / lines.whole)
    if not share:
        return None
    why = "the job's CPU limit holds its threads back" if limit >= heat else "the processor slows down, since it is hot"
    turn = (
        "Give the job more CPUs (cluster.cpus on Kubernetes), or let it use fewer threads than its limit has cores "
        "(CYCLESR_NUM_THREADS, data.workers)."
        if limit >= heat
        else "Look after the machine's cooling; no key of the configuration helps."
    )
    return Cause("throttling", share, f"The processor limits this run: {why} for {share:.0%} of the time.", turn)


def _storage(lines: _Lines, config: Mapping[str, Any]) -> Cause:
    waits = lines.slowest("wait")
    # What all ranks wait; one that waits longer is another cause.
    seconds = lines.seconds["data_wait"] if waits is None else min(waits[2] * lines.steps, lines.seconds["data_wait"])
    data = _section(config, "data")
    workers = int(finite(data.get("workers")) or 0)
    turn = f"Set data.workers={max(2, 2 * workers)}" + (
        " (0 now: the training process reads by itself, and computes nothing meanwhile)" if not workers else ""
    )
    if any("://" in str(data.get(name)) for name in ("hr", "lr", "pairs")):
        turn += ", or keep more of the shard sets on this machine (data.remote.cache_gb)"
    return Cause(
        "storage",
        seconds / lines.whole,
        f"Reading data limits this run: {seconds / lines.whole:.0%} of the time is waiting for batches, "
        f"{seconds / lines.steps:.2g} s a step.",
        f"{turn}; `cyclesr bench data` measures what helps.",
        "data.workers",
    )


def _starved_rank(lines: _Lines) -> Cause | None:
    found = lines.slowest("wait")
    if found is None:
        return None
    rank, seconds, others = found
    share = min(1.0, max(0.0, seconds - others) * lines.steps / lines.whole)
    return Cause(
        "starved_rank",
        share,
        f"Rank {rank} limits this run: it waits {seconds:.2g} s a step for its batch, the others {others:.2g} s, and "
        f"all wait for it ({share:.0%} of the time).",
        f"Look at the disk and the network of its machine (logs/rank{rank}.log says which it is); more data.workers "
        "help where its cores are free.",
        "data.workers",
    )


def _slow_rank(lines: _Lines) -> Cause | None:
    found = lines.slowest("forward")
    if found is None or found[1] < _SLOWER * found[2]:
        return None
    rank, seconds, others = found
    share = lines.share("step") * (1 - others / seconds)
    return Cause(
        "slow_rank",
        share,
        f"Rank {rank} limits this run: its forward passes take {seconds:.2g} s a step, those of the other ranks "
        f"{others:.2g} s, and all wait for it (about {share:.0%} of the time).",
        f"Look on its machine (logs/rank{rank}.log says which it is) for other programs, heat, a CPU limit or a slower "
        "GPU, or leave the machine out; no key of the configuration helps.",
    )


def _validation(lines: _Lines, config: Mapping[str, Any]) -> Cause:
    share = lines.share("validation")
    every = int(finite(_section(config, "train").get("validate_every_steps")) or 0)
    return Cause(
        "validation",
        share,
        f"Validation limits this run: {share:.0%} of the time.",
        f"Set train.validate_every_steps={_rarer(every, share)} ({every} now), or leave fewer photographs in "
        "data.valid_lr and fewer validate.scores.",
        "train.validate_every_steps",
    )


def _checkpoints(lines: _Lines, config: Mapping[str, Any]) -> Cause:
    waits = lines.share("checkpoint")
    beside = min(1.0, lines.sum("beside.checkpoint") / lines.whole)
    share = max(waits, beside * _BESIDE)
    every = int(finite(_section(config, "train").get("checkpoint_every_steps")) or 0)
    return Cause(
        "checkpoints",
        share,
        f"Checkpoints limit this run: for {waits:.0%} of the time steps wait until one is copied, or the one before is "
        f"written, and for {beside:.0%} of it one is being written beside the steps, which slows them.",
        f"Set train.checkpoint_every_steps={_rarer(every, share)} ({every} now), or train.checkpoints to a faster "
        "place.",
        "train.checkpoint_every_steps",
    )


def _overhead(lines: _Lines, config: Mapping[str, Any]) -> Cause | None:
    share = lines.median("work.overhead")
    if share is None or share < _OVERHEAD:
        return None
    batch = int(finite(config.get("global_batch")) or 1)
    return Cause(
        "overhead",
        share,
        f"The steps are too small: at least {share:.0%} of their time goes to starting operations, however little "
        "each of them computes.",
        f"Set global_batch={4 * batch} ({batch} now): a step will hardly take longer (the learning rates may then be "
        "larger, too); or train on fewer ranks.",
        "global_batch",
    )


def _computing(lines: _Lines, config: Mapping[str, Any]) -> Cause:
    rate, mfu = lines.median("work.flops_per_second"), lines.median("work.mfu")
    speed = "" if rate is None else f" at {rate / 1e9:.3g} GFLOP/s"
    if mfu is not None:
        speed += f", {mfu:.0%} of what the devices can do"
    more = "more ranks" if lines.num_ranks == 1 else "more ranks, or faster ones"
    turn = f"Only {more}, smaller networks (nets.sr, nets.translator)"
    if config.get("precision", "fp32") == "fp32":
        turn += ", precision=bf16 on a GPU"
    if not _section(config, "speed").get("compile"):
        turn += ", speed.compile=true"
    return Cause(
        "computing",
        lines.share("step"),
        f"Computing limits this run, as it should{speed and ','}{speed}.",
        f"{turn} make it faster.",
    )


def _rarer(every: int, share: float) -> int:
    """So many steps apart that it takes a tenth of the time."""
    factor = share / (1 - share) * (1 - _AIM) / _AIM if share < 1 else 10
    return max(every + 1, round(every * factor))


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def sentences(found: SlowRun) -> Sequence[str]:
    """For a page: nothing where it cannot tell."""
    return found.sentences if found.bound else ()
