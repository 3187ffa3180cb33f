from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from inpo_studio.inpo.schedule import (
    Schedule,
    UnsupportedSchedule,
    add_noise,
    ddim_step,
    implied_noise,
    noise_from_prediction,
    predicted_x_0,
    schedule_from_config,
    sigma,
    sigma_weights,
)

from .conftest import STABLE_DIFFUSION


def _noise(seed: int, n: int = 3, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize(
    "config",
    [
        STABLE_DIFFUSION,
        {"beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.001 * (i + 1) for i in range(100)], "num_train_timesteps": 100},
    ],
)
def test_alpha_bar_is_that_of_diffusers(config: dict[str, Any]) -> None:
    theirs = DDIMScheduler(**config)
    ours = schedule_from_config(config)
    assert ours.alpha_bar.dtype == torch.float64
    assert torch.allclose(ours.alpha_bar.float(), theirs.alphas_cumprod, rtol=2e-5, atol=1e-9)
    assert ours.final_alpha_bar == pytest.approx(float(theirs.final_alpha_cumprod), rel=1e-6)


@pytest.mark.parametrize("timestep", [1, 101, 501, 901, 999])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_step_is_that_of_diffusers(timestep: int, seed: int, prediction_type: str) -> None:
    theirs = DDIMScheduler(**STABLE_DIFFUSION, prediction_type=prediction_type)
    theirs.set_timesteps(10)
    x_t, prediction = _noise(seed), _noise(seed + 10)
    expected = theirs.step(prediction, timestep, x_t).prev_sample

    ours = schedule_from_config({**STABLE_DIFFUSION, "prediction_type": prediction_type})
    now = ours.at(timestep)
    then = ours.at(timestep - 100) if timestep >= 100 else torch.tensor(ours.final_alpha_bar)
    noise = noise_from_prediction(prediction, x_t, now, ours.prediction_type)
    assert (ddim_step(x_t, noise, now, then.double()) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(3))
def test_implied_noise_undoes_add_noise(schedule: Schedule, seed: int) -> None:
    x_0, noise = _noise(seed), _noise(seed + 100)
    alpha_bar_t = schedule.at(torch.tensor([101, 501, 999]))
    x_t = add_noise(x_0, noise, alpha_bar_t)
    assert torch.allclose(implied_noise(x_t, x_0, alpha_bar_t), noise, atol=1e-5)
    assert torch.allclose(predicted_x_0(x_t, noise, alpha_bar_t), x_0, atol=1e-4)


def test_v_gives_back_the_noise_it_was_made_of(schedule: Schedule) -> None:
    x_0, noise = _noise(0), _noise(1)
    alpha_bar_t = schedule.at(torch.tensor([1, 401, 901]))
    column = alpha_bar_t.reshape(-1, 1, 1, 1)
    v = (column.sqrt() * noise - (1 - column).sqrt() * x_0).float()
    x_t = add_noise(x_0, noise, alpha_bar_t)
    assert torch.allclose(
        noise_from_prediction(v, x_t, alpha_bar_t, "v_prediction"), noise, atol=1e-5
    )


@pytest.mark.parametrize(
    "config",
    [
        {**STABLE_DIFFUSION, "rescale_betas_zero_snr": True},
        {"trained_betas": [0.1, 0.5, 1.0]},
    ],
)
def test_zero_terminal_snr_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedSchedule, match="zero terminal SNR"):
        schedule_from_config(config)


@pytest.mark.parametrize("config", [{"prediction_type": "sample"}, {"beta_schedule": "sigmoid"}])
def test_unknown_schedules_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedSchedule):
        schedule_from_config(config)


def test_shapes_that_would_broadcast_by_accident_are_refused(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="one value per image"):
        add_noise(_noise(0), _noise(1), schedule.at(torch.tensor([1, 2])))
    with pytest.raises(ValueError, match="float64"):
        Schedule(schedule.alpha_bar.float())


def test_sigma_is_noise_against_signal(schedule: Schedule) -> None:
    """At alpha_bar = 0.2, sigma = sqrt(0.8 / 0.2) = 2."""
    assert float(sigma(torch.tensor(0.2, dtype=torch.float64))) == pytest.approx(2.0)
    assert bool((sigma(schedule.alpha_bar).diff() > 0).all())


@pytest.mark.parametrize("power", [-2.0, 0.0, 1.0, 2.0])
def test_level_weights_are_one_in_the_mean(schedule: Schedule, power: float) -> None:
    trained = torch.tensor([301, 501, 901])
    weights = sigma_weights(schedule, trained, power)
    assert weights.shape == (1000,)
    assert float(weights[trained].mean()) == pytest.approx(1.0)
    ratio = float(sigma(schedule.at(901)) / sigma(schedule.at(301))) ** power
    assert float(weights[901] / weights[301]) == pytest.approx(ratio)
