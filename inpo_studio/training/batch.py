"""From the draws of a step to per-pair errors and losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.conditioning import Conditioning
from inpo_studio.inpo.frequencies import balanced, frequency_weights
from inpo_studio.inpo.objectives import OBJECTIVES
from inpo_studio.inpo.safeguards import winner_penalty
from inpo_studio.inpo.schedule import Schedule, add_noise, implied_noise, sigma_weights
from inpo_studio.seeds import derive_seed
from inpo_studio.training.cache import CachedInversion
from inpo_studio.training.dataset import Pairs, TrainingData
from inpo_studio.training.errors import MicroBatch, PairErrors, pair_errors
from inpo_studio.training.inverting import InvertNow
from inpo_studio.training.noising import Draws, draw, pair_noise, usable_levels
from inpo_studio.training.policy import Policy
from inpo_studio.training.reference import RepeatedReference
from inpo_studio.training.together import ALONE, Together

# Validation looks at every pair at this many levels spread over the grid, always with the same
# noise, so that the curve moves with the policy alone.
VALIDATION_LEVELS = 4

Both = tuple[Tensor, Tensor]
"""Something of the winners and of the losers."""


class Batches:
    """Everything a round's steps draw from.

    ``prompts`` conditions each prompt of ``data`` and, last, the empty prompt. ``refer`` gives the
    reference's predictions for a micro-batch. ``inversions`` and ``empty_inversions`` (under the
    empty prompt) are None where the configuration needs none, ``invert_now`` unless the policy
    inverts.
    """

    def __init__(
        self,
        config: RoundConfig,
        data: TrainingData,
        schedule: Schedule,
        grid: tuple[int, ...],
        prompts: Conditioning,
        refer: Callable[[MicroBatch], Tensor],
        inversions: CachedInversion | None = None,
        empty_inversions: CachedInversion | None = None,
        invert_now: InvertNow | None = None,
        together: Together = ALONE,
    ) -> None:
        self.config = config
        self.together = together
        self.pairs_at_once = config.micro_batch_pairs
        """Pairs in a micro-batch: the configured ones, and fewer where memory is small."""
        self.data = data
        self.schedule = schedule
        self.grid = grid
        self.prompts = prompts
        self._refer = refer
        self._inversions = tuple(
            inversion for inversion in (inversions, empty_inversions) if inversion is not None
        )
        self._invert_now = invert_now
        self._repeated = None
        if config.reference_repeats and config.noise_sharing != "own":
            self._repeated = RepeatedReference(len(data.train), self._predict_repeated)
        self._looks: list[list[MicroBatch]] | None = None
        self._weights = self._level_weights()
        self._frequencies = self._frequency_weights()

    def of_step(self, step: int) -> Iterator[MicroBatch]:
        """The micro-batches of optimiser step ``step`` (from 0): this process's share of them.

        Every process draws the whole step and takes its own rows.
        """
        shape, total = self.data.x_0.shape[1:], self.schedule.num_timesteps
        draws = draw(self.config, step, len(self.data.train), self.grid, shape, total)
        mine = self.together.share(self.config.batch_pairs)
        for start in range(mine.start, mine.stop, self.pairs_at_once):
            part = draws.rows(slice(start, min(mine.stop, start + self.pairs_at_once)))
            micro = self._micro_batch(self.data.train.take(part.pairs), part)
            if self._repeated is not None:
                known = self._repeated.at(part.pairs, part.level, part.dropped)
                micro = replace(micro, reference=known)
            yield micro

    def errors(self, policy: Policy, micro: MicroBatch) -> PairErrors:
        """One forward of the policy on ``micro``, and one of the reference where it is unknown."""
        return pair_errors(self.config, policy, micro)

    def losses(self, errors: PairErrors, micro: MicroBatch) -> Tensor:
        """Per-pair loss ``(n,)`` of the configured objective and safeguard."""
        beta: float | Tensor = self.config.beta
        if self.config.sigma_power:
            weights = self._weights[micro.timestep.cpu()]
            beta = self.config.beta * weights.to(errors.preference)
        return self._losses(errors, beta)

    @torch.no_grad()
    def validation(self, policy: Policy) -> PairErrors | None:
        """Errors on the validation pairs, averaged over a few levels; None without such pairs."""
        if not len(self.data.validation):
            return None
        looks = self._looks
        if looks is None:
            looks = [list(self._validation_level(index)) for index in range(VALIDATION_LEVELS)]
            # Where the policy inverts, its x_t are of the moment.
            self._looks = looks if self._invert_now is None else None
        return PairErrors.mean(
            [PairErrors.cat([self.errors(policy, micro) for micro in look]) for look in looks]
        )

    def use(self, pairs_at_once: int) -> None:
        """From here on split into smaller micro-batches, those of validation as well."""
        self.pairs_at_once = pairs_at_once
        self._looks = None

    def validation_loss(self, errors: PairErrors) -> float:
        """The objective's mean over the pairs of :meth:`validation`."""
        return float(self._losses(errors, self.config.beta).mean())

    def _losses(self, errors: PairErrors, beta: float | Tensor) -> Tensor:
        four = (
            errors.policy_winner,
            errors.policy_loser,
            errors.reference_winner,
            errors.reference_loser,
        )
        losses = OBJECTIVES[self.config.objective](
            *four, errors.preference, beta=beta, label_noise=self.config.label_noise
        )
        if self.config.winner_safeguard == "dpop":
            penalty = winner_penalty(*four, errors.preference, beta=beta)
            losses = losses + self.config.safeguard_strength * penalty
        return losses

    def _validation_level(self, index: int) -> Iterator[MicroBatch]:
        pairs = self.data.validation
        usable = usable_levels(self.config, self.grid)
        level = usable[(2 * index + 1) * len(usable) // (2 * VALIDATION_LEVELS)]
        generator = torch.Generator().manual_seed(index)
        fresh = torch.randn((len(pairs), *self.data.x_0.shape[1:]), generator=generator)
        for rows in torch.arange(len(pairs)).split(self.pairs_at_once):
            micro = self._micro_batch(pairs.take(rows), self._at_level(rows, level, fresh[rows]))
            known = micro.reference if micro.reference is not None else self._refer(micro)
            yield replace(micro, reference=known.cpu())

    def _predict_repeated(self, pairs: Tensor, level: int, dropped: bool) -> tuple[Tensor, ...]:
        unused = torch.zeros((len(pairs), *self.data.x_0.shape[1:]))
        draws = self._at_level(pairs, level, unused)
        draws = replace(draws, dropped=torch.full_like(draws.dropped, dropped))
        micro = self._micro_batch(self.data.train.take(pairs), draws)
        return self._refer(micro).chunk(micro.looks)

    def _at_level(self, pairs: Tensor, level: int, fresh: Tensor) -> Draws:
        """Visits of ``pairs`` at one level, with their prompts."""
        return Draws(
            pairs=pairs,
            level=torch.full_like(pairs, level),
            timestep=torch.full_like(pairs, self.grid[level]),
            fresh=fresh,
            dropped=torch.zeros(len(pairs), dtype=torch.bool),
        )

    def _micro_batch(self, pairs: Pairs, draws: Draws) -> MicroBatch:
        x_0 = (self.data.x_0[pairs.winner], self.data.x_0[pairs.loser])
        empty = torch.full_like(pairs.prompt, len(self.data.prompts))
        conditioning = self.prompts.take(torch.where(draws.dropped, empty, pairs.prompt))
        alpha_bar = self.schedule.at(draws.timestep)
        reference, tau = None, (draws.fresh, draws.fresh)
        if self._inversions:
            tau = self._implied(self._both("x_t", pairs, draws), x_0, alpha_bar)
            if self.config.reference_repeats and self.config.noise_sharing == "own":
                reference = torch.cat(self._both("noise_pred", pairs, draws))
        elif self._invert_now is not None:
            tau = self._implied(self._inverted_now(pairs, draws, x_0, conditioning), x_0, alpha_bar)
        noise = pair_noise(self.config, x_0, tau, draws.fresh, alpha_bar)
        return MicroBatch(
            x_t=self._x_t(x_0, noise, alpha_bar),
            noise=noise,
            reference=reference,
            timestep=draws.timestep,
            conditioning=conditioning,
            preference=pairs.preference,
            seeds=draws.seeds,
            weights=self._frequencies,
        )

    def _x_t(self, x_0: Both, noise: Both, alpha_bar: Tensor) -> Tensor:
        if self.config.shares_x_t:
            # The mean of x_t by either side, which are equal but for rounding.
            return add_noise(0.5 * (x_0[0] + x_0[1]), 0.5 * (noise[0] + noise[1]), alpha_bar)
        return add_noise(torch.cat(x_0), torch.cat(noise), alpha_bar.repeat(2))

    def _implied(self, x_t: Both, x_0: Both, alpha_bar: Tensor) -> Both:
        return (
            implied_noise(x_t[0], x_0[0], alpha_bar),
            implied_noise(x_t[1], x_0[1], alpha_bar),
        )

    def _both(self, name: str, pairs: Pairs, draws: Draws) -> Both:
        """What the inversions hold of the winners and of the losers, ``(n, c, h, w)`` each."""
        tables = self._inversions
        side = (draws.dropped.long() * (len(tables) - 1)).tolist()

        def gather(images: Tensor) -> Tensor:
            at = zip(side, draws.level.tolist(), images.tolist(), strict=True)
            return torch.stack([tables[s].at(name, level, image) for s, level, image in at])

        return gather(pairs.winner), gather(pairs.loser)

    def _inverted_now(
        self, pairs: Pairs, draws: Draws, x_0: Both, conditioning: Conditioning
    ) -> Both:
        assert self._invert_now is not None
        visits = draws.seeds if draws.seeds is not None else draws.level
        images = torch.cat([pairs.winner, pairs.loser]).tolist()
        seeds = [
            derive_seed("inversion", visit, image)
            for visit, image in zip(visits.tolist() * 2, images, strict=True)
        ]
        rows = torch.arange(len(draws.pairs)).repeat(2)
        found = self._invert_now(
            torch.cat(x_0), conditioning.take(rows), draws.level.repeat(2), seeds
        )
        winner, loser = found.chunk(2)
        return winner, loser

    def _frequency_weights(self) -> Tensor | None:
        """Weights of the errors' frequencies, balanced over the train pairs; None is all alike."""
        if not self.config.frequency_cutoff:
            return None
        x_0, train = self.data.x_0, self.data.train
        weights = frequency_weights(x_0.shape[-2], x_0.shape[-1], self.config.frequency_cutoff)
        return balanced(weights, x_0[train.winner] - x_0[train.loser])

    def _level_weights(self) -> Tensor:
        """Weight of every timestep, ``(T,)``, one in the mean over those trained at."""
        config = self.config
        if not config.sigma_power:
            return torch.ones(self.schedule.num_timesteps, dtype=torch.float64)
        if config.noise_source == "inverted" and config.timesteps == "grid":
            trained = torch.tensor([self.grid[k] for k in usable_levels(config, self.grid)])
        else:
            above = min(config.highest_timestep, self.schedule.num_timesteps - 1) + 1
            trained = torch.arange(config.lowest_timestep, above)
        return sigma_weights(self.schedule, trained, config.sigma_power)
