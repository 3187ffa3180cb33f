"""From the draws of a step to per-pair errors and losses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.conditioning import Conditioning
from inpo_studio.inpo.objectives import OBJECTIVES, error, margin
from inpo_studio.inpo.schedule import Schedule, add_noise, implied_noise
from inpo_studio.training.cache import CachedInversion
from inpo_studio.training.dataset import Pairs, TrainingData
from inpo_studio.training.noising import Draws, draw, pair_noise, usable_levels
from inpo_studio.training.policy import Policy

# Validation looks at every pair at this many levels spread over the grid, always with the same
# noise, so that the curve moves with the policy alone.
VALIDATION_LEVELS = 4


@dataclass(frozen=True)
class PairErrors:
    """Mean squared noise errors, each ``(n,)``, and the pairs' ``preference`` ``(n,)``."""

    policy_winner: Tensor
    policy_loser: Tensor
    reference_winner: Tensor
    reference_loser: Tensor
    preference: Tensor

    @staticmethod
    def cat(parts: list[PairErrors]) -> PairErrors:
        return PairErrors(
            *(torch.cat(list(group)) for group in zip(*map(_fields, parts), strict=True))
        )

    def detach(self) -> PairErrors:
        return PairErrors(*(tensor.detach() for tensor in _fields(self)))

    def margin(self) -> Tensor:
        """Per-pair margin m ``(n,)``; negative where the policy leans to the winner."""
        return margin(
            self.policy_winner, self.policy_loser, self.reference_winner, self.reference_loser
        )

    def ranked_right(self) -> float | None:
        """Share of decided pairs with a negative margin, a zero one counting half; None if none."""
        decided = self.margin()[self.preference > 0.5]
        if not len(decided):
            return None
        return float(((decided < 0).float() + 0.5 * (decided == 0).float()).mean())


@dataclass(frozen=True)
class MicroBatch:
    """``n`` pairs with their noise at their timestep, all of a step that fits in memory."""

    x_0: tuple[Tensor, Tensor]
    noise: tuple[Tensor, Tensor]
    reference: tuple[Tensor, Tensor] | None
    timestep: Tensor
    conditioning: Conditioning
    preference: Tensor


