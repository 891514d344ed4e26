"""What the project says to install where an optional package is missing."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import Config, Telemetry
from cyclesr_dist.data.connection import open_filesystem
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.runtime import extras
from cyclesr_dist.runtime.extras import PACKAGE, install_hint
from cyclesr_dist.telemetry.trackers import open_trackers

REPOSITORY = Path(__file__).parents[2]
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
LINES = [
    "torch>=2",
    'a>=1,<2; extra == "one"',
    'b[c,d]; python_version > "3" and extra == "one"',
    f'{PACKAGE}[one,two]; extra == "all"',
    "e ; extra == 'two'",
    'a>=1,<2; extra == "two"',
]


def named(hint: str) -> set[str]:
    """The packages of a command, in one spelling. It is a command for a shell."""
    pip, install, *packages = shlex.split(hint)
    assert (pip, install) == ("pip", "install")
    return {str(Requirement(text)) for text in packages}


def wanted(extra: str) -> set[str]:
    found: set[str] = set()
    for text in EXTRAS[extra]:
        requirement = Requirement(text)
        ours = requirement.name == PACKAGE
        found |= set().union(*map(wanted, requirement.extras)) if ours else {str(requirement)}
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_is_named_by_its_packages_and_never_by_our_own_name(extra, monkeypatch) -> None:
    lines = [f'{text}; extra == "{name}"' for name, texts in EXTRAS.items() for text in texts]
    monkeypatch.setattr(extras, "requires", lambda package: lines)
    assert named(install_hint(extra)) == wanted(extra)
    assert PACKAGE not in install_hint(extra)


@pytest.mark.parametrize("extra", sorted({*EXTRAS} - {"dev"}))
def test_the_installed_metadata_have_every_extra(extra) -> None:
    assert named(install_hint(extra)) == wanted(extra)


def test_metadata_of_any_spelling(monkeypatch) -> None:
    monkeypatch.setattr(extras, "requires", lambda package: LINES)
    assert named(install_hint("one")) == {"a<2,>=1", "b[c,d]"}
    assert named(install_hint("all")) == {"a<2,>=1", "b[c,d]", "e"}
    with pytest.raises(KeyError):
        install_hint("three")


def test_a_checkout_that_is_not_installed(monkeypatch) -> None:
    def none(package: str) -> list[str]:
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(extras, "requires", none)
    assert shlex.split(install_hint("tune")) == ["pip", "install", "-e", ".[tune]"]


FOLDERS = ("cyclesr_dist", "launch", "examples", "configs", "docs")
FILES = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.*")] + list(REPOSITORY.glob("*.md"))


def test_nobody_is_told_to_install_our_name_from_an_index() -> None:
    texts = {path: path.read_text() for path in FILES if path.suffix in (".py", ".md", ".yaml")}
    assert len(texts) > 100
    told = re.compile(rf"{PACKAGE}\[|pip install[^\n]*['\" ]{PACKAGE}\b")
    assert not [str(path) for path, text in texts.items() if told.search(text)]
    for text in texts.values():  # and no extra that is not there
        assert set(re.findall(r"install_hint\(['\"](\w+)['\"]\)", text)) <= set(EXTRAS)
        assert set(re.findall(r"pip install -e '\.\[(\w+)\]'", text)) <= set(EXTRAS)


SEARCH = ["--config", str(REPOSITORY / "configs" / "tune_demo.yaml")]


@pytest.mark.parametrize("command", [["tune", *SEARCH], ["bench", "search", *SEARCH]])
def test_a_search_without_ray(command, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    assert cyclesr(command) == 2
    assert install_hint("tune") in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_storage_without_its_package(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(InputError) as refused:
        open_filesystem("s3://bucket/mine")
    assert install_hint("s3") in str(refused.value)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_without_its_package(name, monkeypatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError) as refused:
        open_trackers(Config(telemetry=Telemetry(trackers=(name,))), tmp_path, 0, print)
    assert install_hint(name) in str(refused.value)


def test_a_tracker_of_yours_that_needs_more_has_no_extra(monkeypatch, tmp_path) -> None:
    (tmp_path / "their_tracker.py").write_text(
        "class Mine:\n"
        "    scalars = picture = close = None\n"
        "    def __init__(self, *arguments):\n"
        "        import not_there_at_all\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="not_there_at_all") as refused:
        open_trackers(Config(telemetry=Telemetry(trackers=("their_tracker:Mine",))), tmp_path, 0, print)
    assert "pip install" not in str(refused.value)
