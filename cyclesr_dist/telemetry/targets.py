"""prometheus_targets.json of a run folder: where the ranks' metrics are, as Prometheus's file_sd_configs reads it."""

from __future__ import annotations

import json
import socket
from pathlib import Path

from cyclesr_dist.runtime.files import write_text

_ANY_INTERFACE = ("0.0.0.0", "::", "")


def address(host: str, port: int) -> str:
    """What to scrape for a process that listens on `host`; empty for port 0."""
    name = socket.gethostname() if host in _ANY_INTERFACE else host
    return f"{f'[{name}]' if ':' in name else name}:{port}" if port else ""


def write_targets(path: Path, addresses: list[str], scheme: str = "http") -> None:
    """Of all ranks. Empty ones are left out. Prometheus takes the scheme from a label, a token from its own file."""
    labels = {} if scheme == "http" else {"labels": {"__scheme__": scheme}}
    write_text(path, json.dumps([{"targets": [a for a in addresses if a], **labels}], indent=1) + "\n")
