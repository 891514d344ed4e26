"""Files that commands write where the user says: whole or not at all, and nothing but files is ever replaced."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cyclesr_dist.runtime.files import check_writable, write_text


def test_the_file_behind_a_link_is_replaced_and_the_link_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name in ("there/old.json", "there/new.json"):
        link = tmp_path / Path(name).name
        link.symlink_to(name)
    (tmp_path / "there/old.json").write_text("old")
    for name in ("old.json", "new.json"):
        write_text(tmp_path / name, "result")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / name).read_text() == "result"
    assert sorted(os.listdir(tmp_path / "there")) == ["new.json", "old.json"]


def test_a_pipe_is_written_to(tmp_path: Path) -> None:
    pipe, heard = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()))
    reader.start()
    check_writable(pipe, "--json")
    write_text(pipe, "result")
    reader.join(60)
    assert heard == ["result"]
    assert stat.S_ISFIFO(pipe.stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which may make devices")
def test_a_device_stays_a_device(tmp_path: Path) -> None:
    device = tmp_path / "full"
    os.mknod(device, 0o666 | stat.S_IFCHR, os.makedev(1, 7))  # /dev/full
    try:
        device.write_bytes(b"x")
    except OSError as error:
        if "space" not in str(error):
            pytest.skip(f"devices do not work in {tmp_path}: {error}")
    with pytest.raises(OSError, match="No space left"):
        write_text(device, "result")
    assert stat.S_ISCHR(device.stat().st_mode)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_works_with_streams_that_are_closed(tmp_path: Path, closed: str) -> None:
    """As daemons and some schedulers start programs. The file that is written must not get the number of one."""
    command = f"{sys.executable} -m cyclesr_dist.cli.main config schema --out schema.json {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert (tmp_path / "schema.json").read_text().startswith("{")
