"""Upscaling from an .onnx file that `cyclesr export` wrote. torch is not needed, and not imported."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cyclesr_dist.errors import InputError
from cyclesr_dist.models.arithmetic import NumpyArithmetic
from cyclesr_dist.models.reach import Reach
from cyclesr_dist.models.upscaler import METADATA_KEY
from cyclesr_dist.runtime.cores import compute_threads
from cyclesr_dist.runtime.extras import install_hint


class OnnxUpscaler:
    """A network in an .onnx file that `export` wrote, run by onnxruntime on the CPU."""

    arithmetic = NumpyArithmetic()

    def __init__(self, name: str, path: Path) -> None:
        """Raises InputError when onnxruntime is missing or the file cannot be used."""
        runtime = import_onnx("onnxruntime")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = compute_threads()
        try:
            self.session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            metadata = self.session.get_modelmeta().custom_metadata_map
            description = json.loads(metadata[METADATA_KEY])
            scale = description["scale"]
            # Files of earlier versions have the first one alone.
            reach = Reach(description["reach_px"], description.get("grid_px", 1), description.get("sums_up", False))
        except KeyError as error:
            raise InputError(f"{path}: was not written by cyclesr (no metadata {error})") from error
        except Exception as error:  # onnxruntime's own kinds derive from Exception alone
            raise InputError(f"{path}: cannot be used as an ONNX file ({str(error).splitlines()[0]})") from error
        if not all(isinstance(value, int) and 1 <= value <= 1 << 16 for value in (scale, *reach[:2])):
            raise InputError(f"{path}: unusable description of the network (scale {scale!r}, {reach})")
        self.name, self.scale, self.reach = name, scale, reach

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        values = np.ascontiguousarray(x, dtype=np.float32)
        y: NDArray[np.float32] = self.session.run(None, {self.session.get_inputs()[0].name: values})[0]
        return y


def import_onnx(module: str) -> Any:
    """A package of the extra `onnx`. Raises InputError where it is missing."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise InputError(f"ONNX needs the package {module}: {install_hint('onnx')} ({error})") from error
