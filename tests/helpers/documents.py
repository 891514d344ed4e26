"""The commands that the project shows to its readers: in documents, in comments of its files, in `--help`."""

from __future__ import annotations

import argparse
import ast
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

from cyclesr_dist.cli.launch import SCRIPTS
from cyclesr_dist.cli.main import COMMANDS, build_parser

REPOSITORY = Path(__file__).parents[2]
DOCUMENTS = sorted([REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").rglob("*.md")])
COMMENTED = sorted(
    path
    for pattern in (
        "configs/*.yaml",
        "examples/*.py",
        "examples/*.yaml",
        "launch/*.py",
        "tests/reliability.py",
        "k8s/**/*.yaml",
        "k8s/Dockerfile",
    )
    for path in REPOSITORY.glob(pattern)
)
SHELL = ("sh", "bash", "console")
DATA = ("text", "python", "yaml", "json", "toml")
"""Languages of fences that hold no commands."""
TARGETS = re.findall(r"(?m)^([a-z][\w-]*):", (REPOSITORY / "Makefile").read_text())

_FENCE = re.compile(r"^ *(`{3,}|~{3,})([^`]*)$")
_SPAN = re.compile(r"(?<!`)`(?!`)((?:(?!\n\n)[^`])+)`(?!`)")
_VARIABLE = re.compile(r"[A-Za-z_]\w*=")
_OPTIONAL = re.compile(r"(?<=\s)\[(?=-|key|[A-Z])([^\]]*)\]")
_CASES = ("cyclesr small", "cyclesr paper")
"""Of `cyclesr bench`, which are no commands."""


class WrongError(Exception):
    """A command that a reader could not give; says where it stands and what is wrong."""


@dataclass(frozen=True)
class Command:
    place: str
    words: tuple[str, ...]
    """The program first."""
    variables: tuple[str, ...] = ()
    """NAME=value before it."""
    whole: bool = True
    """False for what is mentioned in a sentence, and for a synopsis: required arguments may be missing."""

    def __str__(self) -> str:
        return f"{self.place} {shlex.join(self.words)}"


@dataclass(frozen=True)
class Block:
    place: str
    """Of its fence."""
    language: str
    lines: tuple[str, ...]
    first_line: int = field(compare=False)


def name_of(path: Path) -> str:
    return str(path.relative_to(REPOSITORY)) if path.is_relative_to(REPOSITORY) else path.name


def blocks(path: Path) -> Iterator[Block]:
    """What stands between fences. Raises WrongError for one without an end."""
    fence = ""
    lines: list[str] = []
    begun, language = 0, ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        found = _FENCE.match(line)
        if not fence and found:
            fence, begun, lines = found[1], number, []
            language = found[2].split()[0] if found[2].split() else ""
        elif fence and found and found[1].startswith(fence) and not found[2].strip():
            yield Block(f"{name_of(path)}:{begun}", language, tuple(lines), begun + 1)
            fence = ""
        elif fence:
            lines.append(line)
    if fence:
        raise WrongError(f"{name_of(path)}:{begun}: this fence has no end")


def shown(path: Path) -> Iterator[Command]:
    """All commands of a Markdown file: of fences, of indented lines, of sentences.

    Raises WrongError where it cannot be told whether something is a command.
    """
    inside: set[int] = set()
    for block in blocks(path):
        inside |= set(range(block.first_line - 1, block.first_line + len(block.lines) + 1))
        if block.language in SHELL:
            yield from of_shell(name_of(path), block.first_line, block.lines)
        elif block.language not in DATA:
            raise WrongError(f"{block.place}: a fence of {block.language!r}; allowed: {', '.join((*SHELL, *DATA))}")
        elif hidden := [line for line in block.lines if is_ours(line)]:
            raise WrongError(f"{block.place}: a fence of {block.language} holds the command {hidden[0].strip()!r}")
    lines = path.read_text(encoding="utf-8").splitlines()
    rest = ["" if number in inside else line for number, line in enumerate(lines, 1)]
    yield from _of_lines(name_of(path), ["" if not line.startswith("    ") else line for line in rest])
    yield from _of_spans(name_of(path), "\n".join(rest))
    yield from _of_tables(name_of(path), rest)


def commented(path: Path) -> Iterator[Command]:
    """All commands of comments, or of the text at the top of a Python file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = ast.get_docstring(ast.parse(text)) or ""
    lines = [re.sub(r"^\s*#\s?", "", line) for line in text.splitlines()]
    yield from _of_lines(name_of(path), [re.sub(r"^[\w ]+: (?=docker )", "", line) for line in lines])
    yield from _of_spans(name_of(path), "\n".join(lines))


def helped() -> Iterator[Command]:
    """All commands of the texts below `--help`."""
    for parser in (build_parser(), *(script_parser(module) for module in SCRIPTS.values())):
        for inner in _nested(parser):
            text = (inner.epilog or "").replace("example: ", "\n")
            yield from _of_lines(f"{inner.prog} --help", text.splitlines())


def script_parser(module: str) -> argparse.ArgumentParser:
    """Of train, tune or submit."""
    parser: argparse.ArgumentParser = import_module(module).build_parser()
    return parser


def _nested(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in dict.fromkeys(action.choices.values()):
                yield from _nested(inner)


def is_ours(line: str) -> bool:
    """Whether a line begins as a command of this project does, not as a sentence or a table."""
    words = line.strip().removeprefix("$ ").split()
    while words and _VARIABLE.match(words[0]):
        words = words[1:]
    program, second = [Path(words[0]).name, words[1]] if len(words) > 1 else ["", ""]
    match program:
        case "cyclesr":
            return second in COMMANDS or second.startswith("-")
        case "python":
            return second.endswith(".py") or second == "-m"
        case "torchrun" | "deepspeed" | "pytest":
            return second.startswith("-") or second.endswith(".py")
        case "make":
            return second in TARGETS
        case "bash":
            return second.startswith(".ci/")
    return words[:1] == [".ci/run"]


def of_shell(name: str, first_line: int, lines: tuple[str, ...] | list[str]) -> Iterator[Command]:
    """Every line is a command; with prompts, every line behind one."""
    prompted = any(line.lstrip().startswith("$ ") for line in lines)
    joined, begun = "", 0
    for number, line in enumerate(lines, first_line):
        text = line.strip()
        if prompted and not joined and not text.startswith("$ "):
            continue  # what the command printed
        text = without_comment(text.removeprefix("$ "))
        begun = begun if joined else number
        joined += text.removesuffix("\\")
        if not text.endswith("\\"):
            yield from _commands(f"{name}:{begun}", joined)
            joined = ""
    yield from _commands(f"{name}:{begun}", joined)


def without_comment(line: str) -> str:
    quote = ""
    for index, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (index == 0 or line[index - 1].isspace()):
            return line[:index].rstrip()
    return line


def _commands(place: str, line: str) -> Iterator[Command]:
    """Of one line, which may have several: `a && b`, `a; b`, `a | b`."""
    synopsis = bool(_OPTIONAL.search(line))
    if synopsis:
        line = re.sub(r"\|[A-Z]+\b", "", _OPTIONAL.sub(r"\1", line))
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise WrongError(f"{place}: {line!r} is no line of a shell ({error})") from error
    words: list[str] = []
    skip = False
    for token in [*tokens, ";"]:
        if token in (";", "&&", "||", "|", "&"):
            if words:
                yield _command(place, words, whole=not synopsis)
            words = []
        elif token in (">", ">>", "<"):
            skip = True
        elif skip:
            skip = False
        else:
            words.append(token)


def _command(place: str, words: list[str], *, whole: bool) -> Command:
    variables = []
    while words and (_VARIABLE.match(words[0]) or words[0] in ("time", "env")):
        if _VARIABLE.match(words[0]):
            variables.append(words[0])
        words = words[1:]
    kept = [word for word in words if word not in ("...", "…")]
    return Command(place, tuple(kept), tuple(variables), whole and len(kept) == len(words))


def _of_lines(name: str, lines: list[str]) -> Iterator[Command]:
    """Lines among others that begin as commands do."""
    number = 0
    while number < len(lines):
        begun = number
        if is_ours(lines[begun]) or lines[begun].strip().startswith(("kubectl ", "docker ")):
            while lines[number].rstrip().endswith("\\") and number + 1 < len(lines):
                number += 1
            yield from of_shell(name, begun + 1, lines[begun : number + 1])
        number += 1


def _of_spans(name: str, text: str) -> Iterator[Command]:
    for span in _SPAN.finditer(text):
        inner = " ".join(span[1].split())
        words = inner.split()
        while words and _VARIABLE.match(words[0]):
            words = words[1:]
        program = words[0] if words else ""
        named = program == "cyclesr" and len(words) > 1 and re.match(r"[a-z]", words[1]) and inner not in _CASES
        if len(words) > 1 and (named or is_ours(inner)):
            place = f"{name}:{text[: span.start()].count(chr(10)) + 1}"
            for command in _commands(place, inner):
                yield Command(command.place, command.words, command.variables, whole=False)


def _of_tables(name: str, lines: list[str]) -> Iterator[Command]:
    """Tables whose head ends in `...`: each row has what stands there instead."""
    head: list[str] = []
    for number, line in enumerate(lines, 1):
        first = re.match(r"\| `([^`]+)`", line)
        if not line.startswith("|"):
            head = []
        elif first and first[1].endswith(" ...") and is_ours(first[1]):
            head = first[1].removesuffix(" ...").split()
        elif first and head:
            yield from _commands(f"{name}:{number}", f"{' '.join(head)} {first[1]}")
