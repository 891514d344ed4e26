"""Every command that a document, a comment or `--help` shows is one that a reader can give.

Nothing is run here: the real parsers must take the words, the real loaders the configuration with its overrides.
tests/house/test_documented_runs.py runs what can be run in seconds.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from helpers.documents import (
    COMMENTED,
    DOCUMENTS,
    REPOSITORY,
    TARGETS,
    Command,
    WrongError,
    blocks,
    commented,
    helped,
    of_shell,
    script_parser,
    shown,
)
from helpers.runs import program

from cyclesr_dist.cli.launch import SCRIPTS
from cyclesr_dist.cli.main import COMMANDS, build_parser, parse
from cyclesr_dist.config.schema import Config, load
from cyclesr_dist.distributed.world import World
from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.kubernetes.submit import main as submit
from cyclesr_dist.search.config import load_search
from cyclesr_dist.workflows.bench.plans import CASES, TelemetryBench
from cyclesr_dist.workflows.fit.machine import Machine
from cyclesr_dist.workflows.fit.photos import Photo, split
from cyclesr_dist.workflows.fit.settings import choose
from cyclesr_dist.workflows.table.config import load_table

OTHERS = {
    "docker": "builds the image; each step of the Dockerfile is run by tests/house/test_image.py",
    "kind": "a cluster of one machine, which needs docker",
    "kubectl": "needs a cluster; the files that it is given are checked here and in test_kustomize.py",
    "minikube": "a cluster of one machine",
    "pip": "an installation; test_extras.py checks the extras",
    "source": "of the shell",
    "cd": "of the shell",
    "export": "of the shell",
    "git": "the reader's own",
    "tar": "the reader's own",
    "ray": "a cluster of Ray",
    "sky": "a cloud; the script of examples/skypilot.yaml is run by tests/runtime/test_skypilot.py",
    "sinfo": "of Slurm",
    "prometheus": "a server",
    "tensorboard": "a page of TensorBoard",
    "ruff": "`make check` has the same",
}
"""Programs of others, and why they are not looked at beyond the files that they are given."""
FOLDERS = ("configs", "docs", "examples", "k8s", "launch", "tests", ".ci")
_PLACEHOLDER = re.compile(r"[A-Z]+")
_DRIVER = """
import argparse, runpy, sys
from pathlib import Path
def reading(method):
    def read(self, *arguments):
        method(self, *arguments)
        raise SystemExit(0)
    return read
for name in ("parse_args", "parse_intermixed_args"):
    setattr(argparse.ArgumentParser, name, reading(getattr(argparse.ArgumentParser, name)))