class Batches:
    """Everything a round's steps draw from.

    ``prompts`` conditions each prompt of ``data`` and, last, the empty prompt. ``inversions`` and
    ``empty_inversions`` (under the empty prompt) are None where the configuration needs none.
    """

    def __init__(
        self,
        config: RoundConfig,
        data: TrainingData,
        schedule: Schedule,
        grid: tuple[int, ...],
        prompts: Conditioning,
        inversions: CachedInversion | None,
        empty_inversions: CachedInversion | None = None,
    ) -> None:
        self.config = config
        self.data = data
        self.schedule = schedule
        self.grid = grid
        self.prompts = prompts
        self._inversions = tuple(
            inversion for inversion in (inversions, empty_inversions) if inversion is not None
        )
        self._tau = tuple(self._implied(inversion) for inversion in self._inversions)
        self._validation_reference: list[tuple[Tensor, Tensor]] | None = None

    def of_step(self, step: int) -> Iterator[MicroBatch]:
        """The micro-batches of optimiser step ``step`` (from 0)."""
        draws = draw(
            self.config,
            step,
            len(self.data.train),
            self.grid,
            self.data.x_0.shape[1:],
            self.schedule.num_timesteps,
        )
        size = self.config.micro_batch_pairs
        for start in range(0, self.config.batch_pairs, size):
            rows = slice(start, start + size)
            part = Draws(*(getattr(draws, name)[rows] for name in draws.__dataclass_fields__))
            yield self._micro_batch(self.data.train.take(part.pairs), part)

    def errors(self, policy: Policy, micro: MicroBatch) -> PairErrors:
        """One forward of the policy on winners and losers together, and the reference's."""
        x_t, timesteps, conditioning, noise = self._inputs(policy, micro)
        reference = (
            torch.cat(micro.reference).to(x_t.device)
            if micro.reference is not None
            else policy.predict_reference(x_t, timesteps, conditioning)
        )
        predicted = policy.predict(x_t, timesteps, conditioning)
        policy_winner, policy_loser = error(predicted, noise).chunk(2)
        reference_winner, reference_loser = error(reference, noise).chunk(2)
        return PairErrors(
            policy_winner,
            policy_loser,
            reference_winner,
            reference_loser,
            micro.preference.to(x_t.device),
        )

    def losses(self, errors: PairErrors, micro: MicroBatch) -> Tensor:
        """Per-pair loss ``(n,)`` of the configured objective."""
        return OBJECTIVES[self.config.objective](
            errors.policy_winner,
            errors.policy_loser,
            errors.reference_winner,
            errors.reference_loser,
            errors.preference,
            beta=self.config.beta,
        )

    @torch.no_grad()
    def validation(self, policy: Policy) -> PairErrors | None:
        """Errors on the validation pairs, averaged over a few levels; None without such pairs."""
        pairs = self.data.validation
        if not len(pairs):
            return None
        levels = [
            PairErrors.cat([self.errors(policy, micro) for micro in self._validation_level(index)])
            for index in range(VALIDATION_LEVELS)
        ]
        mean = [torch.stack(parts).mean(dim=0) for parts in zip(*map(_fields, levels), strict=True)]
        return PairErrors(*mean)

    def _validation_level(self, index: int) -> Iterator[MicroBatch]:
        pairs = self.data.validation
        usable = usable_levels(self.config, self.grid)
        level = usable[(2 * index + 1) * len(usable) // (2 * VALIDATION_LEVELS)]
        generator = torch.Generator().manual_seed(index)
        fresh = torch.randn((len(pairs), *self.data.x_0.shape[1:]), generator=generator)
        for rows in torch.arange(len(pairs)).split(self.config.micro_batch_pairs):
            draws = Draws(
                pairs=rows,
                level=torch.full_like(rows, level),
                timestep=torch.full_like(rows, self.grid[level]),
                fresh=fresh[rows],
                dropped=torch.zeros(len(rows), dtype=torch.bool),
            )
            yield self._micro_batch(pairs.take(rows), draws)

    def _micro_batch(self, pairs: Pairs, draws: Draws) -> MicroBatch:
        x_0 = (self.data.x_0[pairs.winner], self.data.x_0[pairs.loser])
        empty = torch.full_like(pairs.prompt, len(self.data.prompts))
        prompt = torch.where(draws.dropped, empty, pairs.prompt)
        tau = (draws.fresh, draws.fresh)
        reference = None
        if self._tau:
            side = draws.dropped.long() * (len(self._tau) - 1)
            at = (side, draws.level, pairs)
            tau = _both(self._tau, *at)
            if self._reference_is_cached():
                reference = _both(tuple(i.noise_pred for i in self._inversions), *at)
        return MicroBatch(
            x_0=x_0,
            noise=pair_noise(self.config, x_0, tau, draws.fresh, self.schedule.at(draws.timestep)),
            reference=reference,
            timestep=draws.timestep,
            conditioning=self.prompts.take(prompt),
            preference=pairs.preference,
        )

    def _reference_is_cached(self) -> bool:
        """Whether x_t is the inversion's own, where the reference's prediction is known."""
        return self.config.noise_sharing == "own" and self.config.noise_mixing == 0

    def _inputs(
        self, policy: Policy, micro: MicroBatch
    ) -> tuple[Tensor, Tensor, Conditioning, Tensor]:
        device = policy.pipeline.device
        noise = torch.cat(micro.noise)
        timesteps = torch.cat([micro.timestep, micro.timestep])
        x_t = add_noise(torch.cat(micro.x_0), noise, self.schedule.at(timesteps))
        both = torch.arange(len(micro.timestep)).repeat(2)
        conditioning = micro.conditioning.take(both)
        return x_t.to(device), timesteps.to(device), conditioning.to(device), noise.to(device)

    def _implied(self, inversion: CachedInversion) -> Tensor:
        """Implied noise of every image at every level, ``(levels, images, c, h, w)``."""
        n = len(self.data.x_0)
        alpha_bar = self.schedule.at(torch.tensor(self.grid))
        return torch.stack(
            [
                implied_noise(inversion.x_t[k], self.data.x_0, alpha_bar[k].expand(n))
                for k in range(len(self.grid))
            ]
        )


def _both(
    tables: tuple[Tensor, ...], side: Tensor, level: Tensor, pairs: Pairs
) -> tuple[Tensor, Tensor]:
    """``tables[side][level, image]`` of the winners and of the losers."""
    return _gather(tables, side, level, pairs.winner), _gather(tables, side, level, pairs.loser)


def _gather(tables: tuple[Tensor, ...], side: Tensor, level: Tensor, image: Tensor) -> Tensor:
    at = zip(side.tolist(), level.tolist(), image.tolist(), strict=True)
    return torch.stack([tables[s][k, i] for s, k, i in at])


def _fields(errors: PairErrors) -> list[Tensor]:
    return [getattr(errors, name) for name in errors.__dataclass_fields__]
