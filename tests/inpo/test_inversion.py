from __future__ import annotations

import pytest
import torch
from diffusers import DDIMInverseScheduler
from torch import Tensor

from inpo_studio.inpo.inversion import (
    ddim_inverse_step,
    ddim_sigma,
    invert,
    invert_to,
    level_above,
    level_grid,
    midpoint_noise,
    mix_noise,
    share_noise,
)
from inpo_studio.inpo.schedule import (
    Schedule,
    add_noise,
    ddim_step,
    implied_noise,
    noise_from_prediction,
    schedule_from_config,
)

from .conftest import STABLE_DIFFUSION


def _noise(seed: int, n: int = 3) -> Tensor:
    return torch.randn(n, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def _network(x_t: Tensor, timestep: int) -> Tensor:
    """A stand-in for a network: depends on the image and on the timestep."""
    return torch.tanh(x_t.roll(1, -1)) * (0.5 + timestep / 1000)


def test_the_grid_is_evenly_spaced_and_fits() -> None:
    assert level_grid(10) == (1, 101, 201, 301, 401, 501, 601, 701, 801, 901)
    assert level_grid(1) == (1,)
    for levels in (2, 7, 19, 50, 999):
        grid = level_grid(levels)
        assert len(grid) == levels
        assert grid[-1] < 1000
    for levels in (0, 1000, 1001):
        with pytest.raises(ValueError):
            level_grid(levels)


@pytest.mark.parametrize("timestep", [1, 101, 501, 901])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_step_is_that_of_diffusers(timestep: int, seed: int, prediction_type: str) -> None:
    theirs = DDIMInverseScheduler(**STABLE_DIFFUSION, prediction_type=prediction_type)
    theirs.set_timesteps(10)
    x, prediction = _noise(seed), _noise(seed + 10)
    expected = theirs.step(prediction, timestep, x).prev_sample

    ours = schedule_from_config({**STABLE_DIFFUSION, "prediction_type": prediction_type})
    final = torch.tensor(ours.final_alpha_bar, dtype=torch.float64)
    before = ours.at(timestep - 100) if timestep >= 100 else final
    noise = noise_from_prediction(prediction, x, before, ours.prediction_type)
    ours_next = ddim_inverse_step(x, noise, before, ours.at(timestep))
    assert (ours_next - expected).abs().max() < 1e-5


@pytest.mark.parametrize("at_one", [True, False])
@pytest.mark.parametrize("num_levels", [4, 10, 20])
def test_the_whole_way_up_is_that_of_diffusers(
    num_levels: int, at_one: bool, prediction_type: str
) -> None:
    """Fed with the same predictions, diffusers' scheduler passes through every x_t of ours."""
    config = {**STABLE_DIFFUSION, "prediction_type": prediction_type, "set_alpha_to_one": at_one}
    theirs, ours = DDIMInverseScheduler(**config), schedule_from_config(config)
    theirs.set_timesteps(num_levels)
    levels = level_grid(num_levels)
    predictions: list[Tensor] = []

    def denoise(x_t: Tensor, timestep: int) -> Tensor:
        predictions.append(_network(x_t, timestep))
        final = torch.tensor(ours.final_alpha_bar, dtype=torch.float64)
        here = ours.at(timestep) if len(predictions) > 1 else final
        return noise_from_prediction(predictions[-1], x_t, here, ours.prediction_type)

    x = _noise(0)
    found = invert(denoise, x, ours, levels)
    for index, timestep in enumerate(theirs.timesteps.tolist()):
        assert timestep == levels[index]
        x = theirs.step(predictions[index], timestep, x).prev_sample
        assert (found.x_t[index] - x).abs().max() < 2e-5 * max(1.0, float(x.abs().max()))


def test_each_image_may_stop_at_its_own_level(schedule: Schedule) -> None:
    x_0, levels = _noise(0, n=4), level_grid(5)
    whole = invert(_network, x_0, schedule, levels)
    depth = torch.tensor([3, 0, 4, 1])
    asked: list[tuple[int, list[int]]] = []

    def denoise(x_t: Tensor, timestep: int, rows: Tensor) -> Tensor:
        asked.append((timestep, rows.tolist()))
        return _network(x_t, timestep)

    found = invert_to(denoise, x_0, schedule, levels, depth)
    for image, level in enumerate(depth.tolist()):
        assert torch.allclose(found[image], whole.x_t[level, image], atol=1e-6)
    assert [label for label, _ in asked] == [0, 1, 201, 401, 601]
    assert [len(rows) for _, rows in asked] == [4, 3, 2, 2, 1]
    assert not torch.equal(found, x_0)


def test_inversion_noise_of_an_image_is_its_own(schedule: Schedule) -> None:
    def generators(seeds: list[int]) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    def denoise(x_t: Tensor, timestep: int, rows: Tensor) -> Tensor:
        return _network(x_t, timestep)

    x_0, levels, depth = _noise(0, n=2), level_grid(5), torch.tensor([4, 2])
    both = invert_to(denoise, x_0, schedule, levels, depth, 0.1, generators([7, 8]))
    alone = invert_to(denoise, x_0[1:], schedule, levels, depth[1:], 0.1, generators([8]))
    assert torch.allclose(both[1:], alone, atol=1e-6)
    with pytest.raises(ValueError, match="generator"):
        invert_to(denoise, x_0, schedule, levels, depth, 0.1)


def test_the_published_depth_is_the_level_not_below() -> None:
    """Published: the grid is -99, 1, ..., 801; entries below t are stepped up from, 100 each."""
    levels = level_grid(10)
    timesteps = torch.tensor([0, 1, 2, 100, 101, 102, 550, 901, 902, 999])
    found = [levels[index] for index in level_above(levels, timesteps).tolist()]
    assert found == [1, 1, 101, 101, 101, 201, 601, 901, 901, 901]
    entries = [-99 + 100 * k for k in range(10)]
    for t, level in zip(timesteps.tolist()[1:], found[1:], strict=True):
        assert level == max(entry for entry in entries if entry < t) + 100


def test_a_constant_denoiser_inverts_and_samples_back(schedule: Schedule) -> None:
    x_0, noise = _noise(0), _noise(1)
    levels = level_grid(10)
    found = invert(lambda x, t: noise, x_0, schedule, levels)
    x, alpha_bar = found.x_t[-1], schedule.at(levels[-1])
    final = torch.tensor(schedule.final_alpha_bar, dtype=torch.float64)
    for then in [schedule.at(level) for level in levels[-2::-1]] + [final]:
        x, alpha_bar = ddim_step(x, noise, alpha_bar, then), then
    assert torch.allclose(x, x_0, atol=1e-4)


def test_the_stored_prediction_is_the_next_steps_own(schedule: Schedule) -> None:
    levels, labels = level_grid(5), []

    def denoise(x_t: Tensor, timestep: int) -> Tensor:
        labels.append(timestep)
        return _network(x_t, timestep)

    found = invert(denoise, _noise(0), schedule, levels)
    assert labels == [0, *levels]
    for k, level in enumerate(levels):
        assert torch.equal(found.noise_pred[k], _network(found.x_t[k], level))
        if k:
            step = ddim_inverse_step(
                found.x_t[k - 1],
                found.noise_pred[k - 1],
                schedule.at(levels[k - 1]),
                schedule.at(level),
            )
            assert torch.equal(found.x_t[k], step)


@pytest.mark.parametrize("eta", [0.0, 0.1])
def test_a_batch_is_its_images_one_by_one(schedule: Schedule, eta: float) -> None:
    x_0, levels = _noise(0, n=4), level_grid(4)

    def generators(seeds: list[int]) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in seeds]

    whole = invert(_network, x_0, schedule, levels, eta, generators([0, 1, 2, 3]))
    for i in range(4):
        alone = invert(_network, x_0[i : i + 1], schedule, levels, eta, generators([i]))
        assert torch.allclose(whole.x_t[:, i : i + 1], alone.x_t, atol=1e-6)
        assert torch.allclose(whole.noise_pred[:, i : i + 1], alone.noise_pred, atol=1e-6)


