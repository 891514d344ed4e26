"""What `--model` may name of a run: its best network, its last one, a checkpoint's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import newest, run
from safetensors.torch import load_file

from cyclesr_dist.cli.main import main as cyclesr
from cyclesr_dist.config.schema import Speed
from cyclesr_dist.data.images import image_size
from cyclesr_dist.degradation.record import VERSION, Degradation, save
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.model_name import load_network, resolve_model
from cyclesr_dist.nets.tune import tune

X = torch.rand(1, 3, 9, 10, generator=torch.Generator().manual_seed(0))
# One epoch, 4 steps, a round: the 5th is the first of g_l2h.
ONE_EPOCH = ["train.epochs=1", "train.pretrain_epochs=0", "train.constant_epochs=0", "train.max_steps=5"]
SYSTEMS = {
    "sr_syn": [],
    "cyclesr": [],
    "measured": ["system=cyclesr", "nets.translator.kind=degradation"],
    "estimated": [],
    "cycle_sr_separate": ONE_EPOCH,
    "cyclegan": [],
}


@pytest.fixture(scope="module")
def estimate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A blur and a little noise, as if measured: tiny_data's patches are too small for that."""
    folder = tmp_path_factory.mktemp("estimate")
    found = Degradation(
        kernels=torch.full((1, 3, 3), 1 / 9),
        variance=torch.full((3,), 0.0005),
        levels=torch.ones(1),
        colouring=torch.eye(3)[..., None, None],
        noise=torch.zeros(0, 3, 8, 8),
        facts={"version": VERSION, "scale": 4},
    )
    save(folder, found)
    return folder


@pytest.fixture
def settings(tiny_data: Any, estimate: Path) -> list[str]:
    short = ["train.max_steps=3", "train.validate_every_steps=2", "train.checkpoint_every_steps=2"]
    return [*tiny_data.overrides, f"nets.translator.estimate={estimate}", "validate.pictures=0", *short]


def enlarged(name: object) -> torch.Tensor:
    return resolve_model(str(name))(X)


def of_checkpoint(folder: Path, average: bool, player: str = "g") -> torch.Tensor:
    """What the network makes whose weights are in the checkpoint: by the file's own names."""
    state = load_file(folder / "tensors.safetensors")
    net = load_network(str(folder))[0]
    tune(net, Speed())
    for name, tensor in net.named_parameters():
        kept = state[f"ema.{name}"] if average else state[f"{player}.params.g_l2h.{name}"]
        tensor.data.copy_(kept)
    with torch.no_grad():
        return net(X)


def train_(system: str, config_file: Path, folder: Path, *settings: str) -> None:
    own = SYSTEMS[system] if system == "measured" else [f"system={system}", *SYSTEMS[system]]
    assert run(config_file, folder, *settings, *own) == 0


