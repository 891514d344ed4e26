"""The largest SSIM over thousands of shifts of one image against another: estimated for all, computed for the best few.

An SSIM map is smooth, as it is made with a Gaussian of sigma 1.5: every third row and column of it give its mean to
about 0.005. The estimates are in float32 and leave out most of the work, but not one shift. All that come near the best
of them are then computed in full, in float64. How far those prove to be from their estimates decides what is near.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cyclesr_dist.runtime.threads import one_thread
from cyclesr_dist.scoring.psnr import SSIM_C1, SSIM_C2, SSIM_RADIUS, Image8, gaussian_window

_STEP = 3
# Columns of the map that are estimated at a time. More leave more zeros in the products' matrices and less of the
# intermediates in cache; fewer make the products too small to be fast.
_COLUMNS = 6
# Shifts that are computed whatever their estimates. They show how far off these are, which depends on the images: by
# 0.0002 on a clear sky, by 0.005 on leaves.
_CONTROLS = 12
# A shift that was left out is the best only if the two errors, its own and that of the best estimate, differ by more
# than this times the largest error seen. Over 50 photographs they differed by a quarter of it at most.
_DOUBT = 6
_BATCH = 16


def best_ssim(window: Image8, area: Image8) -> float:
    """Largest SSIM of `window` (h, w, 3) and the windows of `area` whose shift from the centre is even.

    h and w are even, and `area` is larger by 2n >= 0 px in both directions, with shifts of -n..n. Agrees with `ssim`
    of that window to float64 rounding.
    """
    with one_thread():
        shifts = _Shifts.of(window, area)
        estimate = _estimates(shifts)
        exact = np.full_like(estimate, -np.inf)
        chosen = np.zeros(len(estimate), bool)
        chosen[:: max(1, len(chosen) // _CONTROLS)] = True
        chosen[estimate.argmax()] = True
        while (new := np.flatnonzero(chosen & np.isneginf(exact))).size:
            exact[new] = _exact(shifts, new)
            worst = np.abs(exact - estimate)[chosen].max()
            chosen |= estimate >= estimate.max() - _DOUBT * worst
        return float(exact.max())


@dataclass(frozen=True)
class _Shifts:
    """Both images as float64 planes, less the mean of the window, and their Gaussian means and variances.

    Covariances do not change by that mean, and float32 keeps more of their digits. Planes of y begin at the first
    window of even shift, so that shift (a, b) is at row 2a and column 2b.
    """

    x: Tensor
    """(3, h, w)"""
    y: Tensor
    mean_x: Tensor
    """(3, h - 10, w - 10)"""
    mean_y: Tensor
    var_x: Tensor
    var_y: Tensor
    centre: float
    """What was subtracted."""
    counts: tuple[int, int]
    """Shifts in each direction."""

    @staticmethod
    def of(window: Image8, area: Image8) -> _Shifts:
        size = window.shape[:2]
        spare = [whole - part for whole, part in zip(area.shape[:2], size, strict=True)]
        first = [s // 2 % 2 for s in spare]
        counts = [(s - f) // 2 + 1 for s, f in zip(spare, first, strict=True)]
        rows, columns = (slice(f, f + part + 2 * n - 2) for f, part, n in zip(first, size, counts, strict=True))
        centre = float(window.mean())
        x, y = (
            torch.from_numpy(image.transpose(2, 0, 1).astype(np.float64) - centre)
            for image in (window, area[rows, columns])
        )
        mean_x, square_x = _filtered(torch.stack((x, x * x)))
        mean_y, square_y = _filtered(torch.stack((y, y * y)))
        var_x, var_y = square_x - mean_x**2, square_y - mean_y**2
        return _Shifts(x, y, mean_x, mean_y, var_x, var_y, centre, (counts[0], counts[1]))


def _filtered(planes: Tensor) -> Tensor:
    """`gaussian_filter` of (..., H, W), as products with banded matrices: faster for small planes."""
    rows, columns = (_gauss(size).to(planes.dtype) for size in planes.shape[-2:])
    across = (planes.reshape(-1, planes.shape[-1]) @ columns.T).view(*planes.shape[:-1], -1)
    return rows @ across


def _gauss(size: int) -> Tensor:
    """(size - 10, size) float64: the filter along one axis as a matrix."""
    matrix = torch.zeros(size - 2 * SSIM_RADIUS, size, dtype=torch.float64)
    for offset, weight in enumerate(gaussian_window().tolist()):
        matrix.diagonal(offset).fill_(weight)
    return matrix


def _exact(shifts: _Shifts, chosen: NDArray[np.intp]) -> NDArray[np.float64]:
    """SSIM in float64 of the shifts with these indices (row-major)."""
    scores = []
    for start in range(0, len(chosen), _BATCH):
        a, b = (torch.from_numpy(i) for i in np.divmod(chosen[start : start + _BATCH], shifts.counts[1]))

        def moved(plane: Tensor, like: Tensor, a: Tensor = a, b: Tensor = b) -> Tensor:
            h, w = like.shape[1:]
            return plane.unfold(1, h, 2).unfold(2, w, 2)[:, a, b]

        x, mean_x = shifts.x[:, None], shifts.mean_x[:, None]
        mean_y = moved(shifts.mean_y, shifts.mean_x)
        covariance = _filtered(x * moved(shifts.y, shifts.x)) - mean_x * mean_y
        variances = shifts.var_x[:, None] + moved(shifts.var_y, shifts.var_x)
        mean_x, mean_y = mean_x + shifts.centre, mean_y + shifts.centre
        light = (2 * mean_x * mean_y + SSIM_C1) / (mean_x**2 + mean_y**2 + SSIM_C1)
        similarity = light * (2 * covariance + SSIM_C2) / (variances + SSIM_C2)
        scores.append(similarity.mean(dim=(0, 2, 3)))
    return torch.cat(scores).numpy()


def _estimates(shifts: _Shifts) -> NDArray[np.float64]:
    """Mean over a third of the rows and columns of each SSIM map, other ones for each channel, for all shifts.

    With the same ones for all, patterns of period 3 would be seen at one phase only.
    """
    total = torch.zeros(shifts.counts[0] * shifts.counts[1])
    for channel in range(3):
        _add_estimates(total, shifts, channel)
    return total.double().numpy() / 3


def _sampled(size: int, first: int) -> tuple[Tensor, Tensor]:
    """Every third index of `size` from `first` on, and their weights: each stands for the indices nearest to it."""
    at = torch.arange(first, size, _STEP)
    nearest = (torch.arange(size)[:, None] - at).abs().argmin(dim=1)
    return at, torch.bincount(nearest, minlength=len(at)).float() / size


def _add_estimates(total: Tensor, shifts: _Shifts, channel: int) -> None:
    """Add the estimates of one channel to `total` (shifts,).

    Only E[xy] is different for each pair of a pixel and a shift in a way that takes a filter. It is made as two matrix
    products, along rows and then along columns, none of which sees the product of x and a moved y written out.
    """
    rows, row_weights = _sampled(shifts.mean_x.shape[1], channel)
    columns, column_weights = _sampled(shifts.mean_x.shape[2], channel)
    x, mean_x, var_x = (plane[channel].float() for plane in (shifts.x, shifts.mean_x, shifts.var_x))
    y, mean_y, var_y = (plane[channel].float() for plane in (shifts.y, shifts.mean_y, shifts.var_y))
    height, width = x.shape
    down, across = _gauss(height)[rows].float(), _gauss(width)[columns].float()
    down = torch.cat((down[:, ::2], down[:, 1::2]), dim=1)  # as the rows of `filtered` below

    c1, c2 = torch.tensor(SSIM_C1, dtype=torch.float32), torch.tensor(SSIM_C2, dtype=torch.float32)
    mean_x, var_x = mean_x[rows[:, None], columns, None], var_x[rows[:, None], columns, None] + c2
    light_x, light_y = mean_x + shifts.centre, mean_y + shifts.centre
    light_xx, mean_x2, light_x2 = light_x**2 + c1, 2 * mean_x, 2 * light_x

    y_at = _moved_rows(y, shifts.counts)
    maps = [_moved_rows(plane, shifts.counts, columns) for plane in (mean_y, var_y, light_y, light_y**2)]
    for left in range(0, len(columns), _COLUMNS):
        block = slice(left, left + _COLUMNS)
        reach = slice(int(columns[block][0]), int(columns[block][-1]) + 2 * SSIM_RADIUS + 1)
        weighted = 2 * across[block, reach] * x[:, None, reach]  # (height, columns, reach)
        filtered = torch.cat([torch.bmm(weighted[odd::2], y_at[odd, reach].transpose(0, 1)) for odd in (0, 1)])
        similarity = (down @ filtered.flatten(1)).view(len(rows), -1, len(total))  # 2 E[xy]
        for odd in (0, 1):  # every second sampled row has the same parity in the image
            part = np.s_[odd::2, block]
            first, half = int(rows[odd]) % 2, int(rows[odd]) // 2
            own = similarity[odd::2]
            mean, var, light, light_yy = (m[first, block, half::3].transpose(0, 1)[: len(own)] for m in maps)
            own.addcmul_(mean_x2[part], mean, value=-1).add_(c2)
            own.mul_(torch.addcmul(c1, light_x2[part], light))
            own.div_((light_xx[part] + light_yy).mul_(var_x[part] + var))
        weights = row_weights[:, None] * column_weights[block]
        total.addmv_(similarity.view(-1, len(total)).T, weights.flatten())


def _moved_rows(plane: Tensor, counts: tuple[int, int], columns: Tensor | None = None) -> Tensor:
    """(H, W) -> (2, columns, H // 2 - a + 1, a * b): entry [p, j, s, (i, k)] is the plane at row 2 (s + i) + p and
    column `columns[j]` + 2 k, that is pixel (2 s + p, j) of the window of shift (i, k), for a * b shifts."""
    a, b = counts
    moved = plane.unfold(1, 2 * b - 1, 1)[..., ::2]
    if columns is not None:
        moved = moved[:, columns]
    moved = moved.reshape(moved.shape[0] // 2, 2, *moved.shape[1:]).permute(1, 2, 0, 3).contiguous()
    return moved.flatten(2).unfold(2, a * b, b)
