"""SR networks: all kinds at all scales, and those that a config names by module and class."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
from helpers.runs import program

import cyclesr_dist
from cyclesr_dist.config.reader import dump, write_resolved
from cyclesr_dist.config.schema import SRNet, TranslatorNet, load
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.models.model_file import load_model, save_model
from cyclesr_dist.models.model_name import resolve_model
from cyclesr_dist.nets.build import build_sr, build_translator
from cyclesr_dist.nets.by_class import build_by_class

NETWORKS = """
import torch
from torch import nn


class Small(nn.Module):
    def __init__(self, scale, width=4, double=False, bias=0.0):
        super().__init__()
        self.head = nn.Conv2d(3, 3 * scale**2, 3, padding=1)
        self.shuffle = nn.PixelShuffle(scale)
        self.double, self.bias = double, bias

    def forward(self, x):
        y = self.shuffle(self.head(x)) + self.bias
        return y.double() if self.double else y


class Listing(Small):
    def forward(self, x):
        return [super().forward(x)]


class FixedSize(Small):
    def forward(self, x):
        return super().forward(x.reshape(-1, 3, 24, 24))


class LargerInTraining(Small):
    def forward(self, x):
        y = super().forward(x)
        return torch.cat([y, y], -1) if self.training else y


class PairInTraining(Small):
    def forward(self, x):
        y = super().forward(x)
        return (y, y) if self.training else y


class Leaving(Small):
    def forward(self, x):
        raise SystemExit(0)


class Drawing(Small):
    def __init__(self, scale):
        super().__init__(scale)
        self.norm, self.frozen = nn.BatchNorm2d(3), nn.BatchNorm2d(3).eval()
        self.pooled = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3), nn.Dropout())

    def forward(self, x):
        return super().forward(self.frozen(self.norm(x)) + self.pooled(x))


class Narrow(nn.Module):
    def __init__(self, channels, blocks, noise_channels):
        super().__init__()
        self.body = nn.Conv2d(3 + noise_channels, 3, 3, padding=1)

    def forward(self, x):
        return self.body(x)[..., 1:] if self.training else self.body(x)


class Empty(nn.Module):
    def forward(self, x):
        return x


def function(scale):
    raise AssertionError("must not be called")
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"networks_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    return name


