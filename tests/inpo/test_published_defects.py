"""One test for each defect of the published training code that could come back here."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inpo_studio.inpo.inversion import invert, level_grid
from inpo_studio.inpo.schedule import Schedule, add_noise, implied_noise


def _noise(seed: int, n: int = 2) -> Tensor:
    return torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_the_level_reached_is_the_timestep_trained_at(schedule: Schedule) -> None:
    """Published: x_t ends on a grid level L, but tau, alpha and the label use another t."""
    x_0, noise, levels = _noise(0), _noise(1), level_grid(10)
    found = invert(lambda x, t: noise, x_0, schedule, levels)
    for level, x_t in zip(levels[2:], found.x_t[2:], strict=True):
        right = implied_noise(x_t, x_0, schedule.at(level))
        wrong = implied_noise(x_t, x_0, schedule.at(level - 50))
        # x_0 itself counts as slightly noised, which leaves a little beside the noise.
        assert float((right - noise).square().mean()) < 0.02
        assert float((right - noise).square().mean()) < float((wrong - noise).square().mean())


def test_the_top_of_the_grid_does_not_run_past_the_schedule(schedule: Schedule) -> None:
    """Published: the step from t looks up t + 100, an index beyond 999 for t > 901."""
    for levels in (1, 2, 3, 10, 19, 50, 500, 999):
        assert float(schedule.at(torch.tensor(level_grid(levels))).min()) > 0
    with pytest.raises(ValueError, match=r"0 \.\. 999"):
        schedule.at(1001)


def test_no_timestep_is_negative(schedule: Schedule) -> None:
    """Published: the first inversion step calls the network at timestep -99."""
    seen: list[int] = []

    def denoise(x_t: Tensor, timestep: int) -> Tensor:
        seen.append(timestep)
        return x_t

    invert(denoise, _noise(0), schedule, level_grid(10))
    assert min(seen) == 0
    with pytest.raises(ValueError):
        schedule.at(-99)


def test_every_image_has_its_own_timestep(schedule: Schedule) -> None:
    """Published: timesteps[0] decides depth and alpha for the whole batch."""
    x_0, noise = _noise(0), _noise(1)
    timesteps = torch.tensor([1, 901])
    both = add_noise(x_0, noise, schedule.at(timesteps))
    for i in range(2):
        one = slice(i, i + 1)
        alone = add_noise(x_0[one], noise[one], schedule.at(timesteps[one]))
        assert torch.equal(both[one], alone)
    assert not torch.allclose(both, add_noise(x_0, noise, schedule.at(timesteps[0])), atol=0.1)


def test_alpha_bar_is_never_rounded_to_half_precision(schedule: Schedule) -> None:
    """Published: alpha_bar in fp16, so 1 - alpha_bar_0 is 15 % off."""
    x_0 = torch.zeros(1, 4, 8, 8, dtype=torch.float16)
    noise = torch.ones_like(x_0)
    spread = float(add_noise(x_0, noise, schedule.at(torch.tensor([0]))).mean())
    assert spread**2 == pytest.approx(1 - float(schedule.alpha_bar[0]), rel=2e-3)
    with pytest.raises(ValueError, match="float64"):
        add_noise(x_0, noise, schedule.at(torch.tensor([0])).half())
