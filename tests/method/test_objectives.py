"""Each loss term in float64 against a direct transcription of its equation, and gradients by finite differences."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from cyclesr_dist.config.schema import Weights
from cyclesr_dist.config.systems import Phase
from cyclesr_dist.method.drift import drift_of
from cyclesr_dist.method.losses import adversarial, perceptual, pixel
from cyclesr_dist.method.objectives import (
    Discriminators,
    EnlargedCycleGenerators,
    JointGenerators,
    SRGenerator,
    SRTerms,
)
from cyclesr_dist.nets.enlarge_first import EnlargeFirst

torch.set_default_dtype(torch.float32)
N, S, H = 2, 2, 6


def tiny_net(channels_in: int, channels_out: int, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    # tanh keeps the loss smooth, so finite differences are trustworthy.
    net = nn.Sequential(
        nn.Conv2d(channels_in, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, channels_out, 3, padding=1), nn.Sigmoid()
    )
    return net.double()


def tiny_sr(seed: int) -> nn.Module:
    return nn.Sequential(tiny_net(3, 3 * S * S, seed), nn.PixelShuffle(S))


class OneMap(nn.Module):
    """As VGGFeatures: a list of maps."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [self.net(x)]


class Setup:
    def __init__(self, weights: Weights, gan: bool = True, noise_channels: int = 1) -> None:
        self.features = OneMap(tiny_net(3, 2, 9))
        self.critics = nn.ModuleDict({"d_r": tiny_net(3, 1, 4), "d_s": tiny_net(3, 1, 5), "d_h": tiny_net(3, 1, 6)})
        self.objective = JointGenerators(
            tiny_net(3 + noise_channels, 3, 1),
            tiny_net(3, 3, 2),
            tiny_sr(3),
            weights,
            SRTerms(percep=self.features, gan=True) if gan else SRTerms(),
            torch.mean,
        )
        torch.manual_seed(7)
        self.syn = torch.rand(N, 3, H, H, dtype=torch.float64)
        self.real = torch.rand(N, 3, H, H, dtype=torch.float64)
        self.hr = torch.rand(N, 3, S * H, S * H, dtype=torch.float64)
        self.noise = torch.randn(2, N, noise_channels, H, H, dtype=torch.float64)

    def forward(self, phase: Phase):
        return self.objective(self.syn, self.real, self.hr, self.noise, phase, self.critics)


WEIGHTS = Weights(adv=0.7, cyc=9.0, cyc_backward=3.0, id=4.0, mse=50.0, percep=1.3, advsr=0.6)


def mean(values) -> float:
    values = list(values)
    return math.fsum(values) / len(values)


def flat(x: torch.Tensor) -> list[float]:
    return x.detach().reshape(-1).tolist()


def mse(x: torch.Tensor, y: torch.Tensor | float) -> float:
    other = flat(y) if isinstance(y, torch.Tensor) else [y] * x.numel()
    return mean((a - b) ** 2 for a, b in zip(flat(x), other, strict=True))


def mae(x: torch.Tensor, y: torch.Tensor) -> float:
    return mean(abs(a - b) for a, b in zip(flat(x), flat(y), strict=True))


def log_sigmoid(z: float) -> float:
    return -math.log1p(math.exp(-z)) if z > 0 else z - math.log1p(math.exp(z))


def bce(logits: list[float], label: int) -> float:
    return mean(-(log_sigmoid(z) if label else log_sigmoid(-z)) for z in logits)


def relativistic(d_real: torch.Tensor, d_fake: torch.Tensor, label_real: int) -> float:
    real, fake = flat(d_real), flat(d_fake)
    real_over_fake = [z - mean(fake) for z in real]
    fake_over_real = [z - mean(real) for z in fake]
    return (bce(real_over_fake, label_real) + bce(fake_over_real, 1 - label_real)) / 2


