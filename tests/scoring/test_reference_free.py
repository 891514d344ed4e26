"""The scores without pairs, and the warnings drawn from them."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cyclesr_dist.config.schema import load
from cyclesr_dist.data.resize import bicubic_down, bicubic_up
from cyclesr_dist.scoring.reference_free import Nets, log_spectrum, real_record, reference_free, sharp_record
from cyclesr_dist.telemetry.diagnosis import Diagnosis, diagnosis_of
from cyclesr_dist.workflows.table.criteria import spearman


def noise(side: int, seed: int) -> Tensor:
    return torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(seed))


def up4(x: Tensor) -> Tensor:
    return bicubic_up(x, 4)


def test_the_spectrum_of_a_wave_has_its_peak_at_its_frequency() -> None:
    x = torch.arange(64) / 64
    for cycles in (4, 11, 25):
        wave = 0.5 + 0.4 * torch.sin(2 * torch.pi * cycles * x).expand(1, 3, 64, 64)
        assert int(np.argmax(log_spectrum(wave))) + 1 == cycles


def test_the_spectrum_of_white_noise_is_flat_and_has_its_power() -> None:
    spectra = np.mean([log_spectrum(noise(64, seed)) for seed in range(20)], axis=0)
    window_power = float((torch.hann_window(64, periodic=False).double() ** 2).mean()) ** 2
    assert np.abs(spectra - np.log10(window_power / 12)).max() < 0.15  # 1/12: variance of the uniform distribution


def test_spectra_of_photographs_of_different_sizes_go_together() -> None:
    large, small = log_spectrum(noise(96, 0)), log_spectrum(noise(40, 1))
    assert large.shape == small.shape == (32,)
    assert np.abs(large.mean() - small.mean()) < 0.3


def test_networks_that_agree_have_no_disagreement() -> None:
    def blur(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, 3, 1, 1)

    real = noise(32, 0)
    agreeing = real_record(Nets(up4, g_r2s=lambda x: bicubic_down(up4(x).clamp(0, 1), 4)), real, 4)
    other = real_record(Nets(up4, g_r2s=blur), real, 4)
    assert reference_free([agreeing])["agreement"] == pytest.approx(0, abs=1e-7)
    assert reference_free([other])["agreement"] > 0.05


def test_a_translator_is_nearer_to_real_than_the_identity() -> None:
    sharp = [F.avg_pool2d(noise(160, seed), 9, 1, 4) for seed in range(3)]
    noisy = [bicubic_down(x, 4) + 0.05 * torch.randn(1, 3, 40, 40) for x in sharp]

    def scores(g_s2r: object) -> dict[str, float]:
        nets = Nets(up4, None, g_s2r, 1)  # type: ignore[arg-type]
        records = [real_record(nets, x.clamp(0, 1), 4) for x in noisy]
        return reference_free(records + [sharp_record(nets, x, 4, seed) for seed, x in enumerate(sharp)])

    identity, right = scores(lambda x: x[:, :3]), scores(lambda x: x[:, :3] + 0.05 * x[:, 3:])
    assert identity["spectrum_lr"] == identity["spectrum_syn"] == right["spectrum_syn"]
    assert right["spectrum_lr"] < 0.6 * identity["spectrum_lr"]
    drift = {f"drift_{name}" for name in ("brightness", "red", "green", "blue")}
    assert set(right) == {"spectrum_lr", "spectrum_hr", "spectrum_syn", *drift}


def test_the_noise_of_a_photograph_is_always_the_same() -> None:
    nets = Nets(up4, None, lambda x: x[:, :3] + 0.1 * x[:, 3:], 1)
    a, b = (sharp_record(nets, noise(64, 1), 4, seed=3)["fake_real"] for _ in range(2))
    assert np.array_equal(a, b)


def test_spearman_knows_order_and_ties() -> None:
    rows = [{"psnr": p, "agreement": a} for p, a in ((20.0, 0.4), (21.0, 0.3), (25.0, 0.1))]
    assert spearman(rows, "agreement") == pytest.approx(1)
    assert spearman([row | {"agreement": -row["agreement"]} for row in rows], "agreement") == pytest.approx(-1)
    assert spearman([row | {"agreement": 1.0} for row in rows], "agreement") == 0


def diagnosis(*overrides: str) -> Diagnosis:
    return diagnosis_of(load(None, overrides), 100)


def test_warnings_come_once_and_say_what_is_wrong() -> None:
    seen = diagnosis()
    assert seen.logged(10, {"d_r": 0.2}, {"mean": 0.01, "std": 0.02, "colour": 0.01}) == []
    (brightness,) = seen.logged(20, {}, {"mean": -0.05})
    assert "5% too bright" in brightness  # g_l2h learns to brighten what g_s2r darkened
    assert "nets.translator.kind=degradation" in brightness
    assert seen.logged(30, {}, {"mean": -0.06}) == []
    (colour,) = seen.logged(40, {}, {"mean": 0.0, "colour": 0.05})
    assert "a tint of about 5%" in colour
    assert seen.warnings == [brightness, colour]


def test_a_discriminator_that_won_is_told_after_five_logs_in_a_row() -> None:
    seen = diagnosis()
    low, high = {"d_r": 0.001}, {"d_r": 0.2}
    found = [seen.logged(step, losses, {}) for step, losses in enumerate([low] * 4 + [high] + [low] * 6)]
    assert [bool(lines) for lines in found] == [False] * 9 + [True, False]


def test_an_identity_translator_is_told_in_the_second_half() -> None:
    seen = diagnosis()
    nothing = {"spectrum_lr": 0.29, "spectrum_syn": 0.3}
    assert seen.validated(40, nothing) == []
    assert seen.validated(60, {"spectrum_lr": 0.1, "spectrum_syn": 0.3}) == []
    (line,) = seen.validated(80, nothing)
    assert "near the identity" in line


def test_a_translator_that_moves_the_wrong_way_is_told_apart() -> None:
    (line,) = diagnosis().validated(80, {"spectrum_lr": 0.38, "spectrum_syn": 0.117})
    assert "moves away from real LR" in line
    assert "near the identity" not in line


def test_a_measured_degradation_that_does_not_help_is_told_as_such() -> None:
    (line,) = diagnosis("nets.translator.kind=degradation").validated(80, {"spectrum_lr": 0.108, "spectrum_syn": 0.054})
    assert "measured degradation is no nearer" in line
    assert "lr_cyclegan" not in line


def test_where_there_is_nothing_to_learn_nothing_is_told() -> None:
    assert diagnosis().validated(80, {"spectrum_lr": 0.03, "spectrum_syn": 0.02}) == []


def test_what_g_l2h_does_to_photographs_is_told_as_a_person_sees_it() -> None:
    good = {"drift_brightness": 0.01, "drift_red": -0.02, "psnr_estimated": 25.0, "psnr_estimated_bicubic": 24.0}
    assert diagnosis().validated(100, good) == []
    bad = {"drift_brightness": -0.05, "drift_blue": 0.04, "psnr_estimated": 22.4, "psnr_estimated_bicubic": 25.6}
    assert diagnosis().validated(40, bad) == []
    drift, bicubic = diagnosis().validated(100, bad)
    assert "come out 5% too dark and with 4% too much blue" in drift
    assert "worse than bicubic enlargement" in bicubic
    assert "3.20 dB less" in bicubic
    assert "train.steps=200" in bicubic


def test_every_warning_names_one_setting() -> None:
    for overrides in ((), ("nets.translator.kind=degradation",), ("system=estimated",), ("system=cyclegan",)):
        seen = diagnosis(*overrides)
        scores = {"drift_brightness": 0.1, "psnr": 20.0, "psnr_bicubic": 21.0, "spectrum_lr": 0.3, "spectrum_syn": 0.3}
        lines = [
            *seen.logged(10, {}, {"mean": 0.1, "colour": 0.1}),
            *(line for step in range(6) for line in seen.logged(step, {"d_r": 0.0}, {})),
            *seen.validated(100, scores),
        ]
        assert len(lines) == 6
        assert all(
            re.search(r"(train\.steps|nets\.translator\.kind|optim\.lr_cyclegan|system)=", line) for line in lines
        )
