"""k8s/Dockerfile without a container engine: linted, and every step done in a copy-on-write view of this machine."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "k8s" / "Dockerfile"


@dataclass
class Stage:
    """One stage: the machine's root folder with changes of its own."""

    name: str
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    workdir: str = "/"
    user: str = "0:0"
    shell: list[str] = field(default_factory=lambda: ["/bin/sh", "-c"])

    def __post_init__(self) -> None:
        for part in ("upper", "work", "root"):
            (self.folder / part).mkdir(parents=True)

    def run(self, command: list[str], user: str = "") -> subprocess.CompletedProcess[str]:
        """In the stage's root, as its user."""
        path = self.folder
        layers = f"lowerdir=/,upperdir={path}/upper,workdir={path}/work"
        mounts = [
            f"mount -t overlay overlay -o {layers} {path}/root",
            *(f"mount --rbind /{place} {path}/root/{place}" for place in ("dev", "proc", "sys")),
        ]
        number = (user or self.user).split(":")[0]
        inside = ["chroot", f"--userspec={number}:{number}", f"{path}/root"]
        inside += [
            "env",
            "-i",
            *(f"{key}={value}" for key, value in (base() | self.environment | self.arguments).items()),
        ]
        inside += ["sh", "-c", f'cd {shlex.quote(self.workdir)} && exec "$@"', "sh", *command]
        script = " && ".join([*mounts, f"exec {shlex.join(inside)}"])
        return subprocess.run(["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, check=False)

    def copy(self, sources: list[Path], target: str) -> None:
        place = self.folder / "upper" / os.path.join(self.workdir, target).lstrip("/")
        for source in sources:
            into = place / source.name if target.endswith("/") or len(sources) > 1 else place
            into.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, into, symlinks=True, dirs_exist_ok=True)
            else:
                shutil.copy2(source, into)


def base() -> dict[str, str]:
    """What the base image would set; and how this machine installs packages."""
    known = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "SSL_", "http", "HTTP", "no_"))}
    return known | {"PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).strip().splitlines()
    return [tuple(line.split(None, 1)) for line in lines if line.strip()]  # type: ignore[misc]


def build(folder: Path, last: str) -> Stage:
    stages: dict[str, Stage] = {}
    stage: Stage | None = None
    for word, rest in instructions():
        if word == "FROM":
            if stage is not None and stage.name == last:
                break
            origin, name = re.fullmatch(r"(\S+) AS (\S+)", rest).groups()  # type: ignore[union-attr]
            assert origin == "${PYTHON_IMAGE}" or origin in stages
            stage = stages[name] = Stage(name, folder / name)
            # This machine's Python may lie in a folder that only root may enter.
            assert stage.run(["chmod", "o+x", "/root"]).returncode == 0
        elif stage is None:
            assert word == "ARG"
        elif word == "ARG":
            name, _, value = rest.partition("=")
            stage.arguments[name] = value.strip('"')
        elif word == "ENV":
            for pair in shlex.split(rest):
                name, _, value = pair.partition("=")
                stage.environment[name] = value.replace("$PATH", (base() | stage.environment)["PATH"])
        elif word == "SHELL":
            stage.shell = json.loads(rest)
        elif word == "WORKDIR":
            stage.workdir = rest
            assert (
                stage.run(["true"]).returncode == 0 or stage.folder.joinpath("upper", rest.lstrip("/")).mkdir() is None
            )
        elif word == "USER":
            stage.user = rest
        elif word == "COPY":
            *sources, target = rest.split()
            root = ROOT
            if sources[0].startswith("--from="):
                root = stages[sources.pop(0).removeprefix("--from=")].folder / "upper"
            stage.copy([root / source.lstrip("/") for source in sources], target)
        elif word == "RUN":
            done = stage.run([*stage.shell, rest])
            assert done.returncode == 0, f"RUN {rest}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        else:
            assert word == "CMD", word
    assert stage is not None
    return stage


def test_the_dockerfile_lints() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([str(hadolint), str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = set()
    for word, rest in instructions():
        if word == "COPY" and "--from" not in rest:
            copied |= set(rest.split()[:-1])
    assert copied == allowed
    assert all((ROOT / name).exists() for name in copied)


def test_the_image_runs_as_the_user_of_the_pods() -> None:
    from cyclesr_dist.kubernetes.pod import USER_ID

    users = [rest for word, rest in instructions() if word == "USER"]
    assert users[-1] == f"{USER_ID}:{USER_ID}"
    text = DOCKERFILE.read_text()
    assert f"useradd --uid {USER_ID}" in text
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_step_of_the_cpu_image_works(tmp_path: Path) -> None:
    probe = Stage("probe", tmp_path / "probe")
    if probe.run(["true"]).returncode:
        pytest.skip("no overlay mounts here")
    if probe.run(["apt-get", "update"]).returncode:
        pytest.skip("no package server for apt here")
    image = build(tmp_path, "cpu")
    script = (
        "import os, deepspeed, ray, webdataset, s3fs, cyclesr_dist; "
        "assert os.getuid() == 10001; assert cyclesr_dist.__file__.startswith('/opt/venv'), cyclesr_dist.__file__"
    )
    scratch = image.folder / "upper" / "tmp" / "home"
    scratch.mkdir(parents=True)
    os.chown(scratch, 10001, 10001)
    image.environment |= {"HOME": "/tmp/home", "TMPDIR": "/tmp/home", "DS_ACCELERATOR": "cpu"}
    for command in (
        ["python", "-c", script],
        ["cyclesr", "--version"],
        ["torchrun", "--help"],
        ["wget", "--version"],
        ["flock", "--version"],
        ["ray", "job", "submit", "--help"],
        ["python", "/opt/cyclesr/launch/train.py", "--help"],
        ["python", "-m", "cyclesr_dist.search", "--help"],
        ["cyclesr", "demo", "--data-only", "--quiet", "--run-dir", "runs/demo"],  # with the wheel's configuration
        ["touch", "/work/may-be-written"],
    ):
        done = image.run(command)
        assert done.returncode == 0, f"{command}: {done.stdout[-1500:]} {done.stderr[-1500:]}"
    assert image.run(["touch", "/opt/venv/x"]).returncode != 0
