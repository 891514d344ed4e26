"""torch's compiler stays out of processes that compile nothing, and works as ever for the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from helpers.data import TinyData

TRAIN = """
import json, sys
if {before}:
    import torch._dynamo
from pathlib import Path
import cyclesr_dist as c
summary = c.train(c.load_config(None, json.loads(sys.argv[2])), Path(sys.argv[1]), quiet=True)
print("torch._dynamo" in sys.modules)
"""
INSIDE = """
import sys, torch
from cyclesr_dist.distributed.compiler_import import compiler_left_out

def results():
    p = torch.nn.Parameter(torch.linspace(-1, 1, 5))
    optimizer = torch.optim.Adam([p], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        p.square().sum().backward()
        optimizer.step()
    return p.detach().clone()

step = torch.optim.Adam.step
with compiler_left_out():
    inside = results()
    assert "torch._dynamo" not in sys.modules
    assert torch.compile(lambda x: x * 2, backend="eager")(torch.ones(2)).tolist() == [2, 2]
assert torch.optim.Adam.step is step
assert torch.equal(results(), inside)
kept = torch.optim.Adam.step
with compiler_left_out():
    assert torch.optim.Adam.step is kept, "nothing changes once it is imported"
"""


def script(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_training_is_the_same_in_every_bit_without_it(tiny_data: TinyData, tmp_path: Path) -> None:
    own = [*tiny_data.overrides, "backend=single", "precision=fp32", "train.max_steps=3", "system=cyclesr"]
    for name, before in (("without", False), ("with", True)):
        imported = script(TRAIN.format(before=before), str(tmp_path / name), json.dumps(own))
        assert imported.splitlines()[-1] == str(before)
    losses = [
        [
            {key: value for key, value in json.loads(line).items() if key.startswith(("loss.", "grad_norm."))}
            for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]
        for name in ("without", "with")
    ]
    assert len(losses[0]) == 3
    assert losses[0] == losses[1]


def test_what_is_compiled_within_compiles_and_all_is_as_before_afterwards() -> None:
    script(INSIDE)
