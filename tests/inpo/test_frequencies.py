from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from inpo_studio.inpo.frequencies import balanced, frequency_weights, weigh
from inpo_studio.inpo.objectives import error


def _draw(seed: int, height: int = 8, width: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, 4, height, width, generator=generator, dtype=torch.float64)


def _wave(cycles: int, size: int = 16) -> Tensor:
    """One picture of one channel that goes up and down so many times from top to bottom."""
    rows = torch.cos(2 * math.pi * cycles * torch.arange(size, dtype=torch.float64) / size)
    return rows[None, None, :, None].expand(1, 1, size, size).contiguous()


@pytest.mark.parametrize("cycles", [0, 1, 3, 8])
def test_a_wave_is_weighed_by_its_cycles_a_picture(cycles: int) -> None:
    wave = _wave(cycles)
    weighed = weigh(wave, frequency_weights(16, 16, 2.0))
    torch.testing.assert_close(weighed, wave / (1 + (cycles / 2) ** 2))


def test_far_above_the_cutoff_every_octave_weighs_the_same() -> None:
    size = 512
    weights = frequency_weights(size, size, 1.0)
    down = torch.fft.fftfreq(size)[:, None] * size
    across = torch.fft.rfftfreq(size)[None, :] * size
    cycles = (down.square() + across.square()).sqrt()
    octaves = [weights[(cycles >= low) & (cycles < 2 * low)].sum() for low in (16, 32, 64, 128)]
    for octave in octaves:
        assert float(octave) == pytest.approx(float(octaves[0]), rel=0.02)


def test_weighing_is_symmetric_and_positive_at_odd_and_even_sizes() -> None:
    for height, width in ((8, 6), (7, 5), (6, 7)):
        a, b = _draw(0, height, width), _draw(1, height, width)
        weights = frequency_weights(height, width, 1.5)
        torch.testing.assert_close((a * weigh(b, weights)).sum(), (b * weigh(a, weights)).sum())
        assert float((a * weigh(a, weights)).sum()) > 0


def test_the_weighed_error_is_that_of_its_frequencies() -> None:
    a, b = _draw(0), _draw(1)
    weights = frequency_weights(8, 6, 1.0)
    spectrum = torch.fft.fft2(a - b).abs().square()
    down = torch.fft.fftfreq(8, dtype=torch.float64)[:, None] * 8
    across = torch.fft.fftfreq(6, dtype=torch.float64)[None, :] * 6
    whole = 1 / (1 + down.square() + across.square())
    expected = (spectrum * whole).sum((1, 2, 3)) / (8 * 6) / (4 * 8 * 6)
    torch.testing.assert_close(error(a, b, weights), expected)
    torch.testing.assert_close(error(a, b, torch.ones_like(weights)), error(a, b))


def test_its_gradient_is_the_weighed_residual() -> None:
    prediction, noise = _draw(0).requires_grad_(True), _draw(1)
    weights = frequency_weights(8, 6, 1.0)
    error(prediction, noise, weights).sum().backward()
    expected = 2 * weigh((prediction - noise).detach(), weights) / (4 * 8 * 6)
    assert prediction.grad is not None
    torch.testing.assert_close(prediction.grad, expected)


def test_balanced_weights_keep_the_power_of_the_differences() -> None:
    differences = _draw(2)
    weights = frequency_weights(8, 6, 1.0)
    found = balanced(weights, differences.float())
    kept = weigh(differences, found).square().mean()
    torch.testing.assert_close(kept, differences.square().mean())
    torch.testing.assert_close(found / found[0, 0], weights / weights[0, 0])
    assert torch.equal(balanced(weights, torch.zeros(2, 4, 8, 6)), weights)


def test_a_cutoff_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        frequency_weights(8, 8, 0.0)
