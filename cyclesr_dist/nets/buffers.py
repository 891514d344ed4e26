"""Buffers whose sizes are those of the state that is loaded: what was measured is not known when a network is built."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class StateSized(nn.Module):
    """A module whose own buffers take the size that a loaded state has, where it differs."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        for name, buffer in list(self.named_buffers(recurse=False)):
            saved = state_dict.get(prefix + name)
            if saved is not None and saved.shape != buffer.shape:
                setattr(self, name, torch.empty_like(saved, device=buffer.device))
        super()._load_from_state_dict(state_dict, prefix, *rest)
