"""`cyclesr table` and `cyclesr ablate`: see `cyclesr_dist.workflows.table`."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from typing import Any

from cyclesr_dist.runtime.command import add_common_arguments

_TABLE_EXAMPLE = """example:
  cyclesr table --config configs/table_small.yaml --run-dir runs/table photos=photos test_hr=kodak24
  cyclesr table --config configs/table_paper.yaml --run-dir runs/paper --ray auto   # on a Ray cluster"""
_ABLATE_EXAMPLE = """example:
  cyclesr ablate --config configs/table_small.yaml --run-dir runs/ablation photos=photos test_hr=kodak24"""


def add_parser(subparsers: Any) -> None:
    table = subparsers.add_parser(
        "table",
        description="The paper's Table 1 on your photographs. Finished runs are reused: if it was stopped, give the "
        "command again.",
        epilog=_TABLE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    table.set_defaults(run=run)
    ablate = subparsers.add_parser(
        "ablate",
        description="The paper's ablation with Figure 3's pictures. Finished runs are reused.",
        epilog=_ABLATE_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    ablate.set_defaults(run=run_ablate)
    for parser, folder in ((table, "runs/table"), (ablate, "runs/ablation")):
        parser.add_argument("--config", type=Path, required=True, help="YAML file, see configs/table_*.yaml")
        parser.add_argument("--run-dir", type=Path, default=Path(folder), help="default: %(default)s")
        parser.add_argument(
            "--ray", metavar="ADDRESS", help="spread the runs over Ray: local, auto, or the address of a cluster"
        )
        parser.add_argument(
            "--into",
            type=Path,
            metavar="FILE",
            help="Markdown file whose generated part is replaced by the result; charts go into images/ beside it",
        )
        parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="overrides, e.g. run.train.epochs=2")
        add_common_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from cyclesr_dist.workflows.table.config import load_table
    from cyclesr_dist.workflows.table.document import IMAGES, check_marks, insert, origin, place_images
    from cyclesr_dist.workflows.table.render import markdown, plane_file, planes
    from cyclesr_dist.workflows.table.run import run_table

    table = load_table(args.config, args.overrides)
    if args.into:
        check_marks(args.into, "table")
    content = run_table(table, args.run_dir, args.ray, partial(_announce, "table"), args.quiet)
    if args.into:
        place_images(args.run_dir, args.into, [plane_file(track) for track in planes(content)])
        text = markdown(content, images=f"{IMAGES}/")
        insert(args.into, "table", f"{origin(_command('table', args), content)}\n\n{text}")
    print("\n" + markdown(content))
    print(f"with pictures: {args.run_dir / 'table.html'}")
    return 0


def run_ablate(args: argparse.Namespace) -> int:
    from cyclesr_dist.workflows.table import ablation
    from cyclesr_dist.workflows.table.config import load_table
    from cyclesr_dist.workflows.table.document import check_marks, insert, origin
    from cyclesr_dist.workflows.table.run import run_ablation

    table = load_table(args.config, args.overrides)
    if args.into:
        check_marks(args.into, "ablation")
    content = run_ablation(table, args.run_dir, args.ray, partial(_announce, "ablate"), args.quiet)
    text = ablation.markdown(content)
    if args.into:
        insert(args.into, "ablation", f"{origin(_command('ablate', args), content)}\n\n{text}")
    print("\n" + text)
    print(f"with pictures: {args.run_dir / 'ablation.html'}")
    return 0


def _command(name: str, args: argparse.Namespace) -> list[str]:
    """The command as anyone would give it: folders by their last part."""
    overrides = [
        f"{key}={Path(value).name}" if key in ("photos", "valid_hr", "test_hr") else f"{key}={value}"
        for key, _, value in (text.partition("=") for text in args.overrides)
    ]
    config = Path(*args.config.parts[-2:]) if args.config.is_absolute() else args.config
    return [name, "--config", str(config), *overrides]


def _announce(command: str, line: str) -> None:
    print(f"cyclesr {command}: {line}", flush=True)
