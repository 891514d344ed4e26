"""The degradation between two sets: measured, and written as the three files of `cyclesr estimate`."""

from __future__ import annotations

from cyclesr_dist.config.schema import load
from cyclesr_dist.data.source import is_remote, local_folder
from cyclesr_dist.degradation.estimate import estimate_from
from cyclesr_dist.degradation.record import ARRAYS, FACTS, Degradation, save
from cyclesr_dist.degradation.sample import Sample, read_sample
from cyclesr_dist.errors import InputError
from cyclesr_dist.reports.estimate_page import PAGE, estimate_page
from cyclesr_dist.reports.page import save_page
from cyclesr_dist.runtime.bars import Bar
from cyclesr_dist.runtime.files import new_folder
from cyclesr_dist.runtime.patterns import root_of
from cyclesr_dist.runtime.tally import Tally


def measure(
    hr: str,
    lr: str,
    *,
    out: str | None = None,
    scale: int = 4,
    seed: int = 0,
    overwrite: bool = False,
    progress: bool = False,
    tally: Tally | None = None,
) -> Degradation:
    """Measure, and write degradation.json, degradation.safetensors and degradation.html into the folder `out`.

    `hr` and `lr` are folders of photographs or shard sets, paths or URLs. An `out` that holds just these files, or with
    `overwrite` anything, is replaced. A `tally` hears of photographs that cannot be read; the others are looked at.
    Raises InputError, and ConfigError for `scale` and `seed`; then nothing is written.
    """
    if out is None:
        return _measured(hr, lr, scale, seed, progress, tally)[0]
    if is_remote(out):
        raise InputError(f"{out}: is a URL; a local folder is needed")
    folder = local_folder(out)
    again = folder.is_dir() and {path.name for path in folder.iterdir()} <= {ARRAYS, FACTS, PAGE}
    inputs = tuple(root_of(local_folder(url)) for url in (hr, lr) if not is_remote(url))
    # Entered first: a folder that must not be replaced is refused before the work and not after it.
    with new_folder(folder, overwrite=overwrite or again, inputs=inputs) as new:
        found, sharp, real = _measured(hr, lr, scale, seed, progress, tally)
        save(new, found)
        save_page(new / PAGE, estimate_page(found, sharp, real))
    return found


def _measured(
    hr: str, lr: str, scale: int, seed: int, progress: bool, tally: Tally | None
) -> tuple[Degradation, Sample, Sample]:
    config = load(None, [f"scale={scale}", f"seed={seed}"])
    with Bar(3, "estimate", "step", progress) as bar:
        sharp = read_sample(hr, "hr", config.scale, config.data, config.seed, tally)
        bar.update()
        real = read_sample(lr, "lr", config.scale, config.data, config.seed, tally)
        bar.update()
        found = estimate_from(sharp, real, scale=config.scale, seed=config.seed)
        bar.update()
    return found, sharp, real
