"""The control groups that this process is in, as folders."""

from __future__ import annotations

from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def groups(controller: str = "") -> list[Path]:
    """Folders from this process's group up to the root, those that are there.

    `controller`: of version 1, such as "memory"; empty: of version 2, also where both are mounted.
    """
    root = GROUPS / controller
    if not controller and (GROUPS / "unified").is_dir():
        root = GROUPS / "unified"
    try:
        lines = OWN.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    own = {name: path for _, names, path in (line.split(":", 2) for line in lines) for name in names.split(",")}
    path = root / own.get(controller, "/").lstrip("/")
    # In a container the path may be that of the host, which is not there; the root is the container's own group then.
    found = [folder for folder in (path, *path.parents) if folder.is_relative_to(root)]
    return [folder for folder in found if folder.is_dir()]
