"""The paper's claim about inference, measured: g_l2h in one stage against g_r2s first and the sr_syn network then."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cyclesr_dist.config.schema import Protocol
from cyclesr_dist.data.folders import match_pairs
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.models.upscaler import NetUpscaler, Upscaler
from cyclesr_dist.scoring.score import score_file
from cyclesr_dist.workflows.table.config import Table
from cyclesr_dist.workflows.table.data import TableData
from cyclesr_dist.workflows.table.inference import alone, timed
from cyclesr_dist.workflows.table.jobs import Job
from cyclesr_dist.workflows.table.translator import translator_of


def compare_stages(table: Table, data: TableData, jobs: Sequence[Job]) -> dict[str, Any]:
    """By track, for the first seed whose cyclesr and sr_syn are done: `one_stage` and `two_stages`, each with `psnr`,
    `seconds` (median of a photograph) and `peak_memory_mb` (of a process that does nothing else)."""
    found: dict[str, Any] = {}
    for track, folders in data.tracks.items():
        for seed in table.seeds:
            of = {job.config.system: job for job in jobs if job.done and job.config.seed == seed and track in job.tests}
            if "cyclesr" in of and "sr_syn" in of:
                arguments = (of["cyclesr"], of["sr_syn"], folders.test_lr, data.test_hr, table.protocol)
                found[track] = {
                    name: alone(measure, *arguments, name == "two_stages") for name in ("one_stage", "two_stages")
                }
                break
    return found


def measure(cyclesr: Job, sr_syn: Job, lr: Path, hr: Path, protocol: Protocol, two_stages: bool) -> dict[str, float]:
    """Enlarge and score a folder of photographs on one thread."""
    net = resolve_model(str((sr_syn if two_stages else cyclesr).folder), allow_module=True)
    model: Upscaler = net
    if two_stages:
        assert isinstance(net, NetUpscaler)
        model = NetUpscaler("g_r2s, then sr_syn", _TwoStages(translator_of(cyclesr, "g_r2s"), net.net), net.scale)
    pairs = match_pairs(hr, lr)
    cost = timed(model, [pair.lr for pair in pairs])
    with torch.no_grad():
        return {"psnr": float(np.mean([score_file(model, pair, protocol)["psnr"] for pair in pairs]))} | cost


class _TwoStages(nn.Module):
    """(N, 3, h, w) in [0, 1] -> (N, 3, h * scale, w * scale): what is between the stages is clipped, as in a file."""

    def __init__(self, g_r2s: nn.Module, g_l2h: nn.Module) -> None:
        super().__init__()
        self.g_r2s = g_r2s
        self.g_l2h = g_l2h

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.g_l2h(self.g_r2s(x).clamp(0, 1))
        return out
