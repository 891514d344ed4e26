"""model.safetensors: what is saved is what is loaded; anything else is refused in one line."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cyclesr_dist.config.schema import SRNet
from cyclesr_dist.data.resize import bicubic_up
from cyclesr_dist.errors import InputError
from cyclesr_dist.models.model_file import load_model, save_model
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.models.upscaler import METADATA_KEY, NetUpscaler
from cyclesr_dist.nets.build import build_sr

SMALL = {kind: SRNet(kind=kind, channels=4, blocks=2) for kind in ("vdsr", "srresnet", "compact", "span")}
SMALL |= {"realplksr": SRNet("realplksr", 4, 1, layer_norm=True), "swinir": SRNet("swinir", 6, 1)}
SR = SMALL["compact"]


def weights(sr: SRNet = SR, scale: int = 4, seed: int = 0) -> dict[str, Tensor]:
    """A state in which every entry, BatchNorm statistics too, is far from its initial value."""
    generator = torch.Generator().manual_seed(seed)
    state = build_sr(sr, scale).state_dict()
    return {
        name: torch.rand(t.shape, generator=generator) + 0.1 if t.is_floating_point() else t + 7
        for name, t in state.items()
    }


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save_model(tmp_path / "model.safetensors", weights(), SR, 4, {"system": "cyclesr"})
    return tmp_path / "model.safetensors"


def with_description(path: Path, description: object) -> None:
    save_file(load_file(path), path, metadata={METADATA_KEY: json.dumps(description)})


@pytest.mark.parametrize("sr", SMALL.values(), ids=SMALL)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_round_trip(tmp_path: Path, sr: SRNet, scale: int) -> None:
    state = weights(sr, scale)
    save_model(tmp_path / "m.safetensors", state, sr, scale, {})
    net = load_model(tmp_path / "m.safetensors")
    assert not net.training
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    reference = build_sr(sr, scale)
    reference.load_state_dict(state)
    x = torch.rand(1, 3, 6, 5)
    with torch.no_grad():  # attention is computed in another way where gradients are wanted
        assert torch.equal(net(x), reference.eval()(x))
    assert resolve_model(str(tmp_path / "m.safetensors"))(x).shape == (1, 3, 6 * scale, 5 * scale)


def test_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    state = weights()
    reversed_state = dict(reversed(state.items()))
    save_model(tmp_path / "1", state, SR, 4, {"a": 1, "b": 2})
    save_model(tmp_path / "2", reversed_state, SR, 4, {"b": 2, "a": 1})
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    save_model(tmp_path / "3", weights(seed=1), SR, 4, {"a": 1, "b": 2})
    assert (tmp_path / "1").read_bytes() != (tmp_path / "3").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "2", "3"]


def test_one_metadata_key_with_the_architecture(saved: Path) -> None:
    with safe_open(saved, framework="pt") as file:
        metadata = file.metadata()
    assert list(metadata) == ["cyclesr"]
    description = json.loads(metadata["cyclesr"])
    assert description == {
        "sr": asdict(SRNet(kind="compact", channels=4, blocks=2)),
        "scale": 4,
        "extra": {"system": "cyclesr"},
    }


def test_half_precision_views_and_gradients_are_stored_as_float32(tmp_path: Path) -> None:
    flat = torch.rand(sum(t.numel() for t in weights().values())).bfloat16().requires_grad_()
    views = flat.split([t.numel() for t in weights().values()])
    state = {name: view.view(t.shape) for (name, t), view in zip(weights().items(), views, strict=True)}
    save_model(tmp_path / "m", state, SR, 4, {})
    stored = load_file(tmp_path / "m")
    assert {t.dtype for t in stored.values()} == {torch.float32}
    assert all(torch.equal(stored[name], tensor.float()) for name, tensor in state.items())


def test_loading_does_not_disturb_random_numbers(saved: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_model(saved)
    assert torch.equal(torch.rand(3), expected)


class TestRefused:
    def message(self, path: Path) -> str:
        with pytest.raises(InputError) as caught:
            load_model(path)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def test_not_safetensors(self, tmp_path: Path) -> None:
        torch.save(weights(), tmp_path / "model.pth")
        (tmp_path / "empty").touch()
        for name in ("model.pth", "empty", "missing"):
            assert "cannot be read as a safetensors file" in self.message(tmp_path / name)

    def test_cut_short(self, saved: Path) -> None:
        saved.write_bytes(saved.read_bytes()[:-100])
        assert "cannot be read as a safetensors file" in self.message(saved)

    def test_without_description(self, saved: Path) -> None:
        save_file(load_file(saved), saved)
        assert "was not written by cyclesr" in self.message(saved)

    @pytest.mark.parametrize("scale", [2, 4])
    @pytest.mark.parametrize("sr", [SRNet("vdsr", 4, 2), SRNet("compact", 8, 2), SRNet("compact", 4, 3)])
    def test_another_architecture(self, saved: Path, sr: SRNet, scale: int) -> None:
        save_model(saved, weights(), sr, scale, {})
        assert "holds another network than it describes" in self.message(saved)

    @pytest.mark.parametrize(
        ("description", "reason"),
        [
            ([], "unusable"),
            ({"scale": 4}, "'sr'"),
            ({"sr": {"kind": "swin"}, "scale": 4}, "unknown kind 'swin'; known: vdsr, srresnet, edsr"),
            ({"sr": {"heads": 3}, "scale": 4}, "unknown key 'heads'"),
            ({"sr": {"channels": "64"}, "scale": 4}, "channels is '64'"),
            ({"sr": {"blocks": 10**9}, "scale": 4}, "blocks is 1000000000"),
            ({"sr": {}, "scale": 0}, "scale is 0"),
            ({"sr": {}, "scale": 5}, "scale 5"),
            ({"sr": {"channels": 4096, "blocks": 1024}, "scale": 4}, "holds another network"),
        ],
    )
    def test_unusable_descriptions(self, saved: Path, description: object, reason: str) -> None:
        with_description(saved, description)
        assert reason in self.message(saved)


class TestResolve:
    def test_bicubic(self) -> None:
        x = torch.rand(1, 3, 5, 6)
        for scale in (2, 4):
            upscaler = resolve_model("bicubic", scale)
            assert (upscaler.name, upscaler.scale) == ("bicubic", scale)
            assert torch.equal(upscaler(x), bicubic_up(x, scale))

    def test_run_folder_and_file_are_the_same_model(self, saved: Path) -> None:
        x = torch.rand(1, 3, 5, 6)
        folder, file = resolve_model(str(saved.parent)), resolve_model(str(saved))
        assert (folder.name, folder.scale) == (str(saved.parent), 4)
        assert torch.equal(folder(x), file(x))

    def test_the_files_own_scale_counts(self, tmp_path: Path) -> None:
        save_model(tmp_path / "m", weights(scale=2), SR, 2, {})
        assert resolve_model(str(tmp_path / "m"), scale=4).scale == 2

    def test_refuses_the_rest(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no model in this folder"):
            resolve_model(str(tmp_path))
        with pytest.raises(InputError, match="'bicubc': neither"):
            resolve_model("bicubc")


@pytest.mark.parametrize("sr", [*SMALL.values(), SRNet("compact", 4, 2, True)])
def test_reach_covers_the_receptive_field(sr: SRNet) -> None:
    """No LR pixel farther away than `reach` says has any influence on the centre of the output."""
    torch.manual_seed(0)
    net = build_sr(sr, 2).eval()
    for parameter in net.parameters():
        nn.init.uniform_(parameter, 0.1, 1)
    reach = NetUpscaler("", net, 2).reach.reach_px
    centre = reach + 8
    x = torch.rand(1, 3, 2 * centre + 1, 2 * centre + 1, dtype=torch.float64, requires_grad=True)
    net.double()(x)[0, :, 2 * centre, 2 * centre].sum().backward()
    assert x.grad is not None
    _, _, rows, columns = torch.nonzero(x.grad, as_tuple=True)
    assert max((rows - centre).abs().max(), (columns - centre).abs().max()) <= reach
    assert x.grad[0, 0, centre, centre] != 0