@pytest.mark.parametrize("phase", [Phase.PRETRAIN, Phase.JOINT])
def test_generator_terms_and_total_are_the_equations(phase: Phase) -> None:
    s = Setup(WEIGHTS)
    losses, fakes = s.forward(phase)
    drift = drift_of(fakes["d_r"], s.syn)
    o, c, w = s.objective, s.critics, WEIGHTS
    fake_real = o.g_s2r(torch.cat([s.syn, s.noise[0]], 1))
    fake_syn = o.g_r2s(s.real)
    sr = o.g_l2h(s.syn if phase is Phase.PRETRAIN else fake_real)
    expected = {
        "adv_s2r": mse(c["d_r"](fake_real), 1.0),
        "adv_r2s": mse(c["d_s"](fake_syn), 1.0),
        "cyc_forward": mae(o.g_r2s(fake_real), s.syn),
        "cyc_backward": mae(o.g_s2r(torch.cat([fake_syn, s.noise[1]], 1)), s.real),
        "id_real": mae(o.g_s2r(torch.cat([s.real, s.noise[1]], 1)), s.real),
        "id_syn": mae(o.g_r2s(s.syn), s.syn),
        "mse": mse(sr, s.hr),
        "advsr": relativistic(c["d_h"](s.hr), c["d_h"](sr), 0),
        "percep": mae(s.features(sr)[0], s.features(s.hr)[0]),
    }
    l_1 = (
        w.adv * (expected["adv_s2r"] + expected["adv_r2s"])
        + w.cyc * expected["cyc_forward"]
        + w.cyc_backward * expected["cyc_backward"]
        + w.id * (expected["id_real"] + expected["id_syn"])
    )
    l_2 = w.mse * expected["mse"] + w.advsr * expected["advsr"] + w.percep * expected["percep"]
    assert {k: float(v) for k, v in losses.items()} == pytest.approx(expected | {"total": l_1 + l_2}, rel=1e-12)
    assert losses["total"].dtype is torch.float64
    assert float(drift["mean"]) == pytest.approx(mean(flat(fake_real - s.syn)), rel=1e-9)
    assert torch.equal(fakes["d_h"], sr)
    assert not any(f.requires_grad for f in fakes.values())


def test_discriminator_terms_are_the_equations() -> None:
    s = Setup(WEIGHTS)
    fakes = {"d_r": torch.rand_like(s.syn), "d_s": torch.rand_like(s.syn), "d_h": torch.rand_like(s.hr)}
    losses = Discriminators(s.critics, torch.mean)(s.syn, s.real, s.hr, fakes)
    c = s.critics
    expected = {
        "d_r": (mse(c["d_r"](s.real), 1.0) + mse(c["d_r"](fakes["d_r"]), 0.0)) / 2,
        "d_s": (mse(c["d_s"](s.syn), 1.0) + mse(c["d_s"](fakes["d_s"]), 0.0)) / 2,
        "d_h": relativistic(c["d_h"](s.hr), c["d_h"](fakes["d_h"]), 1),
    }
    expected["total"] = sum(expected.values())
    assert {k: float(v) for k, v in losses.items()} == pytest.approx(expected, rel=1e-12)


def gradient_of_mse(phase: Phase) -> torch.Tensor | None:
    """Gradient of the SR terms alone with respect to g_s2r's first weight."""
    s = Setup(Weights(adv=0, cyc=0, id=0, mse=50.0, percep=1.3, advsr=0.6))
    losses, _ = s.forward(phase)
    weight = s.objective.g_s2r[0].weight
    return torch.autograd.grad(losses["total"], weight, allow_unused=True)[0]


def test_the_sr_gradient_reaches_g_s2r_in_the_joint_phase_only() -> None:
    joint = gradient_of_mse(Phase.JOINT)
    assert joint is not None
    assert float(joint.abs().max()) > 1e-6
    pretraining = gradient_of_mse(Phase.PRETRAIN)
    assert pretraining is None or float(pretraining.abs().max()) == 0


@pytest.mark.parametrize("which", ["g_s2r", "g_r2s", "g_l2h"])
def test_autograd_agrees_with_finite_differences(which: str) -> None:
    s = Setup(WEIGHTS)
    losses, _ = s.forward(Phase.JOINT)
    parameters = list(getattr(s.objective, which).parameters())
    gradients = torch.autograd.grad(losses["total"], parameters)
    generator = torch.Generator().manual_seed(0)
    for p, gradient in zip(parameters, gradients, strict=True):
        direction = torch.randn(p.shape, generator=generator, dtype=torch.float64)
        eps = 1e-6
        values = []
        for sign in (1, -1):
            with torch.no_grad():
                p.add_(direction, alpha=sign * eps)
                values.append(float(s.forward(Phase.JOINT)[0]["total"]))
                p.sub_(direction, alpha=sign * eps)
        numeric = (values[0] - values[1]) / (2 * eps)
        assert float((gradient * direction).sum()) == pytest.approx(numeric, rel=2e-5, abs=1e-7)


def test_cyclesr_has_the_mse_alone() -> None:
    losses, fakes = Setup(WEIGHTS, gan=False).forward(Phase.JOINT)
    assert "advsr" not in losses
    assert "percep" not in losses
    assert set(fakes) == {"d_r", "d_s"}


