"""Folders that are given as a pattern: `RealSR(V3)/*/Train/4/*_LR4.png` is every such file in every such folder.

`*` stands for any characters of one name, `?` for one character, `[2468]` for one of these, `[!0]` for any other, as in
a shell. A folder or file that exists under the very name is no pattern.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from cyclesr_dist.errors import InputError
from cyclesr_dist.runtime.files import is_file, is_folder

_WILDCARD = r"[*?]|\[!?\]?[^\]]*\]"
_RUN = re.compile(f"((?:{_WILDCARD})+)")


@dataclass(frozen=True)
class Pattern:
    """Names below a folder, with wildcards."""

    root: Path
    """What stands before the first wildcard."""
    parts: tuple[str, ...]
    """The names below it, the file's last."""

    def __str__(self) -> str:
        return str(self.root.joinpath(*self.parts))

    def matches(self, depth: int, name: str) -> bool:
        """Whether the name of a file or folder fits `parts[depth]`. Hidden ones never do."""
        return not name.startswith(".") and _compiled(self.parts[depth]).fullmatch(_composed(name)) is not None

    def scene(self, path: Path) -> str:
        """What tells a file of the pattern from the others: two of different patterns with one scene are a pair.

        Of every name that holds a wildcard: its fixed beginning and what the wildcards stand for, without the suffix.
        Fixed digits behind a wildcard belong to it, since `*0_HR.png` chooses numbers. So `Canon_001_HR.png` of
        `*_HR.png` and `Canon_001_LR4.png` of `Canon_*_LR4.png` are of the scene `Canon_001`.
        """
        names = path.relative_to(self.root).parts
        found = []
        for depth, (part, name) in enumerate(zip(self.parts, names, strict=True)):
            if not is_pattern(part):
                continue
            match = _compiled(part).fullmatch(_composed(name))
            if match is None:
                raise ValueError(f"{path} is not one of {self}")
            stem = _composed(Path(name).stem) if depth == len(names) - 1 else _composed(name)
            beginning, *runs = (stem[start:end] for start, end in map(match.span, range(1, len(match.groups()) + 1)))
            found.append(f"{beginning}{'*'.join(runs)}".rstrip("*"))
        return "/".join(found)


def is_pattern(text: str) -> bool:
    """Whether a path, or a part of one, holds a wildcard."""
    return _RUN.search(text) is not None


def pattern_of(place: Path) -> Pattern | None:
    """The pattern that `place` is; None where it is a plain path. Raises InputError for `**` and `[z-a]`."""
    root = Path()
    for index, part in enumerate(place.parts):
        if is_pattern(part) and not is_folder(root / part) and not is_file(root / part):
            pattern = Pattern(root, place.parts[index:])
            if any("**" in later for later in pattern.parts):
                raise InputError(f"{place}: ** cannot be used in a pattern; allowed: *, which stands for one name")
            for later in pattern.parts:
                try:
                    _compiled(later)
                except re.error as error:
                    raise InputError(f"{place}: {later} is no pattern ({error.msg})") from error
            return pattern
        root /= part
    return None


def root_of(place: Path) -> Path:
    """The folder that all files of `place` lie below: itself, or of a pattern what stands before the wildcards."""
    pattern = pattern_of(place)
    return place if pattern is None else pattern.root


def exists(place: Path) -> bool:
    """Whether there is such a file or folder, or anything that fits the pattern."""
    pattern = pattern_of(place)
    return os.path.exists(place) if pattern is None else next(_fitting(pattern, pattern.root, 0), None) is not None


def _fitting(pattern: Pattern, folder: Path, depth: int) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if pattern.matches(depth, name):
            if depth == len(pattern.parts) - 1:
                yield folder / name
            else:
                yield from _fitting(pattern, folder / name, depth + 1)


@lru_cache(maxsize=256)
def _compiled(part: str) -> re.Pattern[str]:
    """Groups: the fixed beginning, then each run of wildcards with the digits that follow it."""
    beginning, *rest = _RUN.split(_composed(part))
    text = f"({re.escape(beginning)})"
    for run, fixed in zip(rest[::2], rest[1::2], strict=True):
        digits = re.match("[0-9]*", fixed)[0]  # type: ignore[index]  # it always matches
        text += f"({_of_run(run)}{digits}){re.escape(fixed[len(digits) :])}"
    return re.compile(text, re.DOTALL)


def _of_run(run: str) -> str:
    text = ""
    for wildcard in re.findall(_WILDCARD, run):
        if wildcard in "*?":
            text += ".*" if wildcard == "*" else "."
        else:
            inside = wildcard[1:-1].replace("\\", r"\\")
            negated = inside.startswith("!")
            inside = inside[negated:]
            text += f"[{'^' * negated}{inside.replace('[', chr(92) + '[').replace('^', chr(92) + '^')}]"
    return text


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