script = sys.argv[1]
sys.argv = sys.argv[1:]
sys.path[0] = str(Path(script).parent)
runpy.run_path(script, run_name="__main__")
sys.exit("it reads no arguments")
"""
"""A script as far as it has read its arguments, with the parser that is its own."""


def check(command: Command) -> None:
    """Raise WrongError unless a reader can give this command."""
    try:
        _check(command, list(command.words))
    except WrongError as error:
        raise WrongError(f"{command}: {error}") from error


def _check(command: Command, words: list[str], ranks: int = 1) -> None:
    program, arguments = Path(words[0]).name, words[1:]
    for text in command.variables:
        name = text.partition("=")[0]
        if name.startswith("CYCLESR_") and not _in_the_package(name):
            raise WrongError(f"nothing reads the variable {name}")
    for word in words:
        _check_path(word)
    match program:
        case "cyclesr" if arguments[:1] == ["supervise"]:
            args = _read(command, arguments)
            if inner := [word for word in args.launcher if word != "--"]:
                _check(command, inner)
        case "cyclesr":
            _check_config(command, arguments, _read(command, arguments), ranks)
        case "torchrun":
            _check_torchrun(command, arguments)
        case "deepspeed":
            _check_deepspeed(command, arguments)
        case "srun":
            starts = [i for i, word in enumerate(words) if word in ("torchrun", "deepspeed", "python", "cyclesr")]
            if not starts:
                raise WrongError("srun starts nothing of this project")
            _check(command, words[starts[0] :])
        case "python":
            _check_python(command, arguments, ranks)
        case "pytest":
            _check_pytest(arguments)
        case "make":
            wrong = [word for word in arguments if word not in TARGETS and "=" not in word]
            if wrong or not arguments:
                raise WrongError(f"no such target: {wrong}; there are {', '.join(TARGETS)}")
        case "bash":
            if not arguments or not (REPOSITORY / arguments[0]).is_file():
                raise WrongError("no such script")
        case "time":
            _check(command, words[2 if arguments[:1] == ["-v"] else 1 :], ranks)
        case "run" if words[0] == ".ci/run":
            pass
        case _ if program not in OTHERS:
            raise WrongError(f"{program!r} belongs to no class of commands; see OTHERS")


def _in_the_package(name: str) -> bool:
    return any(name in path.read_text(encoding="utf-8") for path in (REPOSITORY / "cyclesr_dist").rglob("*.py"))


def _check_path(word: str) -> None:
    """What lies in a folder of the project is there."""
    for text in {word, word.partition("=")[2]}:
        path = text.removeprefix("./")
        if path.split("/")[0] in FOLDERS and "/" in path and not (REPOSITORY / path).exists():
            raise WrongError(f"there is no {path}")


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What argparse and the loaders refuse, as WrongError."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            yield
    except SystemExit as leaving:
        if leaving.code:
            raise WrongError(said.getvalue().strip().splitlines()[-1]) from leaving
    except CycleSRError as error:
        raise WrongError(str(error)) from error


def _relax(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """Nothing is required any more, and NAME may stand for a choice."""
    for action in parser._actions:
        action.required = False
        if action.choices and action.option_strings:
            action.choices = [*action.choices, "NAME"]
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _relax(inner)
        elif not action.option_strings and action.nargs != argparse.REMAINDER:
            action.nargs = "*" if action.nargs in ("+", "*") else "?"
    return parser


def _filled(words: Sequence[str]) -> list[str]:
    """Words of a mention or a synopsis with something in the place of N and PX."""
    words = ["4" if word == "N" else re.sub(r"=[A-Z]+$", "=1", word) for word in words]
    return [word for word in words if word not in ("OVERRIDES", "key=value", "key.sub=value")]


def _read(command: Command, words: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command of `cyclesr`, as its parser reads them."""
    if not words or (words[0] not in COMMANDS and not words[0].startswith("-")):
        raise WrongError(f"no such command; there are {', '.join(COMMANDS)}")
    words = list(words) if command.whole else _filled(words)
    with _refusals():
        if words[0] in SCRIPTS:
            return _read_script(command, script_parser(SCRIPTS[words[0]]), words[1:])
        parser = build_parser(words[0])
        return parse(parser if command.whole else _relax(parser), words)
    return argparse.Namespace()  # --help, --version


def _read_script(command: Command, parser: argparse.ArgumentParser, words: Sequence[str]) -> argparse.Namespace:
    args = (parser if command.whole else _relax(parser)).parse_intermixed_args(words)
    if wrong := [text for text in args.overrides or () if "=" not in text]:
        raise WrongError(f"{wrong[0]!r} is no override")
    return args


def _check_config(command: Command, words: Sequence[str], args: argparse.Namespace, ranks: int = 1) -> None:
    """The configuration can be loaded with the overrides."""
    name = " ".join([words[0], *([args.action] if getattr(args, "action", None) else [])])
    if not hasattr(args, "config") and not hasattr(args, "overrides"):
        return
    if name not in LOADERS:
        raise WrongError(f"{name} takes a configuration, and no loader is known for it; see LOADERS")
    defaults = {"tune": "tune_demo", "bench search": "tune_demo", "table": "table_small", "ablate": "table_small"}
    args.config = getattr(args, "config", None)
    if not command.whole and (not args.config or _PLACEHOLDER.match(str(args.config))):
        args.config = Path("configs") / f"{defaults.get(name, 'demo')}.yaml"
    args.overrides = list(getattr(args, "overrides", None) or ())
    if name in ("table", "ablate") and not command.whole:
        args.overrides = ["photos=photos", "test_hr=test", *args.overrides]
    with _refusals():
        config = LOADERS[name](args)
        if name == "train":
            _check_launch(config, ranks)