def test_one_cycle_weight_serves_both_directions_unless_told_otherwise() -> None:
    both = Setup(Weights(cyc=9.0, cyc_backward=None)).forward(Phase.JOINT)[0]["total"]
    explicit = Setup(Weights(cyc=9.0, cyc_backward=9.0)).forward(Phase.JOINT)[0]["total"]
    assert torch.equal(both, explicit)
    assert "cyc_backward" not in Setup(Weights(cyc_backward=0.0)).forward(Phase.JOINT)[0]


def test_losses_of_half_precision_are_single() -> None:
    x, y = torch.rand(2, 3, 4, 4).bfloat16(), torch.rand(2, 3, 4, 4).bfloat16()
    for loss in (
        pixel.mse(x, y),
        pixel.l1(x, y),
        adversarial.lsgan_generator(x),
        adversarial.lsgan_discriminator(x, y),
        adversarial.ragan_generator(x, y, torch.mean),
        perceptual.perceptual(nn.Identity(), x, y),
    ):
        assert loss.dtype is torch.float32


def test_texture_is_the_distance_of_gram_matrices() -> None:
    features = OneMap(tiny_net(3, 2, 9))
    x, y = (torch.rand(2, 3, 5, 7, dtype=torch.float64) for _ in range(2))
    grams = []
    for image in (x, y):
        maps = features(image)[0].clamp(min=0)
        grams.append([[sum(flat(m[a] * m[b])) / 35 for a in (0, 1) for b in (0, 1)] for m in maps])
    expected = mean((a - b) ** 2 for p, q in zip(*grams, strict=True) for a, b in zip(p, q, strict=True))
    assert float(perceptual.texture(features, x, y)) == pytest.approx(expected, rel=1e-12)
    # Where things are does not matter to it.
    shuffled = x.flatten(2)[..., torch.randperm(35)].view_as(x)
    one_to_one = OneMap(nn.Conv2d(3, 2, 1).double())
    assert float(perceptual.texture(one_to_one, shuffled, x)) == pytest.approx(0, abs=1e-18)


def test_further_terms_are_added_with_their_weights() -> None:
    plain, more = Setup(WEIGHTS), Setup(replace(WEIGHTS, l1=3.0, texture=7.0))
    more.objective.sr_terms = (SRTerms(percep=more.features, texture=more.features, gan=True),)
    base, (losses, *_) = plain.forward(Phase.JOINT)[0], more.forward(Phase.JOINT)
    assert set(losses) - set(base) == {"l1", "texture"}
    expected = float(base["total"]) + 3 * float(losses["l1"]) + 7 * float(losses["texture"])
    assert float(losses["total"]) == pytest.approx(expected, rel=1e-12)
    sr = more.objective.g_l2h(more.objective.g_s2r(torch.cat([more.syn, more.noise[0]], 1)))
    assert float(losses["l1"]) == pytest.approx(mae(sr, more.hr), rel=1e-12)


def test_sr_on_the_translation_leaves_the_translator_alone() -> None:
    setup = Setup(WEIGHTS)
    g_s2r = tiny_net(4, 3, 1)
    generator = SRGenerator(tiny_sr(3), WEIGHTS)
    losses = generator(setup.syn, setup.hr, setup.noise[0], g_s2r)
    losses["total"].backward()
    assert all(p.grad is None for p in g_s2r.parameters())
    sr = generator.g_l2h(g_s2r(torch.cat([setup.syn, setup.noise[0]], 1)))
    assert float(losses["mse"]) == pytest.approx(mse(sr, setup.hr), rel=1e-12)


def test_cyclegan_at_hr_size_is_equation_2_with_hr_for_syn() -> None:
    setup = Setup(WEIGHTS)
    g_h2l, translator = tiny_net(4, 3, 1), tiny_net(3, 3, 2)
    objective = EnlargedCycleGenerators(g_h2l, EnlargeFirst(translator, S), WEIGHTS)
    wide, noise = torch.rand_like(setup.hr), torch.randn(2, N, 1, S * H, S * H, dtype=torch.float64)
    losses, fakes = objective(setup.hr, wide, setup.hr, noise, Phase.CYCLEGAN, setup.critics)
    drift = drift_of(fakes["d_r"], setup.hr)
    fake = g_h2l(torch.cat([setup.hr, noise[0]], 1))
    assert float(losses["cyc_forward"]) == pytest.approx(mae(translator(fake), setup.hr), rel=1e-12)
    assert float(losses["adv_r2s"]) == pytest.approx(mse(setup.critics["d_s"](translator(wide)), 1.0), rel=1e-12)
    assert set(fakes) == {"d_r", "d_s"}
    assert float(drift["mean"]) == pytest.approx(float((fake - setup.hr).mean()), rel=1e-5)
