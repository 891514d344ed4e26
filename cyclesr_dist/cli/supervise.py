"""`cyclesr supervise`: see `cyclesr_dist.runtime.supervise`."""

from __future__ import annotations

import argparse
import os

from cyclesr_dist.config.reader import check_range
from cyclesr_dist.errors import ConfigError
from cyclesr_dist.runtime.hostfile import check_hostfile
from cyclesr_dist.runtime.meeting import launchers_address, meeting_seconds, wait_for_address
from cyclesr_dist.runtime.supervise import Supervisor

_EPILOG = """\
exit codes: 0 done, 75 stopped and saved (start it again with --resume), 2 bad config or input, 1 anything else.

example:
  cyclesr supervise -- deepspeed --num_gpus 8 launch/train.py --config configs/ntire17_t2.yaml --resume"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "supervise",
        description="Run a launcher as a child. SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 make the ranks "
        "save and leave; the exit code is made of theirs, whatever the launcher says; nothing is left behind, also "
        "when this process is killed. A second SIGTERM, SIGINT or SIGQUIT kills all.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=30.0,
        metavar="S",
        help="seconds after which all are killed; above train.grace_seconds; default: %(default)s",
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    parser.add_argument("launcher", nargs=argparse.REMAINDER, metavar="-- COMMAND...")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Returns the exit code. Raises ConfigError, and InputError when the command cannot be started or lacks its
    hostfile."""
    command = args.launcher[1:] if args.launcher[:1] == ["--"] else args.launcher
    if not command:
        raise ConfigError("supervise: no command; expected cyclesr supervise -- COMMAND...")
    check_range("--grace", args.grace, above=0)
    check_hostfile(command, os.getcwd())
    if found := launchers_address(command, os.environ):
        wait_for_address(*found, meeting_seconds())
    return Supervisor(command, args.grace).run()