def _check_launch(config: Config, ranks: int) -> None:
    if config.backend == "single" and ranks > 1:
        raise WrongError(f"backend: single on {ranks} ranks")
    World(num_ranks=ranks, local_num_ranks=ranks).rank_batch(config.global_batch)


def _of_cases(args: argparse.Namespace) -> None:
    cases = getattr(args, "case", None) or list(CASES)
    for case in [cases] if isinstance(cases, str) else cases:
        load(None, [*CASES[case], *args.overrides])


def _submitted(args: argparse.Namespace) -> None:
    words = ["--config", str(args.config), "--target", args.target or "job", "--dry-run", "--quiet", *args.overrides]
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = submit(words)
    if code:
        raise WrongError(said.getvalue().strip())


LOADERS: dict[str, Callable[[argparse.Namespace], object]] = {
    "train": lambda args: load(args.config, args.overrides),
    "tune": lambda args: load_search(Path(args.config), args.overrides),
    "submit": _submitted,
    "degrade": lambda args: load(args.config),
    "demo": lambda args: load(args.config, args.overrides),
    "shards build": lambda args: load(args.config, args.overrides),
    "table": lambda args: load_table(args.config, args.overrides),
    "ablate": lambda args: load_table(args.config, args.overrides),
    "bench train": _of_cases,
    "bench scaling": _of_cases,
    "bench telemetry": lambda args: TelemetryBench(overrides=tuple(args.overrides)).config(),
    "bench checkpoint": lambda args: load(args.config, ["backend=single", *args.overrides]),
    "bench search": lambda args: load_search(Path(args.config), args.overrides),
}
"""How each command reads its configuration."""


def _check_torchrun(command: Command, words: list[str]) -> None:
    launcher = pytest.importorskip("torch.distributed.run").get_args_parser()
    args = argparse.Namespace(training_script="")
    with _refusals():
        args = (launcher if command.whole else _relax(launcher)).parse_args(words)
    each = int(args.nproc_per_node) if str(args.nproc_per_node).isdigit() else 1
    ranks = each * int(str(args.nnodes).partition(":")[0])
    if args.training_script:
        flag = ["-m"] if args.module else []
        _check_python(command, [*flag, args.training_script, *args.training_script_args], ranks)


def _check_deepspeed(command: Command, words: list[str]) -> None:
    runner = pytest.importorskip("deepspeed.launcher.runner")
    named = [word for word in words if word.endswith(".py") or word.startswith("cyclesr")]
    if not command.whole and not named:
        words = [*(["hosts" if _PLACEHOLDER.fullmatch(word) else word for word in words]), "launch/train.py"]
    args = argparse.Namespace()
    with _refusals():
        args = runner.parse_args(words)
    if named:
        flag = ["-m"] if args.module else []
        _check_python(
            command, [*flag, args.user_script, *args.user_args], max(1, args.num_gpus) * max(1, args.num_nodes)
        )


