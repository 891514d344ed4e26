"""Recording and alert rules for Prometheus, as plain dicts: what a rule file or a PrometheusRule holds under `groups`.

Every query is made of the definitions, so it names no metric that does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from cyclesr_dist.telemetry import definitions as d
from cyclesr_dist.telemetry.diagnosis import LARGEST_DRIFT, SATURATED

Rule = dict[str, Any]

STEP_RATE = "cyclesr:steps:rate"
THROUGHPUT = "cyclesr:patches:rate"
DATA_WAIT_SHARE = "cyclesr:data_wait:share"
STEP_SECONDS = "cyclesr:step_seconds:p95"
RANKS = "cyclesr:ranks:count"
SLOW_RANK = "cyclesr:slow_rank:ratio"
"""Of the slowest rank, and with its labels: its forward passes against the mean of the others'."""
STARVED_RANK = "cyclesr:starved_rank:share"
"""The same of the wait for batches: what it waits beyond the others, as a share of the time of a step."""
"""Recorded series, one for each run."""


@dataclass(frozen=True)
class Hold:
    """Seconds that a condition must hold (`for:`). Tests shorten them."""

    no_progress: int = 60
    data_starvation: int = 600
    bad_gradients: int = 0
    colour_drift: int = 600
    discriminator_saturated: int = 900
    checkpoint_too_old: int = 60
    rank_missing: int = 60
    straggler: int = 600

    @staticmethod
    def all(seconds: int) -> Hold:
        """The same for every alert."""
        return Hold(*[seconds] * len(fields(Hold)))


@dataclass(frozen=True)
class Limits:
    """Where alerts begin. Seconds, unless the name says otherwise."""

    stall_seconds: int = 900
    """Without a step. A validation is none: this must be above the longest one."""
    data_wait_share: float = 0.25
    """Of a step, waiting for its batch."""
    checkpoint_seconds: int = 7200
    """Since the last checkpoint."""
    slow_rank: float = 1.3
    """Times the others' forward passes."""
    starved_rank: float = 0.2
    """Share of a step that one rank waits for its batch beyond the others."""
    drift: float = LARGEST_DRIFT
    """Of the range of an image: brightness, or one colour against the others."""
    discriminator_loss: float = SATURATED
    rate_seconds: int = 300
    """Window of rates; at least four times the scrape interval."""
    memory_seconds: int = 1800
    """For so long a run that has vanished with all its ranks is missed."""
    final_seconds: int = 120
    """A run that had less than this left when it was last seen may have ended in order; at least two scrapes."""
    hold: Hold = field(default_factory=Hold)


def rule_groups(limits: Limits | None = None, by: str = "run") -> list[Rule]:
    """Groups of a Prometheus rule file.

    `by`: the labels that all ranks of one run share and no other run has. The exporter gives `run`, the name of the run
    folder; where several users share a Prometheus, add the scrape's own: "namespace, run".
    """
    limits = limits or Limits()
    return [
        {"name": "cyclesr-recording", "rules": _recording(limits, by)},
        {"name": "cyclesr-alerts", "rules": _alerts(limits, by)},
    ]


def _recording(limits: Limits, by: str) -> list[Rule]:
    window = f"[{limits.rate_seconds}s]"
    own_step = f"rate({d.STEP_SECONDS.sum}{window})"
    wait, step = (f"sum by ({by}) (rate({h.sum}{window}))" for h in (d.DATA_WAIT_SECONDS, d.STEP_SECONDS))
    rules = {
        STEP_RATE: f"max by ({by}) (rate({d.STEPS}{window}))",
        THROUGHPUT: f'sum by ({by}) (rate({d.PATCHES}{{domain="hr"}}{window}))',
        DATA_WAIT_SHARE: f"{wait} / ({wait} + {step} > 0)",
        STEP_SECONDS: f"histogram_quantile(0.95, sum by ({by}, le) (rate({d.STEP_SECONDS.bucket}{window})))",
        RANKS: f"count by ({by}) ({d.WORLD_SIZE})",
        SLOW_RANK: _above_others(f"rate({d.FORWARD_SECONDS}{window})", by, "/"),
        STARVED_RANK: f"({_above_others(f'rate({d.DATA_WAIT_SECONDS.sum}{window})', by, '-')})"
        f" / on ({by}) group_left () max by ({by}) (rate({d.DATA_WAIT_SECONDS.sum}{window}) + {own_step})",
    }
    return [{"record": name, "expr": query} for name, query in rules.items()]


