"""The four noise errors of a batch of pairs, and what is read from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.conditioning import Conditioning
from inpo_studio.inpo.frequencies import weigh
from inpo_studio.inpo.objectives import error, margin
from inpo_studio.inpo.safeguards import loser_scale, scale_gradient
from inpo_studio.training.policy import Policy


@dataclass(frozen=True)
class PairErrors:
    """Mean squared noise errors, each ``(n,)``, and the pairs' ``preference`` ``(n,)``.

    ``displacement`` ``(n,)`` is the mean square of what the policy's predictions are away from
    the reference's.
    """

    policy_winner: Tensor
    policy_loser: Tensor
    reference_winner: Tensor
    reference_loser: Tensor
    preference: Tensor
    displacement: Tensor

    @staticmethod
    def cat(parts: Sequence[PairErrors]) -> PairErrors:
        """All pairs of ``parts``, one after another."""
        return PairErrors(
            *(torch.cat(list(group)) for group in zip(*(p.fields() for p in parts), strict=True))
        )

    @staticmethod
    def mean(parts: Sequence[PairErrors]) -> PairErrors:
        """The mean over several looks at the same pairs."""
        stacked = zip(*(part.fields() for part in parts), strict=True)
        return PairErrors(*(torch.stack(list(group)).mean(dim=0) for group in stacked))

    def detach(self) -> PairErrors:
        """The same without gradients."""
        return PairErrors(*(tensor.detach() for tensor in self.fields()))

    def fields(self) -> list[Tensor]:
        """The tensors in the order they are named in."""
        return [getattr(self, name) for name in self.__dataclass_fields__]

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
    """``n`` pairs with their noise at their timestep, all of a step that fits in memory.

    ``x_t`` is ``(n, c, h, w)`` where winner and loser share it, else ``(2n, c, h, w)`` with the
    winners first; ``reference`` the reference's prediction there, where it is known; ``weights``
    those of the errors' frequencies, None where all count alike.
    """

    x_t: Tensor
    noise: tuple[Tensor, Tensor]
    reference: Tensor | None
    timestep: Tensor
    conditioning: Conditioning
    preference: Tensor
    seeds: Tensor | None = None
    weights: Tensor | None = None

    @property
    def looks(self) -> int:
        """Forwards a pair takes of each network: 1 or 2."""
        return len(self.x_t) // len(self.timestep)


def predict_reference(policy: Policy, micro: MicroBatch) -> Tensor:
    """The reference's prediction at every ``micro.x_t``."""
    return policy.predict_reference(*_inputs(policy, micro))


def pair_errors(config: RoundConfig, policy: Policy, micro: MicroBatch) -> PairErrors:
    """One forward of the policy for all of ``micro``, and one of the reference if need be."""
    inputs = _inputs(policy, micro)
    device = inputs[0].device
    reference = micro.reference
    if reference is None:
        reference = policy.predict_reference(*inputs)
    noise = tuple(side.to(device) for side in micro.noise)
    predicted = _sides(policy.predict(*inputs, micro.seeds), micro.looks)
    weights = micro.weights
    policy_errors = [error(side, tau, weights) for side, tau in zip(predicted, noise, strict=True)]
    expected = _sides(reference.to(device), micro.looks)
    reference_errors = [
        error(side, tau, weights) for side, tau in zip(expected, noise, strict=True)
    ]
    preference = micro.preference.to(device)
    if config.winner_safeguard == "sdpo":
        residuals = [side.detach() - tau for side, tau in zip(predicted, noise, strict=True)]
        if weights is not None:
            residuals = [weigh(residual, weights) for residual in residuals]
        policy_errors = _guarded(config, policy_errors, residuals, preference)
    moved = [error(*sides) for sides in zip(predicted, expected, strict=True)]
    four = [*policy_errors, *reference_errors]
    return PairErrors(
        *(four[0], four[1], four[2], four[3]), preference, 0.5 * (moved[0] + moved[1]).detach()
    )


def _inputs(policy: Policy, micro: MicroBatch) -> tuple[Tensor, Tensor, Conditioning]:
    device = policy.pipeline.device
    rows = torch.arange(len(micro.timestep)).repeat(micro.looks)
    conditioning = micro.conditioning.take(rows).to(device)
    return micro.x_t.to(device), micro.timestep[rows].to(device), conditioning


def _sides(prediction: Tensor, looks: int) -> tuple[Tensor, Tensor]:
    """The prediction for winners and for losers; the same one where they share x_t."""
    if looks == 1:
        return prediction, prediction
    winner, loser = prediction.chunk(2)
    return winner, loser


def _guarded(
    config: RoundConfig, errors: list[Tensor], residuals: list[Tensor], preference: Tensor
) -> list[Tensor]:
    """Errors with the gradient of the less preferred picture scaled; ties are left alone."""
    winner, loser = residuals
    mu, one = config.safeguard_strength, torch.ones_like(preference)
    scales = (
        torch.where(preference < 0.5, loser_scale(loser, winner, mu), one),
        torch.where(preference > 0.5, loser_scale(winner, loser, mu), one),
    )
    return [scale_gradient(value, scale) for value, scale in zip(errors, scales, strict=True)]
