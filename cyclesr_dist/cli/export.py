"""`cyclesr export`: a trained network for other programs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.command import add_common_arguments


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "export",
        description="Write g_l2h of a run folder or .safetensors file as one file, with its architecture, scale, value "
        "range and training in the metadata. ONNX takes any image size, and is compared with torch before it is kept. "
        "With --layout native the tensors have the names that the architecture's own project gives them, which other "
        "programs recognise, and a model card (.md) and an OpenModelDB entry (.json) are written beside the file.",
        epilog="example: cyclesr export --model runs/demo --format onnx --out demo.onnx",
    )
    parser.add_argument("--model", required=True, help="run folder or .safetensors file")
    parser.add_argument("--format", default="safetensors", choices=("safetensors", "onnx"), help="default: safetensors")
    parser.add_argument(
        "--layout", default="cyclesr", choices=("cyclesr", "native"), help="names of the tensors; default: cyclesr"
    )
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="file to write")
    parser.add_argument(
        "--allow-module", action="store_true", help="the model file may name a Python class, which is imported"
    )
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the file and say what is in it. Raises InputError."""
    from cyclesr_dist.models.export import export, export_native

    if args.layout == "native":
        if args.format != "safetensors":
            raise InputError(f"--layout native with --format {args.format}; allowed with: safetensors")
        project, remarks = export_native(args.model, args.out, args.allow_module)
        print(f"{args.out}: {project}, {args.out.stat().st_size / 1e6:.1f} MB")
        for remark in remarks:
            print(f"cyclesr: warning: {remark}", file=sys.stderr)
        return 0
    metadata = export(args.model, args.format, args.out, args.allow_module)
    checked = f", {metadata['largest_difference']:.0e} from torch at most" if args.format == "onnx" else ""
    print(
        f"{args.out}: {metadata['sr']['kind']}, x{metadata['scale']}, {args.out.stat().st_size / 1e6:.1f} MB{checked}"
    )
    return 0
