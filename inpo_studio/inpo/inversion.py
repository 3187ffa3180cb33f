"""DDIM inversion of images by the reference, and what is done with the noise it finds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inpo_studio.inpo.schedule import Schedule, add_noise, ddim_step, implied_noise

Denoise = Callable[[Tensor, int], Tensor]
"""denoise(x_t (n, c, h, w), timestep) -> predicted noise epsilon (n, c, h, w)."""

DenoiseRows = Callable[[Tensor, int, Tensor], Tensor]
"""denoise(x_t (m, c, h, w), timestep, rows (m,)) -> epsilon (m, c, h, w); `rows` says which of
the images are meant."""


@dataclass(frozen=True)
class Inversion:
    """Trajectories of n images over the levels of a grid."""

    x_t: Tensor
    """(levels, n, c, h, w): the image, inverted up to each level."""
    noise_pred: Tensor
    """(levels, n, c, h, w): what `denoise` predicts there, epsilon(x_t, t)."""


def level_grid(
    num_levels: int, num_train_timesteps: int = 1000, steps_offset: int = 1
) -> tuple[int, ...]:
    """The timesteps of the inversion grid, ascending: 10 levels of 1000 are 1, 101, ..., 901.

    Raises ValueError when so many levels do not fit below num_train_timesteps.
    """
    if num_levels < 1:
        raise ValueError("An inversion grid needs at least one level.")
    spacing = num_train_timesteps // num_levels
    levels = tuple(range(steps_offset, steps_offset + num_levels * spacing, max(spacing, 1)))
    if spacing == 0 or levels[-1] >= num_train_timesteps:
        raise ValueError(
            f"{num_levels} levels do not fit into {num_train_timesteps} timesteps; use fewer."
        )
    return levels


def ddim_inverse_step(
    x: Tensor, noise: Tensor, alpha_bar_from: Tensor, alpha_bar_to: Tensor
) -> Tensor:
    """One DDIM step upwards, from alpha_bar_from to the smaller alpha_bar_to.

    In form it is `ddim_step`; only the noise, evaluated before the step, makes it inexact.
    x, noise (n, c, h, w); alpha_bar float64, () or (n,).
    """
    return ddim_step(x, noise, alpha_bar_from, alpha_bar_to)


@torch.no_grad()
def invert(
    denoise: Denoise,
    x_0: Tensor,
    schedule: Schedule,
    levels: Sequence[int],
    eta: float = 0.0,
    generators: Sequence[torch.Generator] | None = None,
) -> Inversion:
    """Invert x_0 (n, c, h, w) up the ascending grid `levels`, all images in one batch.

    The noise for a step is evaluated at the label of the level it starts from (x_0 counts as
    timestep 0), so the prediction stored with a level is also the next step's own: levels + 1
    forwards in all. With eta > 0, eta * sigma * xi is added after each step, sigma^2 being the
    variance of the DDIM step between the two levels at eta = 1; xi comes from one CPU generator
    per image, so a trajectory does not depend on its batch.
    """
    _check(x_0, levels, eta, generators)
    x, noise = x_0, denoise(x_0, 0)
    alpha_bar = torch.tensor(schedule.final_alpha_bar, dtype=torch.float64)
    states, predictions = [], []
    for level in levels:
        alpha_bar_next = schedule.at(level)
        x = ddim_inverse_step(x, noise, alpha_bar, alpha_bar_next)
        if eta > 0 and generators is not None:
            x = x + eta * ddim_sigma(alpha_bar_next, alpha_bar) * _draw(x, generators)
        noise = denoise(x, level).to(x.dtype)
        states.append(x)
        predictions.append(noise)
        alpha_bar = alpha_bar_next
    return Inversion(torch.stack(states), torch.stack(predictions))


@torch.no_grad()
def invert_to(
    denoise: DenoiseRows,
    x_0: Tensor,
    schedule: Schedule,
    levels: Sequence[int],
    depth: Tensor,
    eta: float = 0.0,
    generators: Sequence[torch.Generator] | None = None,
) -> Tensor:
    """Invert each image of x_0 (n, c, h, w) up to its own level, levels[depth]: (n, c, h, w).

    `depth` (n,) indexes `levels`. The steps are those of `invert`; an image takes depth + 1 of
    them and leaves the batch. This is what inverting by a moving policy costs at every visit.
    """
    _check(x_0, levels, eta, generators)
    x = x_0.clone()
    alpha_bar, label = torch.tensor(schedule.final_alpha_bar, dtype=torch.float64), 0
    for index, level in enumerate(levels):
        rows = torch.nonzero(depth.cpu() >= index).flatten()
        if not len(rows):
            break
        here, alpha_bar_next = rows.to(x.device), schedule.at(level)
        noise = denoise(x[here], label, rows).to(x.dtype)
        moved = ddim_inverse_step(x[here], noise, alpha_bar, alpha_bar_next)
        if eta > 0 and generators is not None:
            drawn = _draw(moved, [generators[row] for row in rows.tolist()])
            moved = moved + eta * ddim_sigma(alpha_bar_next, alpha_bar) * drawn
        x[here] = moved
        alpha_bar, label = alpha_bar_next, level
    return x


def level_above(levels: Sequence[int], timesteps: Tensor) -> Tensor:
    """Index of the level at which the published code leaves x_t for a timestep, (n,).

    It steps up from every entry of its grid below t, and so ends at the first level not below t,
    or at the last level: up to one spacing away from t.
    """
    index = torch.searchsorted(torch.tensor(levels), timesteps.cpu().contiguous())
    return index.clamp_max(len(levels) - 1)


def ddim_sigma(alpha_bar_high: Tensor, alpha_bar_low: Tensor) -> float:
    """sigma between a noisier level (alpha_bar_high's timestep is the higher) and a cleaner one:
    sqrt((1 - low) / (1 - high) * (1 - high / low)), DDIM eq. 16 at eta = 1."""
    high, low = float(alpha_bar_high), float(alpha_bar_low)
    return math.sqrt(max((1 - low) / (1 - high) * (1 - high / low), 0.0))


def share_noise(tau_first: Tensor, tau_second: Tensor) -> Tensor:
    """The one noise a pair shares: (a + b) / sqrt(2 + 2 rho), (pairs, c, h, w) each.

    rho is the pair's own correlation, 2<a, b> / (<a, a> + <b, b>), so the shared noise has the
    mean power of the two. Symmetric in its arguments: which image won cannot leak into it.
    """
    dims = tuple(range(1, tau_first.ndim))
    power = (tau_first.square() + tau_second.square()).sum(dims, keepdim=True)
    rho = 2 * (tau_first * tau_second).sum(dims, keepdim=True) / power.clamp_min(1e-12)
    return (tau_first + tau_second) / (2 + 2 * rho).clamp_min(1e-6).sqrt()


def midpoint_noise(
    x_0_first: Tensor, x_0_second: Tensor, tau: Tensor, alpha_bar_t: Tensor
) -> tuple[Tensor, Tensor]:
    """Both images' noise where they share one x_t: their midpoint, noised with tau.

    x_t = sqrt(alpha_bar_t) (x_0^a + x_0^b) / 2 + sqrt(1 - alpha_bar_t) tau is one latent with an
    implied noise towards either image, and `add_noise` of either image with its noise is x_t
    again. The difference of the two errors is then linear in the prediction: whatever the
    reference gets wrong at x_t cancels in the pair. Latents (pairs, c, h, w), alpha_bar_t float64
    (pairs,). Symmetric: exchanging the images exchanges the results.
    """
    x_t = add_noise(0.5 * (x_0_first + x_0_second), tau, alpha_bar_t)
    return (
        implied_noise(x_t, x_0_first, alpha_bar_t),
        implied_noise(x_t, x_0_second, alpha_bar_t),
    )


def mix_noise(tau: Tensor, fresh: Tensor, kappa: float | Tensor) -> Tensor:
    """sqrt(1 - kappa^2) tau + kappa fresh: inverted noise with a share kappa of fresh noise.

    kappa is one number or (n,), in 0 .. 1; 0 is inversion alone and 1 forward noise. Variance is
    kept as far as tau has unit variance. Raises ValueError outside 0 .. 1.
    """
    share = torch.as_tensor(kappa, dtype=torch.float64).cpu()
    if bool((share < 0).any()) or bool((share > 1).any()):
        raise ValueError("The share of fresh noise, kappa, must lie in 0 .. 1.")
    share = share.reshape(-1, *[1] * (tau.ndim - 1))
    keep = (1 - share.square()).sqrt().to(device=tau.device, dtype=tau.dtype)
    return keep * tau + share.to(device=tau.device, dtype=tau.dtype) * fresh


def _check(
    x_0: Tensor,
    levels: Sequence[int],
    eta: float,
    generators: Sequence[torch.Generator] | None,
) -> None:
    if list(levels) != sorted(set(levels)) or not levels:
        raise ValueError("Inversion levels must ascend.")
    if eta > 0 and (generators is None or len(generators) != x_0.shape[0]):
        raise ValueError("Inversion with eta > 0 needs one generator per image.")


def _draw(like: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise shaped like `like`, one image per generator."""
    rows = [torch.randn(like.shape[1:], generator=generator) for generator in generators]
    return torch.stack(rows).to(device=like.device, dtype=like.dtype)