def test_inversion_noise_has_the_ddim_variance(schedule: Schedule) -> None:
    x_0, generator = _noise(0, n=64), [torch.Generator().manual_seed(i) for i in range(64)]
    plain = invert(lambda x, t: torch.zeros_like(x), x_0, schedule, (501,))
    noisy = invert(lambda x, t: torch.zeros_like(x), x_0, schedule, (501,), 0.5, generator)
    low = torch.tensor(schedule.final_alpha_bar, dtype=torch.float64)
    sigma = ddim_sigma(schedule.at(501), low)
    assert float((noisy.x_t - plain.x_t).std()) == pytest.approx(0.5 * sigma, rel=0.03)
    with pytest.raises(ValueError, match="generator"):
        invert(_network, x_0, schedule, (1,), eta=0.1)


def test_levels_must_ascend(schedule: Schedule) -> None:
    with pytest.raises(ValueError, match="ascend"):
        invert(_network, _noise(0), schedule, (101, 1))


def test_shared_noise_is_symmetric_and_keeps_power() -> None:
    first = _noise(0) * 0.7 + 0.1
    second = _noise(1) + 0.5 * _noise(0)
    shared = share_noise(first, second)
    assert torch.equal(shared, share_noise(second, first))
    dims = (1, 2, 3)
    power = (first.square().mean(dims) + second.square().mean(dims)) / 2
    assert torch.allclose(shared.square().mean(dims), power, rtol=1e-4)
    assert torch.allclose(share_noise(first, first), first, atol=1e-5)
    for i in range(3):
        alone = share_noise(first[i : i + 1], second[i : i + 1])
        assert torch.allclose(shared[i : i + 1], alone, atol=1e-6)


