"""Run with a failing disk (failing_disk.py): each reader of files, while its file fails for a time, and for good.

Prints a line for each: its name, what a fault that passed led to, what one that lasted led to.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from pathlib import Path

from cyclesr_dist.config.schema import load as load_config
from cyclesr_dist.data.folders import list_images
from cyclesr_dist.data.images import image_size, read_rgb8
from cyclesr_dist.data.shards import ShardSet
from cyclesr_dist.errors import CycleSRError
from cyclesr_dist.models.model_file import load_model
from cyclesr_dist.reports.page import save_page
from cyclesr_dist.reports.run_files import read_run
from cyclesr_dist.runtime import passing
from cyclesr_dist.runtime.lease import Lease, LocalPlace
from cyclesr_dist.training.checkpoint_store import LocalStore, newest
from cyclesr_dist.training.run_folder import RunFolder
from helpers.failing_disk import FailingDisk

WARNINGS: list[str] = []


def readers(root: Path, run: Path) -> dict[str, tuple[str, Callable[[], object]]]:
    """A part of the path of what fails, and who reads it."""
    checkpoints = LocalStore(run / "checkpoints")
    at = sorted((run / "checkpoints").iterdir())[-1].name
    photo = sorted((root / "lr").glob("*.png"))[0]

    def read_checkpoint() -> str:
        found = newest(checkpoints, WARNINGS.append)
        return found[0] if found else "none"

    def read_sample() -> str:
        return str(ShardSet.open(str(root / "shards/hr"), "hr").read(0)["hr"].sum())

    def claim() -> None:
        lease = Lease(LocalPlace(run), "run folder")
        lease.take()
        lease.release()

    return {
        "claim": (f"{run.parent.name}/{run.name}", claim),
        "run folder": ("run/config.yaml", lambda: RunFolder(run).holds_run()),
        "lines of a run": ("metrics.jsonl", lambda: RunFolder(run).cut_back(3)),
        "report's events": ("events.jsonl", lambda: len(read_run(run).events)),
        "report": ("report.html", lambda: save_page(run / "report.html", "page")),
        "configuration": ("config.yaml", lambda: load_config(run / "config.yaml").system),
        "photograph": (photo.name, lambda: read_rgb8(photo).sum()),
        "size": (photo.name, lambda: image_size(photo)),
        "folder": ("/lr", lambda: len(list_images(root / "lr"))),
        "manifest": ("hr/manifest.json", read_sample),
        "index": ("hr/shard-000000.json", read_sample),
        "tar": ("hr/shard-000000.tar", read_sample),
        "model": ("model.safetensors", lambda: len(load_model(run / "model.safetensors").state_dict())),
        "checkpoint manifest": (f"{at}/manifest.json", read_checkpoint),
        "checkpoint state": (f"{at}/state.json", read_checkpoint),
        "checkpoint tensors": (f"{at}/tensors", read_checkpoint),
    }


def outcome(read: Callable[[], object]) -> str:
    try:
        return f"read {read()}"
    except CycleSRError as error:
        return f"{type(error).__name__} {error.exit_code} {error}"


def main() -> None:
    root, run = Path(sys.argv[1]), Path(sys.argv[2])
    disk = FailingDisk.of_this_process()
    passing.wait_seconds = lambda attempt: 0.0  # type: ignore[assignment]
    for name, (part, read) in readers(root, run).items():
        expected = outcome(read)
        for number in (errno.EIO, errno.ESTALE, errno.EMFILE):
            disk.fail(number, part, times=3)
            passed = outcome(read)
            hits = disk.num_failures
            disk.fail(number, part)
            lasted = outcome(read)
            disk.control.unlink()
            good = passed == expected and hits == 3 and lasted.startswith("UnreachableError 1 ") and part in lasted
            print(f"{name}: {'good' if good else f'{passed!r} after {hits}, not {expected!r}; {lasted!r}'}")
    print(f"warnings: {WARNINGS}")


if __name__ == "__main__":
    main()
