"""The files of docs/monitoring: the dashboard and the rules as Grafana and Prometheus read them."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.passing import failed
from cyclesr_dist.telemetry.alerts import Limits, rule_groups
from cyclesr_dist.telemetry.dashboard import dashboard


def files(limits: Limits | None = None, by: str = "run") -> dict[str, str]:
    """Contents by name."""
    rules = yaml.safe_dump({"groups": rule_groups(limits, by)}, sort_keys=False, width=1000)
    return {
        "dashboard.json": json.dumps(dashboard(), indent=1) + "\n",
        "rules.yml": "# Written by `cyclesr monitoring`.\n" + rules,
    }


def write_files(out: Path, by: str = "run") -> list[Path]:
    """Into a folder, which is made. Raises InputError when it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, text in files(by=by).items():
            write_text(out / name, text)
    except OSError as error:
        raise failed(f"{out}: cannot be written ({error.strerror})", error) from error
    return [out / name for name in files(by=by)]