def test_mixing_goes_from_inverted_to_fresh_and_keeps_variance() -> None:
    tau, fresh = _noise(0, n=200), _noise(1, n=200)
    assert torch.equal(mix_noise(tau, fresh, 0.0), tau)
    assert torch.equal(mix_noise(tau, fresh, 1.0), fresh)
    assert float(mix_noise(tau, fresh, 0.5).var()) == pytest.approx(1.0, rel=0.03)
    per_image = mix_noise(tau[:2], fresh[:2], torch.tensor([0.0, 1.0]))
    assert torch.equal(per_image[0], tau[0])
    assert torch.equal(per_image[1], fresh[1])
    with pytest.raises(ValueError, match="kappa"):
        mix_noise(tau, fresh, 1.5)


def test_inversion_leads_to_noise_the_schedule_agrees_with(schedule: Schedule) -> None:
    """For the exact denoiser of one known image, inversion implies exactly its prediction."""
    x_0, noise = _noise(0), _noise(1)
    found = invert(lambda x, t: noise, x_0, schedule, (1, 501))
    # x_0 counts as alpha_bar_0, not 1: the clean image it comes from is predicted_x_0.
    clean = (x_0 - (1 - schedule.final_alpha_bar) ** 0.5 * noise) / schedule.final_alpha_bar**0.5
    assert torch.allclose(implied_noise(found.x_t[1], clean, schedule.at(501)), noise, atol=1e-4)


def test_at_the_midpoint_both_images_share_one_x_t() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second, tau = (torch.randn(3, 2, 4, 4, generator=generator) for _ in range(3))
    alpha_bar = torch.tensor([0.9, 0.5, 0.02], dtype=torch.float64)
    towards_first, towards_second = midpoint_noise(first, second, tau, alpha_bar)
    x_t = add_noise(first, towards_first, alpha_bar)
    torch.testing.assert_close(add_noise(second, towards_second, alpha_bar), x_t)
    torch.testing.assert_close(0.5 * (towards_first + towards_second), tau)


def test_at_the_midpoint_what_the_reference_gets_wrong_cancels() -> None:
    generator = torch.Generator().manual_seed(1)
    first, second, tau, wrong = (torch.randn(2, 2, 4, 4, generator=generator) for _ in range(4))
    alpha_bar = torch.tensor([0.6, 0.2], dtype=torch.float64)
    towards = midpoint_noise(first, second, tau, alpha_bar)

    def gradient(prediction: torch.Tensor) -> torch.Tensor:
        prediction = prediction.clone().requires_grad_()
        errors = [(prediction - noise).square().flatten(1).mean(1) for noise in towards]
        (errors[0] - errors[1]).sum().backward()
        assert prediction.grad is not None
        return prediction.grad

    torch.testing.assert_close(gradient(tau), gradient(tau + wrong))
