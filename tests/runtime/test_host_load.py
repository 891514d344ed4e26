"""Counters of the control groups that a process is in, of both versions, in a container and beside one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cyclesr_dist.runtime import control_groups
from cyclesr_dist.runtime.host_load import HostLoad


def write(files: dict[Path, str]) -> None:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(control_groups, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(control_groups, "OWN", tmp_path / "own")
    return tmp_path / "groups"


def version2(folder: Path, hits: int, stall: int, throttled: int) -> dict[Path, str]:
    return {
        folder / "memory.events.local": f"low 0\nhigh 0\nmax {hits}\noom 0\n",
        folder / "memory.pressure": f"some avg10=0.00 avg60=0.00 total={stall}\nfull avg10=0.00 total=0\n",
        folder / "io.pressure": f"some avg10=0.00 avg60=0.00 total={2 * stall}\n",
        folder / "cpu.stat": f"usage_usec 9\nthrottled_usec {throttled}\n",
    }


def test_a_job_whose_group_lies_in_another_one_that_is_limited(root: Path) -> None:
    """As Slurm's: the limit may be of the job, the process in a step of it. Other jobs' waits are not its own."""
    write({root.parent / "own": "0::/job_7/step_0\n"})
    write(
        version2(root, 0, 5_000_000, 0) | version2(root / "job_7", 3, 0, 0) | version2(root / "job_7/step_0", 0, 0, 0)
    )
    load = HostLoad()
    write(version2(root, 0, 9_000_000, 0) | version2(root / "job_7", 8, 0, 500_000))
    write(version2(root / "job_7/step_0", 2, 250_000, 100_000) | version2(root / "job_8", 99, 99, 99))
    found = load.since_last()
    assert found["memory_limit_hits"] == 7
    assert (found["memory_stall_seconds"], found["io_stall_seconds"]) == (0.25, 0.5)
    assert found["throttled_seconds"] == pytest.approx(0.6)


def test_a_container_that_is_told_the_path_of_its_host_has_its_own_group_at_the_root(root: Path) -> None:
    write({root.parent / "own": "4:memory:/kubepods/pod1\n3:cpu,cpuacct:/kubepods/pod1\n0::/kubepods/pod1\n"})
    write({root / "memory/memory.failcnt": "5\n", root / "cpu/cpu.stat": "nr_periods 9\nthrottled_time 1000000000\n"})
    write(version2(root / "unified", 0, 1_000_000, 0))
    load = HostLoad()
    write({root / "memory/memory.failcnt": "6\n", root / "cpu/cpu.stat": "nr_periods 9\nthrottled_time 3000000000\n"})
    write(version2(root / "unified", 0, 2_000_000, 0))
    found = load.since_last()
    assert (found["memory_limit_hits"], found["throttled_seconds"], found["memory_stall_seconds"]) == (1, 2.0, 1.0)


def test_counters_that_are_not_there_are_left_out(root: Path) -> None:
    found = HostLoad().since_last()
    assert not {"memory_limit_hits", "throttled_seconds"} & found.keys()
    assert found["system_seconds"] >= 0
