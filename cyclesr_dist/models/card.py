"""What goes with a published network: a model card for people, and the same as OpenModelDB has it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.degradation.record import FACTS
from cyclesr_dist.degradation.sentences import sentences
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.checkpoint_model import newest_checkpoint
from cyclesr_dist.models.model_name import LAST_FILE, MODEL_FILE, find_model
from cyclesr_dist.runtime.files import is_folder
from cyclesr_dist.runtime.passing import failed, patiently
from cyclesr_dist.runtime.wording import counted

_ARCHITECTURES = {
    **{"rrdb": "esrgan", "srvgg": "compact", "edsr": "edsr", "msrresnet": "msrresnet"},
    **{"span": "span", "realplksr": "realplksr", "swinir": "swinir"},
}
"""As OpenModelDB calls them; of a network of yours, its class."""
_BLOCKS = {"srvgg": "nc"}
"""Tag of the number of blocks; `nb` elsewhere."""


@dataclass(frozen=True)
class Known:
    """Of a network that is exported."""

    name: str
    project: str
    """The project whose layout the file has, with the name of the architecture."""
    sr: SRNet
    scale: int
    remarks: list[str]
    """What users of the file must know."""
    extra: Mapping[str, Any]
    """Of the model file: `system`, `step`, `chosen`, `start`."""
    run: Mapping[str, Any]
    """What `facts_of_run` found."""


def facts_of_run(model: str) -> dict[str, Any]:
    """What the run folder that `model` lies in says: `config`, `summary`, `degradation`, `identity` of its newest
    checkpoint; each only where it is there. Raises InputError where one of them is damaged."""
    path = find_model(model)
    folder = path.parent.parent if is_folder(path) else path.parent
    if not (folder / "config.yaml").is_file() or not (is_folder(path) or path.name in (MODEL_FILE, LAST_FILE)):
        return {}
    found: dict[str, Any] = {"config": _read(folder / "config.yaml")}
    for name, file in (("summary", "summary.json"), ("degradation", FACTS)):
        if (folder / file).is_file():
            found[name] = _read(folder / file)
    if checkpoint := newest_checkpoint(folder):
        found["identity"] = _read(checkpoint / "state.json").get("identity", {})
    return found


def _read(path: Path) -> dict[str, Any]:
    """JSON, which is YAML."""
    try:
        content = yaml.safe_load(patiently(lambda: path.read_text(encoding="utf-8")))
    except OSError as error:
        raise failed(f"{path}: cannot be read ({error.strerror or error})", error) from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(f"{path}: cannot be parsed ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no mapping")
    return content


def card(known: Known) -> str:
    """In Markdown."""
    sr = known.sr
    size = (
        f"{counted(sr.blocks, 'block')} of {sr.channels} channels"
        if sr.kind != "module"
        else f"arguments {sr.arguments}"
    )
    parts = [
        f"# {known.name}",
        f"Super-resolution, x{known.scale}. {known.project}: {size}. RGB in [0, 1], three channels in and out.",
        *(f"**Note:** {remark}." for remark in known.remarks),
        _section("Training", _training(known)),
        _section("Degradation that it was made for", _degradation(known)),
        _section("Scores", _scores(known)),
        _section("Licence", _licence(known)),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, lines: list[str]) -> str:
    return f"## {title}\n\n" + "\n".join(f"- {line}" for line in lines)


def _training(known: Known) -> list[str]:
    extra, config, identity = known.extra, known.run.get("config", {}), known.run.get("identity", {})
    lines = ["trained with cyclesr-dist"]
    if "system" in extra:
        chosen = {"best": ", the best of those that were validated", "last": ", the last one"}
        of = chosen.get(str(extra.get("chosen")), "")
        lines = [f"`system: {extra['system']}` of cyclesr-dist, after {extra.get('step', '?')} steps{of}"]
    if "global_batch" in config:
        lines.append(f"{config['global_batch']} patches a step")
    for name, number in identity.get("num_samples", {}).items():
        patch, checksum = identity.get("patch", {}).get(name), str(identity.get("samples", {}).get(name, ""))[:12]
        lines.append(f"`data.{name}`: {number:,} patches of {patch} LR px (manifest SHA-256 {checksum})")
    if start := _start(known):
        lines.append(f"began with {start.get('what')} (SHA-256 {str(start.get('sha256'))[:12]})")
    return lines


def _start(known: Known) -> Mapping[str, Any]:
    start = known.extra.get("start") or known.run.get("identity", {}).get("start")
    return start if isinstance(start, Mapping) else {}


def _degradation(known: Known) -> list[str]:
    if facts := known.run.get("degradation"):
        return ["measured between the two sets of photographs:", *sentences(facts)]
    return ["not measured: the network was trained on what its system makes of the sharp photographs"]


def _scores(known: Known) -> list[str]:
    summary = known.run.get("summary", {})
    best = summary.get("best")
    lines = [f"{name}: {value:.4g}" for name, value in best.items() if name != "step"] if best else []
    lines += [str(summary["verdict"])] if summary.get("verdict") else []
    return lines or ["none are known"]


def _licence(known: Known) -> list[str]:
    lines = ["to be stated by whoever publishes the weights; the code that made them is Apache-2.0"]
    if start := _start(known):
        lines.append(f"they began with {start.get('what')}: the licence of those weights binds, too")
    return lines


def model_db(known: Known, data: bytes, made: float) -> str:
    """Of the file's content, and of when the network was made, in seconds since 1970: JSON with the fields of
    OpenModelDB's entries. `author` and `license` are its publisher's to fill in."""
    config, identity = known.run.get("config", {}), known.run.get("identity", {})
    sr, extra = known.sr, known.extra
    blocks = f"{sr.blocks}{_BLOCKS.get(sr.kind, 'nb')}"
    entry: dict[str, Any] = {
        "name": known.name,
        "author": "",
        "license": None,
        "tags": ["photo", "restoration"],
        "description": _description(known),
        "date": datetime.fromtimestamp(made, UTC).strftime("%Y-%m-%d"),
        "architecture": _ARCHITECTURES.get(sr.kind, sr.module),
        "size": [f"{sr.channels}nf", blocks] if sr.kind != "module" else None,
        "scale": known.scale,
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [
            {
                "platform": "pytorch",
                "type": "safetensors",
                "size": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "urls": [],
            }
        ],
        "images": [],
    }
    numbers = {
        "trainingIterations": extra.get("step"),
        "trainingBatchSize": config.get("global_batch"),
        "trainingHRSize": known.scale * patch if (patch := identity.get("patch", {}).get("hr")) else None,
        "datasetSize": identity.get("num_samples", {}).get("hr"),
    }
    entry |= {name: value for name, value in numbers.items() if value is not None}
    return json.dumps(entry, indent=4) + "\n"


def _description(known: Known) -> str:
    return "\n".join([*_training(known), *_degradation(known), *_scores(known)])
