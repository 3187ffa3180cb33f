"""What a step draws: pairs, levels, fresh noise, dropped prompts. All from (round seed, step)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.inpo.inversion import level_above, midpoint_noise, mix_noise, share_noise
from inpo_studio.seeds import derive_seed


@dataclass(frozen=True)
class Draws:
    """The random part of one step, for ``n`` pairs.

    ``pairs`` ``(n,)`` indexes the train pairs; ``level`` ``(n,)`` the grid; ``timestep`` ``(n,)``
    is the level's timestep, or any where the configuration says so; ``fresh`` ``(n, c, h, w)`` is
    noise shared by winner and loser; ``dropped`` ``(n,)`` marks the pairs trained with the empty
    prompt; ``seeds`` ``(n,)`` seed what else a visit draws, None outside of training.
    """

    pairs: Tensor
    level: Tensor
    timestep: Tensor
    fresh: Tensor
    dropped: Tensor
    seeds: Tensor | None = None

    def rows(self, rows: slice) -> Draws:
        """The draws of some of the pairs."""
        return Draws(
            pairs=self.pairs[rows],
            level=self.level[rows],
            timestep=self.timestep[rows],
            fresh=self.fresh[rows],
            dropped=self.dropped[rows],
            seeds=None if self.seeds is None else self.seeds[rows],
        )


def draw(
    config: RoundConfig,
    step: int,
    num_pairs: int,
    grid: Sequence[int],
    shape: Sequence[int],
    num_train_timesteps: int,
) -> Draws:
    """Draws of optimiser step ``step`` (from 0); ``shape`` is one image's latent shape."""
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "step", step))
    n = config.batch_pairs
    timesteps = torch.tensor(grid)
    usable = torch.tensor(usable_levels(config, grid))
    level = usable[torch.randint(len(usable), (n,), generator=generator)]
    above = min(config.highest_timestep, num_train_timesteps - 1) + 1
    anywhere = torch.randint(config.lowest_timestep, above, (n,), generator=generator)
    # Forward noise has no grid to stay on: Diffusion-DPO draws any timestep.
    timestep = timesteps[level]
    if config.noise_source == "forward" or config.timesteps == "any":
        timestep, level = anywhere, level_above(grid, anywhere)
    visits = range(step * n, step * n + n)
    return Draws(
        pairs=torch.tensor([_visit(config.seed, visit, num_pairs) for visit in visits]),
        level=level,
        timestep=timestep,
        fresh=torch.randn((n, *shape), generator=generator),
        dropped=torch.rand(n, generator=generator) < config.prompt_dropout,
        seeds=torch.tensor([derive_seed(config.seed, "visit", visit) for visit in visits]),
    )


def usable_levels(config: RoundConfig, grid: Sequence[int]) -> list[int]:
    """Indices of the levels of ``grid`` that lie within the configured timesteps.

    Raises ``ValueError`` where there is none.
    """
    low, high = config.lowest_timestep, config.highest_timestep
    found = [index for index, timestep in enumerate(grid) if low <= timestep <= high]
    if not found:
        raise ValueError(
            f"No level of the inversion grid lies between timesteps {low} and {high}: "
            "use more levels or a wider range."
        )
    return found


def pair_noise(
    config: RoundConfig,
    x_0: tuple[Tensor, Tensor],
    tau: tuple[Tensor, Tensor],
    fresh: Tensor,
    alpha_bar_t: Tensor,
) -> tuple[Tensor, Tensor]:
    """Noise of winners and losers, each ``(n, c, h, w)``.

    ``x_0`` and ``tau`` are the latents and the inverted noise of winners and losers, ``fresh``
    fresh noise, ``alpha_bar_t`` float64 ``(n,)``. With ``noise_sharing="own"`` and
    ``noise_mixing=0`` these are the published latents; forward noise is Diffusion-DPO's.
    """
    if config.noise_source == "forward":
        return fresh, fresh
    if config.noise_sharing == "own":
        return _mixed(config, tau[0], fresh), _mixed(config, tau[1], fresh)
    shared = _mixed(config, share_noise(*tau), fresh)
    if config.noise_sharing == "shared":
        return shared, shared
    return midpoint_noise(*x_0, shared, alpha_bar_t)


def _mixed(config: RoundConfig, tau: Tensor, fresh: Tensor) -> Tensor:
    return mix_noise(tau, fresh, config.noise_mixing) if config.noise_mixing else tau


def _visit(seed: int, visit: int, num_pairs: int) -> int:
    """The pair of the ``visit``-th visit: every epoch is a permutation of its own."""
    epoch, position = divmod(visit, num_pairs)
    generator = torch.Generator().manual_seed(derive_seed(seed, "epoch", epoch))
    return int(torch.randperm(num_pairs, generator=generator)[position])
