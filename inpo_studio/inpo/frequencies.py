"""Errors weighed by frequency: what is liked is mostly about large parts of a picture."""

from __future__ import annotations

import torch
from torch import Tensor


def frequency_weights(height: int, width: int, cutoff: float) -> Tensor:
    """w(f) = 1 / (1 + (f / cutoff)^2) over the half plane of `torch.fft.rfft2`, float64.

    (height, width // 2 + 1); f in cycles a picture, `cutoff` > 0. Far above the cutoff every octave
    has the same sum of weights, where plain errors give the highest octave three quarters.
    """
    if cutoff <= 0:
        raise ValueError(f"The cutoff ({cutoff}) must be above 0 cycles a picture.")
    down = torch.fft.fftfreq(height, dtype=torch.float64)[:, None] * height
    across = torch.fft.rfftfreq(width, dtype=torch.float64)[None, :] * width
    weights: Tensor = 1 / (1 + (down.square() + across.square()) / cutoff**2)
    return weights


def weigh(x: Tensor, weights: Tensor) -> Tensor:
    """W x: x (n, c, h, w) with each frequency times its weight, (h, w // 2 + 1); x's own dtype."""
    size = (x.shape[-2], x.shape[-1])
    weighed: Tensor = torch.fft.irfft2(torch.fft.rfft2(x) * weights.to(x), s=size)
    return weighed


def balanced(weights: Tensor, differences: Tensor) -> Tensor:
    """The weights times one factor, so that W keeps the power of `differences` (n, c, h, w).

    With the differences x_0^w - x_0^l of the pairs a margin at their midpoint stays as large as it
    is without weights, so beta means what it meant. Differences of no power leave the weights.
    """
    before = differences.double().square().mean()
    after = weigh(differences.double(), weights).square().mean()
    return weights * (before / after).sqrt() if after > 0 else weights
