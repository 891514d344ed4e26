"""g_l2h for other programs: safetensors with its description or in its own project's layout, or ONNX with any image
size, checked when written."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cyclesr_dist.errors import InputError
from cyclesr_dist.models.card import Known, card, facts_of_run, model_db
from cyclesr_dist.models.model_file import described, save_model
from cyclesr_dist.models.model_name import find_model, load_network
from cyclesr_dist.models.native import native_file, native_project, native_remarks
from cyclesr_dist.models.onnx_upscaler import import_onnx
from cyclesr_dist.models.reach import reach_of
from cyclesr_dist.models.upscaler import METADATA_KEY
from cyclesr_dist.runtime.files import check_writable, replacing, write_bytes, write_text

ONNX_TOLERANCE = 1e-4
"""Largest difference to torch's output, in [0, 1], that an ONNX file may have."""
CARD, ENTRY = ".md", ".json"
"""Beside a file in its project's layout: the model card, and OpenModelDB's entry."""
_OPSET = 18
_CHECKED_SIZES = ((24, 24), (32, 48), (41, 27))
_VALUES = "float32, RGB, [0, 1]; output about [0, 1], not clipped; (N, 3, h, w) -> (N, 3, h * scale, w * scale)"


def export(model: str, form: str, out: Path, allow_module: bool = False) -> dict[str, Any]:
    """Write `model` (a run folder or .safetensors file) as `safetensors` or `onnx`; returns the metadata.

    The metadata name the architecture, scale, value range and, for a run folder, how it was trained. Raises InputError
    when the model cannot be read, `onnx` is not installed or cannot express the network, or the file's output differs
    from torch's by more than `ONNX_TOLERANCE`; nothing is written then.
    """
    net, sr, scale, extra = load_network(model, allow_module)
    check_writable(out, "--out")
    extra = {**extra, "values": _VALUES, **_training_summary(Path(model))}
    if form == "safetensors":
        save_model(out, net.state_dict(), sr, scale, extra)
        return {"sr": described(sr), "scale": scale, "extra": extra}
    metadata = {
        "sr": described(sr),
        "scale": scale,
        **reach_of(net)._asdict(),
        "extra": extra,
    }
    metadata["largest_difference"] = _export_onnx(net, out, metadata)
    return metadata


def export_native(model: str, out: Path, allow_module: bool = False) -> tuple[str, list[str]]:
    """Write `model` as its architecture's own project does, and beside it a model card (.md) and OpenModelDB's entry
    (.json). Returns the project, and what users of the file must know.

    Raises InputError when the model cannot be read, or no other project has its network; nothing is written then.
    """
    net, sr, scale, extra = load_network(model, allow_module)
    check_writable(out, "--out")
    if out.suffix in (CARD, ENTRY):
        raise InputError(f"--out {out}: {out.suffix} is what is written beside it; allowed: a name in .safetensors")
    known = Known(out.stem, native_project(sr, scale), sr, scale, native_remarks(sr), extra, facts_of_run(model))
    data = native_file(net.state_dict(), sr, scale)
    texts = {CARD: card(known), ENTRY: model_db(known, data, find_model(model).stat().st_mtime)}
    for suffix, text in texts.items():
        write_text(out.with_suffix(suffix), text)
    write_bytes(out, data)
    return known.project, known.remarks


def _training_summary(path: Path) -> dict[str, Any]:
    """What summary.json of a run folder says that others can use."""
    if not (path / "summary.json").is_file():
        return {}
    try:
        summary = json.loads((path / "summary.json").read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path / 'summary.json'}: is not JSON ({error})") from error
    return {"training": {key: summary[key] for key in ("system", "track", "seed", "steps", "best") if key in summary}}


def _export_onnx(net: nn.Module, out: Path, metadata: dict[str, Any]) -> float:
    onnx = import_onnx("onnx")
    import_onnx("onnxscript")
    runtime = import_onnx("onnxruntime")
    scale = metadata["scale"]
    dynamic = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of the exporter, about its own insides
            program = torch.onnx.export(
                net,
                (torch.rand(2, 3, 24, 32),),
                input_names=["lr"],
                output_names=["hr"],
                dynamic_shapes=(dynamic,),
                opset_version=_OPSET,
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # whatever the exporter raises, it could not express this network
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"this network cannot be written as ONNX ({reason})") from error
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
    assert program is not None
    proto = program.model_proto
    proto.producer_name = "cyclesr"
    for node in proto.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]  # names of source files
    onnx.helper.set_model_props(proto, {METADATA_KEY: json.dumps(metadata, sort_keys=True)})
    onnx.checker.check_model(proto)
    with replacing(out) as temporary:
        temporary.write_bytes(proto.SerializeToString(deterministic=True))
        session = runtime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
        worst = _largest_difference(net, session, scale)
        if not worst <= ONNX_TOLERANCE:
            raise InputError(f"{out}: ONNX differs from torch by {worst:.1e}; at most {ONNX_TOLERANCE:.0e} is allowed")
    return worst


def _largest_difference(net: nn.Module, session: Any, scale: int) -> float:
    """Over images of several sizes, between torch and onnxruntime. InputError where the sizes differ."""
    worst = 0.0
    generator = torch.Generator().manual_seed(0)
    for number, (h, w) in enumerate(_CHECKED_SIZES, 1):
        x = torch.rand(number, 3, h, w, generator=generator)
        with torch.no_grad():
            expected = net(x).float().numpy()
        actual = session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]
        if actual.shape != (number, 3, h * scale, w * scale):
            raise InputError(f"ONNX gives shape {actual.shape} for {tuple(x.shape)}; the scale is {scale}")
        worst = max(worst, float(np.abs(actual - expected).max()))
    return worst