KINDS = [kind for kind in get_args(get_type_hints(SRNet)["kind"]) if kind not in ("module", "translated")]
"""Without those that are made of others: `tests/models/test_two_networks.py` has `translated`."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_every_kind_enlarges_by_every_scale(kind: str, scale: int) -> None:
    net = build_sr(SRNet(kind=kind, channels=12, blocks=1), scale).eval()
    with torch.no_grad():
        assert net(torch.rand(2, 3, 9, 14)).shape == (2, 3, 9 * scale, 14 * scale)


@pytest.mark.parametrize(
    ("sr", "parameters"),
    [
        (SRNet("edsr", 64, 16), 1_517_571),
        (SRNet("rrdb", 64, 23), 16_697_987),
        (SRNet("srvgg", 64, 32), 1_213_296),
        (SRNet("srvgg", 64, 16), 621_424),
        (SRNet("msrresnet", 64, 16), 1_517_571),
        (SRNet("span", 48, 6), 1_840_488),
        (SRNet("realplksr", 64, 28), 7_389_680),
        (SRNet("swinir", 60, 4), 929_628),
        (SRNet("swinir", 180, 6, upsampler="pixelshuffle"), 11_900_199),
        (SRNet("swinir", 180, 6, upsampler="nearest+conv"), 11_715_559),
    ],
)
def test_parameters_of_the_published_networks(sr: SRNet, parameters: int) -> None:
    with torch.device("meta"):
        net = build_sr(sr, 4)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_residual_scale_of_edsr() -> None:
    torch.manual_seed(0)
    full = build_sr(SRNet(kind="edsr", channels=4, blocks=2), 2)
    small = build_sr(SRNet(kind="edsr", channels=4, blocks=2, res_scale=0.1), 2)
    small.load_state_dict(full.state_dict())
    x = torch.rand(1, 3, 8, 8)
    assert not torch.allclose(full(x), small(x))


def test_a_foreign_network_by_config(package: str) -> None:
    overrides = ["nets.sr.kind=module", f"nets.sr.module={package}:Small", "nets.sr.arguments={scale: 4, width: 8}"]
    config = load(None, overrides)
    assert config.nets.sr.arguments == {"scale": 4, "width": 8}
    before = torch.get_rng_state()
    net = build_sr(config.nets.sr, 4)
    assert net.training
    torch.manual_seed(0)
    a = build_sr(config.nets.sr, 4)
    torch.manual_seed(0)
    b = type(a)(scale=4)
    assert torch.equal(a.head.weight, b.head.weight), "trying it out draws nothing"
    assert before.shape == torch.get_rng_state().shape


def test_arguments_survive_a_round_trip(tmp_path: Path) -> None:
    text = (
        "nets: {sr: {kind: module, module: 'a.b:C', arguments: {n: 3, f: 1.5e-3, s: abc, on: true, none: null, "
        "l: [1, [x]], d: {k: '1'}}}}"
    )
    (tmp_path / "a.yaml").write_text(text)
    config = load(tmp_path / "a.yaml")
    assert config.nets.sr.arguments == {
        "n": 3,
        "f": 0.0015,
        "s": "abc",
        "on": True,
        "none": None,
        "l": [1, ["x"]],
        "d": {"k": "1"},
    }
    write_resolved(config, tmp_path / "b.yaml")
    assert load(tmp_path / "b.yaml") == config
    assert dump(load(tmp_path / "b.yaml")) == dump(config)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[1, 2]", "not a mapping"),
        ("{a: 1, a: 2}", "duplicate key"),
        ("{a: !!python/object:x 1}", "tags are not allowed"),
    ],
)
def test_bad_arguments_are_refused(value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(None, ["nets.sr.kind=module", "nets.sr.module=a:B", f"nets.sr.arguments={value}"])


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        ("{p}:Small", {"scale": 2}, r"gives shape \(1, 3, 48, 48\); the scale needs \(1, 3, 96, 96\)"),
        ("{p}:Small", {"scale": 4, "double": True}, "float64; float32 is needed"),
        ("{p}:Small", {"scale": 4, "bias": float("inf")}, "not finite"),
        ("{p}:Small", {"size": 4}, "nets.sr.arguments"),
        ("{p}:Listing", {"scale": 4}, "gives a list"),
        ("{p}:LargerInTraining", {"scale": 4}, r"in training mode gives shape \(2, 3, 80, 224\); the scale needs"),
        ("{p}:PairInTraining", {"scale": 4}, "in training mode gives a tuple"),
        ("{p}:Leaving", {"scale": 4}, "fails on an input of shape"),
        ("{p}:FixedSize", {"scale": 4}, "fails on an input of shape"),
        ("{p}:Empty", {}, "no parameter"),
        ("{p}:function", {"scale": 4}, "allowed: a class of torch.nn.Module"),
        ("{p}:Missing", {}, "cannot be imported"),
        ("no_such_package_here:A", {}, "cannot be imported"),
        ("{p}.Small", {}, "allowed: package.module:Class"),
        ("os:system", {"command": "true"}, "allowed: a class of torch.nn.Module"),
    ],
)
def test_what_is_no_sr_network_is_refused(package: str, module: str, arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_by_class(module.format(p=package), arguments, 4)


def test_a_translator_is_tried_in_training_mode_too(package: str) -> None:
    with pytest.raises(ConfigError, match=r"nets\.translator\.kind = .*:Narrow: in training mode gives shape"):
        build_translator(TranslatorNet(kind=f"{package}:Narrow"))  # type: ignore[arg-type]  # one of the user's own


def test_a_trial_leaves_no_trace(package: str) -> None:
    torch.manual_seed(0)
    net = build_by_class(f"{package}:Drawing", {"scale": 4}, 4)
    after = torch.get_rng_state()
    torch.manual_seed(0)
    fresh = type(net)(scale=4)
    assert torch.equal(after, torch.get_rng_state())
    assert {name: part.training for name, part in net.named_modules()} == {
        name: part.training for name, part in fresh.named_modules()
    }
    for name, value in fresh.state_dict().items():
        assert torch.equal(net.state_dict()[name], value), name


def test_module_belongs_to_its_kind() -> None:
    with pytest.raises(ConfigError, match=r"nets\.sr\.module"):
        load(None, ["nets.sr.kind=module"])
    with pytest.raises(ConfigError, match=r"nets\.sr\.module"):
        load(None, ["nets.sr.module=a:B"])


def test_a_model_file_imports_nothing_unless_allowed(package: str, tmp_path: Path) -> None:
    sr = SRNet(kind="module", module=f"{package}:Small", arguments={"scale": 4})
    net = build_sr(sr, 4)
    path = tmp_path / "model.safetensors"
    save_model(path, net.state_dict(), sr, 4, {})
    with pytest.raises(InputError, match="--allow-module"):
        resolve_model(str(path))
    loaded = load_model(path, allow_module=True)
    x = torch.rand(1, 3, 8, 8)
    assert torch.equal(loaded(x), net(x))
    save_model(path, net.state_dict(), SRNet(kind="module", module="os:system", arguments={}), 4, {})
    with pytest.raises(InputError, match=r"class of torch\.nn\.Module"):
        load_model(path, allow_module=True)


_BUILD = "from cyclesr_dist.nets.by_class import build_by_class; build_by_class({module!r}, {{'scale': 4}}, 4)"


def build_alone(module: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """In a process whose sys.path has not the working directory, as a console script's has not."""
    root = str(Path(cyclesr_dist.__file__).parents[1])
    code = f"import sys; sys.path[0] = {root!r}; " + _BUILD.format(module=module)
    variables = os.environ | {"PYTHONPATH": ""} | environment
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


def test_networks_lie_in_the_working_directory_behind_what_is_installed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/nets.py").write_text("import safetensors\nfrom mine.more import Small\n" + "import yaml\n")
    (tmp_path / "mine/more.py").write_text(NETWORKS)
    for taken in ("yaml", "safetensors", "PIL"):
        (tmp_path / f"{taken}.py").write_text("raise AssertionError('the library is meant')\n")
    done = build_alone("mine.nets:Small", tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "run").mkdir()  # as a trial of a search does
    assert build_alone("mine.nets:Small", tmp_path / "run").returncode
    done = build_alone("mine.nets:Small", tmp_path / "run", CYCLESR_MODULES_FOLDER=str(tmp_path))
    assert done.returncode == 0, done.stderr


def last_word(module: str) -> str:
    _, said = program(_BUILD.format(module=module))
    return said.splitlines()[-1]


def test_a_module_that_is_missing_is_named_with_the_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    last = last_word("not_there.nets:Small")
    assert "nets.sr.module = 'not_there.nets:Small'" in last
    assert str(tmp_path) in last
    (tmp_path / "mine.py").write_text("import needs_this\n")
    last = last_word("mine:Small")
    assert "No module named 'needs_this'" in last
    assert "looked" not in last
    (tmp_path / "mine.py").write_text("1 / 0\n")
    assert "ZeroDivisionError: division by zero" in last_word("mine:Small")