def _alerts(limits: Limits, by: str) -> list[Rule]:
    hold = limits.hold
    memory = f"[{limits.memory_seconds}s]"
    vanished = (
        f"max by ({by}) (last_over_time({d.WORLD_SIZE}{memory})) unless count by ({by}) ({d.WORLD_SIZE})"
        f" unless min by ({by}) (last_over_time({d.REMAINING}{memory})) < {limits.final_seconds}"
    )
    return [
        _alert(
            "CyclesrNoProgress",
            f"time() - max by ({by}) ({d.LAST_STEP}) > {limits.stall_seconds}",
            hold.no_progress,
            "critical",
            f"{_run(by)} has not finished a step for {{{{ $value | humanizeDuration }}}}",
            "Ranks answer but do not move: one hangs (its own metrics may be missing), or the data do not come. "
            "`cyclesr supervise` and train.lost_rank_seconds end such a run, so that it can resume.",
        ),
        _alert(
            "CyclesrDataStarvation",
            f"{DATA_WAIT_SHARE} > {limits.data_wait_share}",
            hold.data_starvation,
            "warning",
            f"{_run(by)} waits for its batches for {{{{ $value | humanizePercentage }}}} of the time",
            "More data.workers or data.prefetch, a larger data.remote.cache_gb, or another shards.encoding help; "
            "`cyclesr bench data` measures them.",
        ),
        _alert(
            "CyclesrBadGradients",
            f'max by ({by}) (increase({d.SKIPPED}{{reason="not_finite"}}[{limits.rate_seconds}s])) > 0',
            hold.bad_gradients,
            "warning",
            f"{_run(by)} left out steps whose gradients are not finite",
            "Losses and samples of these steps are in bad_steps.jsonl of the run folder; a smaller learning rate or "
            "loss weight may help.",
        ),
        _alert(
            "CyclesrColourDrift",
            f'max by ({by}) (abs({d.DRIFT}{{kind=~"mean|colour"}})) > {limits.drift}',
            hold.colour_drift,
            "warning",
            f"{_run(by)}: g_s2r shifts brightness or a colour by {{{{ $value | humanizePercentage }}}} of the range",
            "A larger weights.cyc or weights.id holds it; InstanceNorm in the discriminators prevents most of it.",
        ),
        _alert(
            "CyclesrDiscriminatorSaturated",
            f'min by ({by}, term) ({d.LOSS}{{term=~"d_r|d_s|d_h"}}) < {limits.discriminator_loss}',
            hold.discriminator_saturated,
            "warning",
            f"{_run(by)}: {{{{ $labels.term }}}} tells real from fake without error, so it teaches nothing",
            "A smaller optim.lr_cyclegan or smaller discriminators may help.",
        ),
        _alert(
            "CyclesrCheckpointTooOld",
            f"time() - max by ({by}) ({d.LAST_CHECKPOINT}) > {limits.checkpoint_seconds}",
            hold.checkpoint_too_old,
            "warning",
            f"{_run(by)} has not written a checkpoint for {{{{ $value | humanizeDuration }}}}",
            "A crash now costs that much work. See train.checkpoint_every_steps and the place train.checkpoints.",
        ),
        _alert(
            "CyclesrRankMissing",
            f"(max by ({by}) ({d.WORLD_SIZE}) - count by ({by}) ({d.WORLD_SIZE}) > 0) or ({vanished})",
            hold.rank_missing,
            "critical",
            f"{_run(by)}: {{{{ $value }}}} ranks cannot be scraped",
            "Killed, frozen or cut off. Started again with --resume the run goes on from its last checkpoint.",
        ),
        _alert(
            "CyclesrStraggler",
            f"{SLOW_RANK} > {limits.slow_rank}",
            hold.straggler,
            "warning",
            f"{_run(by)}: rank {{{{ $labels.rank }}}} computes {{{{ $value | humanize }}}} times as long as the others",
            "All ranks wait for it. Look on its machine for other programs, heat and a CPU limit; "
            "`cyclesr diagnose RUN` says what it costs.",
        ),
        _alert(
            "CyclesrStarvedRank",
            f"{STARVED_RANK} > {limits.starved_rank}",
            hold.straggler,
            "warning",
            f"{_run(by)}: rank {{{{ $labels.rank }}}} waits for its batches for {{{{ $value | humanizePercentage }}}} "
            "of the time, the others do not",
            "All ranks wait for it. Its machine reads more slowly: its disk, its network, or its cores.",
        ),
    ]


def _above_others(series: str, by: str, operator: str) -> str:
    """The largest over a run's ranks, with its labels, against the mean of the others; nothing where it is alone."""
    others = f"((sum by ({by}) ({series}) - max by ({by}) ({series})) / (count by ({by}) ({series}) - 1 > 0))"
    return f"topk by ({by}) (1, {series}) {operator} on ({by}) group_left () {others}"


def _alert(name: str, query: str, hold: int, severity: str, summary: str, description: str) -> Rule:
    return {
        "alert": name,
        "expr": query,
        "for": f"{hold}s",
        "labels": {"severity": severity},
        "annotations": {"summary": summary, "description": description},
    }


def _run(by: str) -> str:
    return " ".join(f"{{{{ $labels.{label.strip()} }}}}" for label in by.split(","))
