"""The Python API at work: its examples, and training from a program."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch.distributed as dist
import yaml
from helpers import write_photos
from PIL import Image

import cyclesr_dist
from cyclesr_dist import ConfigError, CycleSRError, InputError, load_config, load_model
from cyclesr_dist.cli.main import main as cyclesr

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def workplace(tiny_data, config_file, tmp_path, monkeypatch) -> Path:
    """A working directory with what the examples name: photo.jpg, hr/, lr/, mine.yaml."""
    write_photos(tmp_path / "hr", 4, 128, 192, seed=0)
    write_photos(tmp_path / "photos", 4, 128, 192, seed=1)
    cyclesr_dist.simulate(tmp_path / "photos", "mild", out=tmp_path / "lr")
    for path in (tmp_path / "hr").iterdir():  # with which lr can be scored
        path.unlink()
    for path in (tmp_path / "photos").iterdir():
        path.rename(tmp_path / "hr" / path.name)
    Image.open(tmp_path / "hr" / "photo0.png").crop((0, 0, 96, 64)).save(tmp_path / "photo.jpg")
    values = load_config(config_file, [*tiny_data.overrides, "system=sr_syn", "train.max_steps=2"])
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(to_plain(values)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def to_plain(config: Any) -> Any:
    from cyclesr_dist.config.reader import to_dict

    return json.loads(json.dumps(to_dict(config)))


@pytest.mark.usefixtures("few_fit_steps")
def test_the_examples_of_the_docstrings(workplace) -> None:
    result = doctest.testmod(cyclesr_dist, optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted > 15


@pytest.mark.usefixtures("few_fit_steps")
def test_the_examples_of_the_documentation(workplace) -> None:
    text = (REPOSITORY / "docs" / "api.md").read_text()
    names: dict[str, Any] = {"np": np, "Image": Image}
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, "docs/api.md", "exec"), names)
    assert names["large"].size == (384, 256)
    assert (workplace / "large.png").is_file()
    assert (workplace / "estimates" / "camera" / "degradation.json").is_file()


def test_the_script(workplace) -> None:
    command = [sys.executable, str(REPOSITORY / "examples" / "api.py"), "hr", "lr"]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([*command, "big.png"], env=environment, capture_output=True, text=True, check=True)
    assert "photo0x4m.png enlarged x4: big.png" in done.stdout
    assert "There are only 4 HR photographs" in done.stdout
    with Image.open("big.png") as image:
        assert image.size == (192, 128)
    done = subprocess.run([*command, "b.png", "nowhere"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: model 'nowhere'")


class TestTrain:
    def test_equals_the_command(self, workplace, capsys) -> None:
        assert cyclesr(["train", "--config", "mine.yaml", "--run-dir", "command", "--quiet"]) == 0
        config = load_config("mine.yaml")
        summary = cyclesr_dist.train(config, "api", quiet=True)
        assert summary == json.loads(Path("api/summary.json").read_text())
        assert summary["steps"] == 2
        for name in ("model.safetensors", "config.yaml"):
            assert (workplace / "api" / name).read_bytes() == (workplace / "command" / name).read_bytes()
        assert not dist.is_initialized()
        longer = replace(config, train=replace(config.train, max_steps=3))
        with pytest.raises(InputError, match=r"already holds a run; use --resume \(in Python resume=True\)"):
            cyclesr_dist.train(longer, "api", quiet=True)
        assert cyclesr_dist.train(longer, "api", resume=True, quiet=True)["steps"] == 3
        assert load_model("api").scale == 4
        capsys.readouterr()

    def test_refusals(self, workplace) -> None:
        config = load_config("mine.yaml")
        for wrong, words in [
            (replace(config, scale=5), "scale = 5"),
            ("mine.yaml", "no configuration"),
            (replace(config, data=replace(config.data, hr="nowhere")), "nowhere"),
        ]:
            with pytest.raises(CycleSRError, match=words):
                cyclesr_dist.train(wrong, "run", quiet=True)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="run_dir = None"):
            cyclesr_dist.train(config, None, quiet=True)  # type: ignore[arg-type]
        assert issubclass(ConfigError, CycleSRError)
        assert not Path("run").exists()

    def test_from_another_thread(self, workplace) -> None:
        errors: list[Exception] = []

        def call() -> None:
            try:
                cyclesr_dist.train(load_config("mine.yaml"), "run", quiet=True)
            except CycleSRError as error:
                errors.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        assert "main thread" in str(errors[0])

    def test_with_a_process_group_of_somebody_else(self, workplace, tmp_path) -> None:
        dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
        try:
            with pytest.raises(CycleSRError, match="process group"):
                cyclesr_dist.train(load_config("mine.yaml"), "run", quiet=True)
            assert dist.is_initialized()
        finally:
            dist.destroy_process_group()

    def test_under_torchrun(self, workplace) -> None:
        script = workplace / "script.py"
        script.write_text(
            "import json, os, pathlib, cyclesr_dist as c\n"
            "config = c.load_config('mine.yaml', ['backend=ddp'])\n"
            "summary = c.train(config, 'run', quiet=True)\n"
            "pathlib.Path(os.environ['RANK'] + '.json').write_text(json.dumps(summary))\n"
        )
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, done.stderr
        first, second = (json.loads(Path(f"{rank}.json").read_text()) for rank in (0, 1))
        assert first == json.loads(Path("run/summary.json").read_text())
        assert first["num_ranks"] == second["num_ranks"] == 2
        assert first["steps"] == second["steps"]
