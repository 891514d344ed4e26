"""`cyclesr export`: a trained network for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from cyclesr_dist.runtime.command import add_common_arguments


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "export",
        description="Write g_l2h of a run folder or .safetensors file as one file, with its architecture, scale, value "
        "range and training in the metadata. ONNX takes any image size, and is compared with torch before it is kept.",
        epilog="example: cyclesr export --model runs/demo --format onnx --out demo.onnx",
    )
    parser.add_argument("--model", required=True, help="run folder or .safetensors file")
    parser.add_argument("--format", required=True, choices=("safetensors", "onnx"))
    parser.add_argument("--out", required=True, type=Path, metavar="FILE")
    parser.add_argument(
        "--allow-module", action="store_true", help="the model file may name a Python class, which is imported"
    )
    add_common_arguments(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the file and say what is in it. Raises InputError."""
    from cyclesr_dist.models.export import export

    metadata = export(args.model, args.format, args.out, args.allow_module)
    checked = f", {metadata['largest_difference']:.0e} from torch at most" if args.format == "onnx" else ""
    print(
        f"{args.out}: {metadata['sr']['kind']}, x{metadata['scale']}, {args.out.stat().st_size / 1e6:.1f} MB{checked}"
    )
    return 0
