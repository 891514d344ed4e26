"""Networks: the reference parameter counts, shapes, starting points."""

import pytest
import torch
from safetensors.torch import save_file

from cyclesr_dist.config.schema import PatchGANNet, SRNet, TranslatorNet
from cyclesr_dist.data.resize import bicubic_up
from cyclesr_dist.errors import ConfigError, InputError
from cyclesr_dist.nets.build import build_discriminator, build_sr, build_translator
from cyclesr_dist.nets.vgg import build_vgg


def count(net: torch.nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def test_reference_parameter_counts() -> None:
    assert count(build_translator(TranslatorNet(blocks=9))) == 11_378_179
    assert count(build_translator(TranslatorNet(blocks=6))) == 7_837_699
    assert count(build_discriminator(PatchGANNet())) == 2_764_737
    assert count(build_sr(SRNet(), 4)) == 1_114_051


@pytest.mark.parametrize(("layers", "field"), [(0, 7), (1, 16), (2, 34), (3, 70)])
def test_patchgan_receptive_field(layers: int, field: int) -> None:
    net = build_discriminator(PatchGANNet(channels=4, layers=layers))
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.InstanceNorm2d):  # it sees the whole image
            net.set_submodule(name, torch.nn.Identity())
    x = torch.rand(1, 3, 160, 160, requires_grad=True)
    scores = net(x)
    scores[0, 0, scores.shape[2] // 2, scores.shape[3] // 2].backward()
    assert x.grad is not None
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows.max() - rows.min()) + 1 == field


@pytest.mark.parametrize("kind", ["vdsr", "srresnet", "compact"])
@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_sr_output_shape(kind: str, scale: int) -> None:
    net = build_sr(SRNet(kind=kind, channels=8, blocks=2), scale)  # type: ignore[arg-type]
    assert net(torch.rand(2, 3, 9, 11)).shape == (2, 3, 9 * scale, 11 * scale)


def test_compact_with_skip_starts_at_bicubic() -> None:
    net = build_sr(SRNet(kind="compact", channels=8, blocks=2, bicubic_skip=True), 4)
    x = torch.rand(1, 3, 10, 12)
    torch.testing.assert_close(net(x), bicubic_up(x, 4))


@pytest.mark.parametrize("noise_channels", [0, 2])
def test_residual_translator_starts_at_the_identity(noise_channels: int) -> None:
    net = build_translator(TranslatorNet(kind="residual", channels=8, blocks=2), noise_channels)
    x = torch.rand(1, 3 + noise_channels, 12, 12)
    torch.testing.assert_close(net(x), x[:, :3])


def test_resnet_translator_keeps_shape_and_range() -> None:
    net = build_translator(TranslatorNet(channels=8, blocks=1), 1)
    y = net(torch.rand(2, 4, 16, 20))
    assert y.shape == (2, 3, 16, 20)
    assert float(y.min()) >= 0
    assert float(y.max()) <= 1


def test_random_vgg_is_always_the_same_and_leaves_the_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b = build_vgg("random", (2,)), build_vgg("random", (2,))
    assert torch.equal(before, torch.get_rng_state())
    x = torch.rand(1, 3, 16, 16)
    assert torch.equal(a(x)[0], b(x)[0])


def test_vgg_from_a_file_in_torchvision_layout(tmp_path) -> None:
    source = build_vgg("random", (34,))
    path = tmp_path / "vgg.safetensors"
    save_file({k: v.half() for k, v in source.state_dict().items() if k.startswith("features.")}, path)
    loaded = build_vgg(str(path), (2, 7))
    x = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(loaded(x), build_vgg("random", (2, 7))(x), atol=2e-3, rtol=2e-3)


def test_vgg_bad_sources(tmp_path) -> None:
    with pytest.raises(InputError, match=r"perceptual\.source"):
        build_vgg(str(tmp_path / "missing.safetensors"), (34,))
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"features\.0\.weight"):
        build_vgg(str(tmp_path / "other.safetensors"), (2,))
    with pytest.raises(ConfigError, match="allowed"):
        build_vgg("random", (2, 3))
