"""The `cyclesr` command: one module of this package per subcommand, by its name.

Only the module asked for is imported: `cyclesr supervise` is the first process of containers and needs no torch.
`train`, `tune` and `submit` are launch/train.py, tune.py and submit.py; beneath launchers, `torchrun --nproc-per-node 2
-m cyclesr_dist.cli.main train ...` and `deepspeed --module cyclesr_dist.cli.main train ...`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from cyclesr_dist import __version__
from cyclesr_dist.cli import launch
from cyclesr_dist.runtime.command import Parser, end_process, guarded, own_process

COMMANDS = {
    "fit": ("fit", "train on your own two folders, from photographs to a verdict"),
    "train": ("launch", "train one system; also beneath deepspeed and torchrun"),
    "tune": ("launch", "search loss weights and other numbers on a Ray cluster"),
    "submit": ("launch", "run a training, or a search, on Kubernetes or Slurm"),
    "degrade": ("degrade", "simulate a track: LR files and degradations.json"),
    "estimate": ("estimate", "measure blur, noise and JPEG of real LR"),
    "shards": ("shards", "pack photographs into shard sets, verify them"),
    "evaluate": ("evaluate", "PSNR and SSIM on a folder"),
    "upscale": ("upscale", "enlarge photographs"),
    "formats": ("formats", "list which image files are read, at what depth"),
    "report": ("report", "write report.html into run folders"),
    "diagnose": ("diagnose", "say what limits a run that is slow, and which key to change"),
    "compare": ("compare", "write one page about several runs"),
    "config": ("config", "list the keys of a configuration, or write its JSON Schema"),
    "monitoring": ("monitoring", "write the Grafana dashboard and Prometheus rules"),
    "demo": ("demo", "the whole job on the bundled photographs"),
    "table": ("table", "train and score all systems on all tracks"),
    "ablate": ("table", "train cyclesr at several values of weights.mse"),
    "export": ("export", "a trained network for other programs"),
    "bench": ("bench", "measure on this machine"),
    "supervise": ("supervise", "run a launcher, pass signals to the ranks, return their exit code"),
}
"""Module and help by command."""
_GO_ON = ("fit", "table", "ablate", "demo", "shards build", "degrade", "upscale")
"""Commands that go on where they were stopped, when they are given again."""
_OWN_PARSER = launch.SCRIPTS
"""Commands that read their arguments by themselves: overrides and switches may alternate, which subparsers refuse."""


def build_parser(command: str = "") -> argparse.ArgumentParser:
    """With one command, or with all."""
    parser, subparsers = _parser()
    modules = (
        [COMMANDS[command][0]] if command in COMMANDS else dict.fromkeys(module for module, _ in COMMANDS.values())
    )
    for name in modules:
        import_module(f"cyclesr_dist.cli.{name}").add_parser(subparsers)
    return parser


def overview() -> argparse.ArgumentParser:
    """All commands by name: no module of theirs is imported."""
    parser, subparsers = _parser()
    for command, (_, text) in COMMANDS.items():
        subparsers.add_parser(command, help=text, add_help=False)
    return parser


def _parser() -> tuple[Parser, argparse._SubParsersAction[Parser]]:
    parser = Parser(
        prog="cyclesr", description="Super-resolution for real photographs without pairs (CycleSR, CycleSRGAN)."
    )
    parser.add_argument("--version", action="version", version=f"cyclesr {__version__}")
    return parser, parser.add_subparsers(dest="command", required=True, metavar="COMMAND")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Returns the exit code: 0 done, 2 bad usage or input, 75 preempted, 1 otherwise.

    `argv` None: of this process, which a training ends by itself.
    """
    words = _command_first(sys.argv[1:] if argv is None else argv)
    command = words[0] if words else ""
    if command in _OWN_PARSER:
        run = partial(launch.run, command, words[1:])
        if command == "train" and argv is None:
            end_process(run)
        if argv is None:
            own_process()
        return run()
    args = parse(build_parser(command) if command in COMMANDS else overview(), words)
    if argv is None:
        own_process()
    return guarded(lambda: args.run(args), debug=args.debug, goes_on=_goes_on(args))


def parse(parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    """What a parser of `build_parser` reads. Leaves as argparse does when there are words that nobody takes."""
    args, rest = parser.parse_known_args(words)
    if rest and (not hasattr(args, "overrides") or any(text.startswith("-") for text in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if rest:  # argparse takes one run of overrides, and leaves those that follow behind options
        args.overrides = [*args.overrides, *rest]
    return args


def _goes_on(args: argparse.Namespace) -> bool:
    return " ".join(filter(None, (args.command, getattr(args, "action", "")))) in _GO_ON


def _command_first(argv: Sequence[str]) -> list[str]:
    """The deepspeed launcher puts --local_rank=N before all arguments."""
    ours = [text for text in argv[:1] if text.startswith("--local_rank")]
    return [*argv[len(ours) : len(ours) + 1], *ours, *argv[len(ours) + 1 :]]


if __name__ == "__main__":
    raise SystemExit(main())