def _check_python(command: Command, words: list[str], ranks: int) -> None:
    """A script or a module, and what stands behind it."""
    module = words[:1] == ["-m"]
    if module and words[1:2] == ["pytest"]:
        _check_pytest(words[2:])
        return
    if module and words[1:2] == ["cyclesr_dist.cli.main"]:
        _check_config(command, words[2:], _read(command, words[2:]), ranks)
        return
    name, arguments = (words[1], words[2:]) if module else (words[0], words[1:])
    if module:
        found = find_spec(name)
        if found is None or not (found.origin or "").startswith(str(REPOSITORY)):
            raise WrongError(f"there is no module {name} of this project")
        script = Path(found.origin or "")
        script = script.with_name("__main__.py") if script.name == "__init__.py" else script
    else:
        script = REPOSITORY / name
    if not script.is_file():
        raise WrongError(f"there is no {name}")
    for scripts_name, inner in SCRIPTS.items():
        if inner in _main_of(script):
            with _refusals():
                args = _read_script(command, script_parser(inner), arguments if command.whole else _filled(arguments))
                _check_config(command, [scripts_name], args, ranks)
            return
    if arguments:
        code, said = program(_DRIVER, str(script), *arguments)
        if code:
            raise WrongError((said.strip().splitlines() or ["?"])[-1])


def _main_of(script: Path) -> set[str]:
    """Modules from which a script takes `main`."""
    return {
        str(node.module)
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and any(alias.name == "main" for alias in node.names)
    }


def _check_pytest(words: Sequence[str]) -> None:
    markers = ("slow", "not slow")
    for before, word in zip(["", *words], words, strict=False):
        if before == "-m" and word not in markers:
            raise WrongError(f"no such marker {word!r}; there are {', '.join(markers)}")


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a reader: the project's files, what earlier commands made, and the code that documents show."""
    folder = tmp_path_factory.mktemp("desk")
    for name in FOLDERS:
        (folder / name).symlink_to(REPOSITORY / name)
    (folder / "demo.yaml").symlink_to(REPOSITORY / "configs" / "demo.yaml")
    photos = [Photo(Path(f"{i}.png"), 800, 600) for i in range(20)]
    machine = Machine(8, 16, 40 * 2**30, "")
    for run in ("mine", "noise", "jpeg"):
        text = choose(split(photos, photos), machine, 4, 0.5, folder / "runs" / run, lambda *_: 0.1, lambda _: None)
        (folder / "runs" / run).mkdir(parents=True)
        (folder / "runs" / run / "fit.yaml").write_text(text)
    modules = []
    for path in DOCUMENTS:
        for block in blocks(path):
            named = re.match(r"# (\w+)\.py$", block.lines[0]) if block.language == "python" else None
            if named:
                (folder / f"{named[1]}.py").write_text("\n".join(block.lines))
                modules.append(named[1])
    known = list(sys.path)
    sys.path.insert(0, str(folder))
    with contextlib.chdir(folder):
        yield folder
    sys.path[:] = known
    for name in modules:
        sys.modules.pop(name, None)
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {
        *FOLDERS,
        "demo.yaml",
        "runs",
        *(f"{name}.py" for name in modules),
    }, "a check has written something"


