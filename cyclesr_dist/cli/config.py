"""`cyclesr config`: the keys of a configuration, for editors and for people."""

from __future__ import annotations

import argparse
import json
import textwrap
from importlib import import_module
from pathlib import Path
from typing import Any

from cyclesr_dist.config.allowed import allowed
from cyclesr_dist.config.json_schema import json_schema, leaves
from cyclesr_dist.runtime.command import add_common_arguments
from cyclesr_dist.runtime.files import write_text
from cyclesr_dist.runtime.passing import failed

KINDS = {
    "train": ("cyclesr_dist.config.schema:Config", "of a training run"),
    "tune": ("cyclesr_dist.search.config:Search", "of a search"),
    "table": ("cyclesr_dist.workflows.table.config:Table", "of cyclesr table and ablate"),
}
"""Dataclass, and what it is, by kind of configuration."""
_EPILOG = """\
examples:
  cyclesr config keys
  cyclesr config schema --kind tune --out search.schema.json

An editor with a YAML language server then completes and checks a file that begins with
  # yaml-language-server: $schema=search.schema.json
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "config",
        description="List the keys of a configuration, or write its JSON Schema.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    schema = actions.add_parser(
        "schema",
        help="write the JSON Schema (draft 2020-12)",
        description="Write the JSON Schema (draft 2020-12), by which editors complete and check YAML.",
        epilog="example: cyclesr config schema --kind tune --out search.schema.json",
    )
    schema.add_argument("--out", type=Path, metavar="FILE", help="default: standard output")
    schema.set_defaults(run=run_schema)
    keys = actions.add_parser(
        "keys",
        help="list every key with its default, what it does and what is allowed",
        description="List every key with its default, what it does and what is allowed.",
        epilog="example: cyclesr config keys --kind table",
    )
    keys.set_defaults(run=run_keys)
    for action in (schema, keys):
        action.add_argument(
            "--kind", choices=KINDS, default="train", help="which configuration; default: %(default)s, of a training"
        )
        add_common_arguments(action)


def run_schema(args: argparse.Namespace) -> int:
    """Returns 0; raises InputError when the file cannot be written."""
    text = schema_text(args.kind)
    if args.out is None:
        print(text, end="")
        return 0
    try:
        write_text(args.out, text)
    except OSError as error:
        raise failed(f"--out {args.out}: cannot be written ({error.strerror or error})", error) from error
    return 0


def run_keys(args: argparse.Namespace) -> int:
    for leaf in leaves(dataclass_of(args.kind)):
        print(f"{leaf.key} = {json.dumps(leaf.default)}")
        for text in (leaf.text, f"Allowed: {allowed(leaf.kind)}."):
            print(textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False))
    return 0


def schema_text(kind: str) -> str:
    """What `cyclesr config schema --kind KIND` writes."""
    schema = json_schema(dataclass_of(kind), f"cyclesr-dist: configuration {KINDS[kind][1]}")
    return json.dumps(schema, indent=1) + "\n"


def dataclass_of(kind: str) -> Any:
    """Imported when asked for: a search's and a table's take longer."""
    module, _, name = KINDS[kind][0].partition(":")
    return getattr(import_module(module), name)
