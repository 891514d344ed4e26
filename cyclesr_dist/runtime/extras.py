"""What to install where an optional package is missing. Ours is on no package index, so its own name would not do."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import PackageNotFoundError, requires

PACKAGE = "cyclesr-dist"
_EXTRA = re.compile(r"""extra\s*==\s*["']([\w.-]+)["']""")
_OURS = re.compile(rf"{PACKAGE}\[([\w.,\s-]+)\]")


def install_hint(extra: str) -> str:
    """The command that installs what `extra` of pyproject.toml names, from a checkout and beside a wheel alike.

    Raises KeyError where there is no such extra.
    """
    try:
        lines = requires(PACKAGE) or []
    except PackageNotFoundError:  # run from a checkout that was never installed
        return f"pip install -e '.[{extra}]'"
    return shlex.join(["pip", "install", *_packages(extra, lines)])


def _packages(extra: str, lines: list[str]) -> list[str]:
    """Requirements as they stand in the metadata; extras of ours that an extra names are followed."""
    found: dict[str, None] = {}
    for line in lines:
        requirement, _, marker = line.partition(";")
        requirement = requirement.strip()
        if extra not in _EXTRA.findall(marker):
            continue
        ours = _OURS.fullmatch(requirement)
        for inner in ours[1].split(",") if ours else ():
            found |= dict.fromkeys(_packages(inner.strip(), lines))
        if not ours:
            found[requirement] = None
    if not found:
        raise KeyError(f"no extra {extra!r}")
    return list(found)
