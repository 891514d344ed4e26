"""PSNR and SSIM of g_l2h on held-out real LR photographs during training, spread over the ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cyclesr_dist.backends.base import TensorDict
from cyclesr_dist.config import Config
from cyclesr_dist.evaluate.score import score_file
from cyclesr_dist.images import match_pairs
from cyclesr_dist.model_file import NetUpscaler
from cyclesr_dist.nets.build import build_sr
from cyclesr_dist.world import World


class Validator:
    """Scores a copy of g_l2h, so the training network's mode, gradients and partitions stay untouched."""

    def __init__(self, config: Config, world: World) -> None:
        """Raises InputError when the folders do not match. No folders: `enabled` is False."""
        self.enabled = bool(config.data.valid_hr and config.data.valid_lr and config.train.validate_every_steps)
        self.pairs = match_pairs(Path(config.data.valid_hr), Path(config.data.valid_lr)) if self.enabled else []
        self.protocol = config.validate.protocol
        self.world = world
        self.net = build_sr(config.nets.sr, config.scale).to(world.device).eval()
        self.upscaler = NetUpscaler("g_l2h", self.net, config.scale)

    def score(self, g_l2h: TensorDict) -> dict[str, float]:
        """Mean `psnr` and `ssim` over all pictures. All ranks call it with equal weights; all get the result."""
        self.net.load_state_dict(g_l2h)
        mine = self.pairs[self.world.rank :: self.world.num_ranks]
        with torch.no_grad():
            own = [score_file(self.upscaler, pair, self.protocol) for pair in mine]
        scores = [score for rank_scores in self.world.gather_objects(own) for score in rank_scores]
        return {key: float(np.mean([score[key] for score in scores])) for key in ("psnr", "ssim")}