def all_commands() -> list[Command]:
    found: list[Command] = []
    for path in DOCUMENTS:
        with contextlib.suppress(WrongError):  # which test_every_fence_says_what_it_holds reports
            found += shown(path)
    found += [command for path in COMMENTED for command in commented(path)]
    return [*found, *helped()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_fence_says_what_it_holds(path: Path) -> None:
    list(shown(path))


@pytest.mark.parametrize("command", all_commands(), ids=str)
def test_a_reader_can_give_this_command(command: Command, desk: Path) -> None:
    check(command)


def test_there_are_commands_of_every_kind() -> None:
    """The search has not gone blind."""
    found = all_commands()
    places = {command.place.split(":")[0] for command in found}
    assert {
        "README.md",
        "docs/guide.md",
        "docs/kubernetes.md",
        "configs/own_photos.yaml",
        "examples/damage.py",
    } <= places
    shown_commands = {command.words[1] for command in found if command.words[0] == "cyclesr"}
    scripts = {Path(word).stem for command in found for word in command.words if word.startswith("launch/")}
    assert shown_commands | scripts >= set(COMMANDS)
    assert {"torchrun", "deepspeed", "python", "make"} <= {command.words[0] for command in found}


WRONG = [
    ("cyclesr fit --hr hr --lr lr --run-dir r --hour 1 --colour red", "--colour"),
    ("cyclesr fit --hr hr --lr lr", "--run-dir"),
    ("cyclesr fitt --hr hr", "no such command"),
    ("cyclesr upscale --model r --out big", "INPUT"),
    ("cyclesr shards pack --hr hr", "pack"),
    ("cyclesr train --config configs/no.yaml", "configs/no.yaml"),
    ("cyclesr train --config missing.yaml", "missing.yaml"),
    ("cyclesr train --config configs/demo.yaml train.step=3", "train.step"),
    ("cyclesr train --config configs/demo.yaml backend=mpi", "backend"),
    ("cyclesr train --config configs/demo.yaml steps", "steps"),
    ("cyclesr train --config configs/table_small.yaml", "unknown key"),
    ("cyclesr table --config configs/table_small.yaml photos=p test_hr=t seeds=[a]", "seeds"),
    ("python launch/tune.py --config configs/tune_demo.yaml space.weights.mse=1", "space"),
    ("python launch/tune.py --config configs/tune_demo.yaml --adress auto", "--adress"),
    ("python launch/submit.py --config configs/demo.yaml cluster.node=4 --dry-run", "cluster.node"),
    ("cyclesr submit --config configs/demo.yaml --target cron", "cron"),
    ("cyclesr bench train --case 'cyclesr large'", "cyclesr large"),
    ("cyclesr bench train speed.compiled=true", "speed.compiled"),
    ("cyclesr supervise -- torchrun --nproc-per-nod 8 --nope launch/train.py --config configs/demo.yaml", "nope"),
    ("cyclesr supervise -- python launch/train.py --config configs/demo.yaml train.step=3", "train.step"),
    ("torchrun --nproc-per-node 2 launch/training.py --config configs/demo.yaml", "launch/training.py"),
    ("torchrun --nproc-per-node 3 launch/train.py --config configs/demo.yaml", "global_batch"),
    ("torchrun --nproc-per-node 2 launch/train.py --config configs/own_photos.yaml backend=single", "single"),
    ("deepspeed --num_gpu 2 --no_sshh launch/train.py --config configs/demo.yaml", "no_sshh"),
    ("deepspeed --num_gpus 2 launch/train.py --config configs/demo.yaml train.step=3", "train.step"),
    ("deepspeed --module cyclesr_dist.cli.main train --config configs/demo.yaml x.y=3", "x.y"),
    ("srun --nodes 2 torchrun --nnodes 2 launch/train.py --config configs/demo.yaml train.step=3", "train.step"),
    ("python -m cyclesr_dist.trainer --config configs/demo.yaml", "cyclesr_dist.trainer"),
    ("python -m cyclesr_dist.training --config configs/demo.yaml train.step=3", "train.step"),
    ("python examples/damage.py PHOTOS OUT --kind noise", "--kind"),
    ("python examples/damage.py PHOTOS", "out"),
    ("python tests/no_such.py", "tests/no_such.py"),
    ("python -m pytest -m slwo tests/nets", "slwo"),
    ("make demos", "demos"),
    ("bash .ci/runs", ".ci/runs"),
    ("kubectl apply -k k8s/overlays/none", "k8s/overlays/none"),
    ("frobnicate --all", "frobnicate"),
    ("CYCLESR_NO_SUCH_VARIABLE=1 cyclesr demo", "CYCLESR_NO_SUCH_VARIABLE"),
]


@pytest.mark.parametrize(("line", "named"), WRONG, ids=[line for line, _ in WRONG])
def test_a_wrong_command_is_found(line: str, named: str, desk: Path) -> None:
    (command,) = of_shell("README.md", 1, [line])
    with pytest.raises(WrongError, match=re.escape(named)):
        check(command)
