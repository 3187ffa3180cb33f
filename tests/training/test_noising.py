"""What a step draws depends on (round seed, step) alone."""

from __future__ import annotations

import pytest
import torch

from inpo_studio.configs import RoundConfig
from inpo_studio.training.noising import draw, pair_noise

GRID = (301, 401, 501)
SHAPE = (2, 4, 4)


def _draw(config: RoundConfig, step: int, pairs: int = 11):  # type: ignore[no-untyped-def]
    return draw(config, step, pairs, GRID, SHAPE, 1000)


def test_a_step_draws_the_same_whatever_came_before() -> None:
    config = RoundConfig(prompt_dropout=0.3)
    first = _draw(config, 5)
    torch.manual_seed(123)
    _draw(config, 4)
    second = _draw(config, 5)
    for name in first.__dataclass_fields__:
        assert torch.equal(getattr(first, name), getattr(second, name))


def test_seed_and_step_change_the_draws() -> None:
    config = RoundConfig(lowest_timestep=0)
    assert not torch.equal(_draw(config, 0).fresh, _draw(config, 1).fresh)
    other = config.model_copy(update={"seed": 1})
    assert not torch.equal(_draw(config, 0).fresh, _draw(other, 0).fresh)


def test_every_pair_is_visited_once_an_epoch() -> None:
    config = RoundConfig(batch_pairs=4, micro_batch_pairs=4)
    visits = torch.cat([_draw(config, step, pairs=12).pairs for step in range(6)])
    assert sorted(visits[:12].tolist()) == list(range(12))
    assert sorted(visits[12:].tolist()) == list(range(12))
    assert visits[:12].tolist() != visits[12:].tolist()


def test_inverted_noise_stays_on_the_grid_and_forward_noise_goes_anywhere() -> None:
    inverted = torch.cat([_draw(RoundConfig(), step).timestep for step in range(20)])
    assert set(inverted.tolist()) == set(GRID)
    config = RoundConfig(noise="forward")
    forward = torch.cat([_draw(config, step).timestep for step in range(20)])
    assert len(set(forward.tolist())) > 50


@pytest.mark.parametrize("noise", ["inverted", "forward"])
def test_steps_stay_within_the_configured_timesteps(noise: str) -> None:
    config = RoundConfig.model_validate(
        {"noise": noise, "lowest_timestep": 400, "highest_timestep": 501}
    )
    drawn = torch.cat([_draw(config, step).timestep for step in range(20)])
    assert int(drawn.min()) >= 400
    assert int(drawn.max()) <= 501


def test_an_empty_range_of_timesteps_is_refused() -> None:
    config = RoundConfig(lowest_timestep=402, highest_timestep=499)
    with pytest.raises(ValueError, match="more levels or a wider range"):
        _draw(config, 0)
    with pytest.raises(ValueError, match="must not exceed"):
        RoundConfig(lowest_timestep=3, highest_timestep=2)


@pytest.mark.parametrize(
    ("config", "same"),
    [
        (RoundConfig(noise_sharing="midpoint"), False),
        (RoundConfig(noise_sharing="shared"), True),
        (RoundConfig(noise="forward"), True),
        (RoundConfig(noise_sharing="own"), False),
    ],
)
def test_pair_noise_does_not_depend_on_who_won(config: RoundConfig, same: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, x_a, x_b, fresh = (torch.randn((3, *SHAPE), generator=generator) for _ in range(5))
    alpha_bar = torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64)
    noise = pair_noise(config, (x_a, x_b), (a, b), fresh, alpha_bar)
    swapped = pair_noise(config, (x_b, x_a), (b, a), fresh, alpha_bar)
    torch.testing.assert_close(noise[0], swapped[1])
    torch.testing.assert_close(noise[1], swapped[0])
    assert torch.equal(noise[0], noise[1]) == same


def test_published_noise_is_the_inversions_own() -> None:
    config = RoundConfig(noise_sharing="own", noise_mixing=0)
    winner, loser, x_0, fresh = (torch.randn(3, *SHAPE) for _ in range(4))
    alpha_bar = torch.full((3,), 0.5, dtype=torch.float64)
    assert pair_noise(config, (x_0, x_0), (winner, loser), fresh, alpha_bar) == (winner, loser)
