"""`cyclesr train`, `tune` and `submit`: the launch scripts as commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cyclesr_dist.cli.main import COMMANDS
from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.kubernetes.submit import main as submit
from cyclesr_dist.search.main import main as tune
from cyclesr_dist.training.main import main as train

SCRIPTS = {"train": (train, "train.py"), "tune": (tune, "launch/tune.py"), "submit": (submit, "submit.py")}


def words(capsys: pytest.CaptureFixture[str]) -> str:
    """What was printed, however it is broken into lines."""
    captured = capsys.readouterr()
    return " ".join((captured.out + captured.err).split())


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("arguments", [["--help"], ["--no-such-flag"], ["--config"]])
def test_a_command_answers_as_its_script_but_for_the_name(name, arguments, capsys) -> None:
    main, prog = SCRIPTS[name]
    with pytest.raises(SystemExit) as left:
        main(arguments)
    of_script = words(capsys)
    with pytest.raises(SystemExit) as of_command:
        cyclesr([name, *arguments])
    assert of_command.value.code == left.value.code
    assert (
        words(capsys)
        .replace(f"usage: cyclesr {name} ", f"usage: {prog} ")
        .replace(f"cyclesr {name}: error:", f"{prog}: error:")
        == of_script
    )


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_command_fails_as_its_script_does(name, capsys) -> None:
    main, _ = SCRIPTS[name]
    for arguments in (["--config", "no_such.yaml"], ["scale=4", "--config", "no_such.yaml", "nonsense"]):
        assert main(arguments) == 2
        of_script = words(capsys)
        assert of_script.count("cyclesr: error:") == 1
        assert cyclesr([name, *arguments]) == 2
        assert words(capsys) == of_script


def test_all_commands_are_listed(capsys) -> None:
    with pytest.raises(SystemExit) as left:
        cyclesr(["--help"])
    assert left.value.code == 0
    listed = [
        line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:4].strip() == "" and line[4:5] > " "
    ]
    assert set(COMMANDS) <= set(listed)


def test_the_rank_that_deepspeed_puts_first_is_no_command(capsys) -> None:
    assert cyclesr(["--local_rank=1", "train", "--config", "no_such.yaml"]) == 2
    assert "no_such.yaml" in words(capsys)


@pytest.mark.parametrize("command", [["supervise", "--", "true"], ["submit", "--help"]])
def test_what_needs_no_torch_imports_none(command, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom cyclesr_dist.cli.main import main\n"
        f"try:\n    code = main({command!r})\nexcept SystemExit as left:\n    code = left.code\n"
        "sys.exit(code or 100 * ('torch' in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
