"""Three short trainings from a fixed seed, and the losses they wrote when `golden.json` was made.

`python tests/training/golden.py` runs them and prints how far today's losses are from those in the file;
`python tests/training/golden.py --write` writes the file anew. Do that only where other numbers are meant, and say in
the commit why.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))


import torch
from helpers import tiny_overrides, write_photos

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.degradation.record import Degradation, save
from cyclesr_dist.training import main as training

FILE = Path(__file__).with_suffix(".json")
STEPS = 50
Curves = dict[str, list[float]]
"""By name of a loss, its value at steps 1, 2, ..."""

_NOTHING = 1e-7  # residual translators start as the identity, and some losses at zero
_SHARES = ["weights.mse=10", "weights.adv=2", "optim.lr_sr=1e-3"]  # so that no term is lost beside the others
_FEATURES = ["weights.percep=10", "weights.texture=5", "weights.advsr=5"]
RUNS = {
    "cyclesr": ["system=cyclesr", *_SHARES, "nets.translator.kind=resnet", "weights.spectrum=2", "weights.l1=5"],
    "cyclesr_measured": ["system=cyclesr", *_SHARES, "nets.translator.kind=degradation", "weights.spectrum=5"],
    # With a small weights.adv these translators hardly move: losses of 5e-5, which rounding changes by 3% in 50 steps.
    "cyclesrgan": ["system=cyclesrgan", *_SHARES, "global_batch=2", *_FEATURES, "weights.adv=20"],
}
"""Overrides beside those of `helpers.tiny_overrides`. Together they have all loss terms and all kinds of g_s2r."""


def make_data(root: Path) -> list[str]:
    """Photographs, shard sets of 16 px patches and an estimate, all below `root`. Returns overrides that name them."""
    write_photos(root / "hr", 5, 128, 160, seed=0)
    write_photos(root / "clean", 5, 128, 160, seed=1)
    degrade = ["degrade", "--hr", str(root / "clean"), "--track", "mild", "--noise", "0.05", "--shift-px", "0"]
    assert cyclesr([*degrade, "--seed", "0", "--out", str(root / "lr"), "--quiet"]) == 0
    config = root / "shards.yaml"
    config.write_text("shards: {patch: 16, stride: 8, samples_per_shard: 40}\n")
    build = ["shards", "build", "--hr", str(root / "hr"), "--lr", str(root / "lr"), "--out", str(root / "shards")]
    assert cyclesr([*build, "--config", str(config), "--quiet"]) == 0
    save(root / "estimate", estimate())
    sets = [f"data.{name}={root / 'shards' / name}" for name in ("hr", "lr")]
    return [*sets, f"nets.translator.estimate={root / 'estimate'}"]


def estimate() -> Degradation:
    """Written down, not measured: a fit's own iterations would add to the differences between processors."""
    line = torch.tensor([[1.0, 4.0, 6.0, 4.0, 1.0], [0.0, 1.0, 2.0, 1.0, 0.0]])
    kernels = line[:, :, None] * line[:, None]
    colouring = torch.eye(3)[..., None, None] * torch.tensor([[0.0, 0.2, 0.0], [0.2, 0.9, 0.2], [0.0, 0.2, 0.0]])
    return Degradation(
        kernels=kernels / kernels.sum((1, 2), keepdim=True),
        variance=torch.tensor([0.001, 0.003, 0.004]),
        levels=torch.tensor([0.8, 1.2]),
        colouring=colouring,
        noise=torch.zeros(0, 3, 1, 1),
        facts={"version": 1, "scale": 4},
    )


def losses(name: str, data: list[str], run_dir: Path, *more: str, steps: int = STEPS) -> Curves:
    """Train the first `steps` steps of `RUNS[name]` with overrides `more`, here and on the CPU."""
    config = run_dir.with_name(f"{run_dir.name}.yaml")
    config.write_text("backend: single\nema_decay: 0.9\nseed: 7\n")
    schedule = [f"steps={STEPS}", "epochs=5", "pretrain_epochs=1", "constant_epochs=3", "log_every_steps=1"]
    overrides = [*tiny_overrides(), *data, *(f"train.{text}" for text in schedule), *RUNS[name]]
    command = ["--config", str(config), "--run-dir", str(run_dir), "--quiet", *overrides, *more]
    assert training.main([*command, f"train.max_steps={steps}"]) == 0
    written = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in written] == list(range(1, steps + 1))
    terms = [key for key in written[0] if key.startswith("loss.")]
    return {key: [float(f"{line[key]:.9g}") for line in written] for key in terms}  # 9 digits: all of a float32


def allowed(step: int) -> float:
    """Relative difference at `step`, counted from 1, that is still the same training.

    Initial weights that differ by 1e-6, relative, more than processors make of them, come to 3e-4 at step 10 and to
    1e-2 at step 50.
    """
    return 1e-3 if step <= 10 else 2e-2


def differences(golden: Curves, today: Curves) -> list[str]:
    """A sentence for each term that is gone or new, and for each value that is not the same any more, by step.

    `today` may be shorter.
    """
    found = [(0, f"{key} is in one of them alone") for key in sorted(golden.keys() ^ today.keys())]
    for key in golden.keys() & today.keys():
        for step, (then, now) in enumerate(zip(golden[key], today[key], strict=False), start=1):
            if not abs(now - then) <= allowed(step) * abs(then) + _NOTHING:
                found.append((step, f"step {step}: {key} was {then}, is {now}"))
    return [text for _, text in sorted(found)]


def golden() -> dict[str, Curves]:
    """What the file holds."""
    read: dict[str, Curves] = json.loads(FILE.read_text(encoding="utf-8"))
    return read


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the file anew")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cyclesr-golden-") as folder:
        root = Path(folder)
        data = make_data(root)
        today = {name: losses(name, data, root / name) for name in RUNS}
    if args.write:
        runs = (f'"{n}": {{\n' + ",\n".join(f'"{k}": {v}' for k, v in c.items()) + "\n}" for n, c in today.items())
        FILE.write_text("{\n" + ",\n".join(runs) + "\n}\n", encoding="utf-8")
        return 0
    found = {name: differences(then, today[name]) for name, then in golden().items()}
    for name, then in golden().items():
        pairs = [pair for key in then for pair in zip(then[key], today[name].get(key, []), strict=False)]
        worst = max(abs(now - was) / max(abs(was), _NOTHING) for was, now in pairs)
        print(f"{name}: largest relative difference {worst:.2g}", *found[name], sep="\n  ")
    return 1 if any(found.values()) else 0


if __name__ == "__main__":
    import conftest  # noqa: F401 - one thread, as in the tests: sums of several have other last bits

    sys.exit(main())