@pytest.mark.parametrize(
    ("system", "decay"), [*((name, 0.9) for name in SYSTEMS), ("cyclesr", 0.0), ("cycle_sr_separate", 0.0)]
)
def test_the_last_network_is_that_of_the_newest_checkpoint(
    system: str, decay: float, config_file: Path, settings: list[str], tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    train_(system, config_file, folder, *settings, f"ema_decay={decay}")
    last, steps = newest(folder), 5 if system == "cycle_sr_separate" else 3
    player = "sr" if system == "cycle_sr_separate" else "g"
    expected = of_checkpoint(last, average=decay > 0, player=player)
    for name in (f"{folder}@last", last, f"{last}/"):
        assert torch.equal(enlarged(name), expected), name
        assert load_network(str(name))[3]["step"] == steps
    assert torch.equal(enlarged(f"{folder}@best"), enlarged(folder))
    if system != "cycle_sr_separate":  # other weights make other pictures, or nothing here could fail
        assert not torch.equal(enlarged(folder / "checkpoints/step-00000002"), expected)


def test_a_network_that_has_not_begun_to_learn_is_none(config_file: Path, settings: list[str], tmp_path: Path) -> None:
    """cycle_sr_separate trains its translators first, for a round."""
    folder = tmp_path / "run"
    train_("cycle_sr_separate", config_file, folder, *settings, "train.checkpoint_every_steps=1")
    for early in (folder / "checkpoints").iterdir():
        if early.name < "step-00000005":
            with pytest.raises(InputError, match="has not begun to learn"):
                resolve_model(str(early))
    shutil.rmtree(folder / "checkpoints/step-00000005")
    for name in ("last.safetensors", "model.safetensors"):
        (folder / name).unlink()
    with pytest.raises(InputError, match="has not begun to learn"):
        resolve_model(str(folder))


def test_the_best_network_may_be_an_earlier_one(config_file: Path, settings: list[str], tmp_path: Path) -> None:
    """A learning rate that ruins the network: the first validation is the best, the last one is another."""
    folder = tmp_path / "run"
    more = ["system=sr_syn", "ema_decay=0", "optim.lr_sr=1", "train.validate_every_steps=1"]
    assert run(config_file, folder, *settings, *more, "train.checkpoint_every_steps=1", "train.keep_checkpoints=9") == 0
    best, last = load_network(f"{folder}@best")[3], load_network(f"{folder}@last")[3]
    assert last == {"system": "sr_syn", "step": 3, "chosen": "last"}
    assert best["chosen"] == "best"
    assert best["step"] < 3
    assert torch.equal(enlarged(folder), enlarged(folder / "checkpoints" / f"step-{best['step']:08d}"))
    assert not torch.equal(enlarged(folder), enlarged(f"{folder}@last"))


def test_without_validation_there_is_no_best(config_file: Path, settings: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run(config_file, folder, *settings, "system=sr_syn", "train.validate_every_steps=0") == 0
    assert torch.equal(enlarged(folder), enlarged(f"{folder}@last"))
    assert torch.equal(enlarged(folder), enlarged(newest(folder)))
    with pytest.raises(InputError, match=r"was not validated; use .*@last"):
        resolve_model(f"{folder}@best")


def test_a_run_that_stopped_early_enlarges_a_photograph(
    config_file: Path, settings: list[str], tiny_data: Any, tmp_path: Path
) -> None:
    """It was killed after its first checkpoint, and before a validation."""
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    assert run(config_file, whole, *settings, "system=sr_syn", "train.validate_every_steps=0") == 0
    for left in ("last.safetensors", "model.safetensors", "config.yaml", "metrics.jsonl"):
        folder.mkdir(exist_ok=True)
        shutil.copy(whole / left, folder)
    shutil.copytree(whole / "checkpoints/step-00000002", folder / "checkpoints/step-00000002")
    photo = str(tiny_data.root / "clean/photo0.png")
    assert cyclesr(["upscale", photo, "--model", str(folder), "--out", str(tmp_path / "big"), "--quiet"]) == 0
    assert image_size(tmp_path / "big/photo0.png") == tuple(4 * side for side in image_size(Path(photo)))
    # As an earlier version left it: with a checkpoint alone.
    (folder / "last.safetensors").unlink()
    (folder / "model.safetensors").unlink()
    assert torch.equal(enlarged(folder), enlarged(folder / "checkpoints/step-00000002"))
    assert torch.equal(enlarged(f"{folder}@last"), enlarged(folder))
    with pytest.raises(InputError, match="no model in this folder"):
        resolve_model(f"{folder}@best")


def test_a_run_killed_at_its_first_checkpoint_has_a_network(
    config_file: Path, settings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cyclesr_dist.training import loop

    class Killed(BaseException):
        """As if the process had ended there."""

    def advance(self: loop.Attempt, *arguments: Any) -> None:
        true_advance(self, *arguments)
        if self.saved_step:
            self.saver.finish()
            raise Killed

    true_advance = loop.Attempt.advance
    monkeypatch.setattr(loop.Attempt, "advance", advance)
    more = ["train.checkpoint_every_steps=2", "train.validate_every_steps=6"]
    with pytest.raises(Killed):
        run(config_file, tmp_path / "run", *settings, *more)
    assert not (tmp_path / "run/validation.jsonl").exists()
    for name in (tmp_path / "run", f"{tmp_path / 'run'}@last", newest(tmp_path / "run")):
        net, _, _, extra = load_network(str(name))
        assert extra["step"] == 2
        assert net(X).shape == (1, 3, 36, 40)


@pytest.fixture
def ended(config_file: Path, settings: list[str], tmp_path: Path) -> Path:
    assert run(config_file, tmp_path / "run", *settings, "system=sr_syn") == 0
    return tmp_path / "run"


def test_what_cannot_be_used_is_refused_in_one_line(
    ended: Path, tiny_data: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(name: object) -> str:
        photo = str(tiny_data.root / "clean/photo0.png")
        assert cyclesr(["upscale", photo, "--model", str(name), "--out", str(tmp_path / "big"), "--quiet"]) == 2
        assert not (tmp_path / "big").exists()
        text = str(capsys.readouterr().err)
        assert text.count("\n") == 1
        return text

    assert f"@newest is not known; allowed: {ended}@best, {ended}@last" in refused(f"{ended}@newest")
    assert "@ is not known" in refused(f"{ended}@")
    assert "neither 'bicubic' nor an existing run folder" in refused(f"{ended}x@last")
    checkpoint = newest(ended)
    whole = (checkpoint / "tensors.safetensors").read_bytes()
    for damaged in (whole[:-40], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        (checkpoint / "tensors.safetensors").write_bytes(damaged)
        text = refused(checkpoint)
        assert "damaged" in text
        assert checkpoint.name in text
    (checkpoint / "tensors.safetensors").write_bytes(whole)
    state = (checkpoint / "state.json").read_text()
    for wrong in ("", "{}", state.replace('"compact"', '"swin"'), state.replace('"channels": 4', '"channels": 8')):
        (checkpoint / "state.json").write_text(wrong)
        assert checkpoint.name in refused(checkpoint)
    (checkpoint / "state.json").write_text(state)
    (checkpoint / "manifest.json").unlink()  # its writing was broken off
    assert "no model in this folder" in refused(checkpoint)


def test_a_folder_whose_name_has_an_at_sign_is_that_folder(ended: Path, tmp_path: Path) -> None:
    other = tmp_path / "run@best"
    shutil.copytree(ended, other)
    (other / "model.safetensors").write_bytes((ended / "last.safetensors").read_bytes())
    assert torch.equal(enlarged(other), enlarged(f"{ended}@last"))
    assert torch.equal(enlarged(f"{other}@last"), enlarged(f"{ended}@last"))
