"""Preference objectives: per pair and unreduced, all with one signature.

Inputs are errors (pairs,) of the policy and the reference on winner and loser; `preference`
(pairs,) is the probability that the winner is the better one: 1 for a clear choice, 0.5 a tie.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor
from torch.nn.functional import logsigmoid


class Objective(Protocol):
    """errors and soft preference, each (pairs,) -> loss (pairs,)."""

    def __call__(
        self,
        policy_winner: Tensor,
        policy_loser: Tensor,
        reference_winner: Tensor,
        reference_loser: Tensor,
        preference: Tensor,
        *,
        beta: float,
    ) -> Tensor: ...


def error(noise_pred: Tensor, noise: Tensor) -> Tensor:
    """l = mean over (c, h, w) of ||noise - noise_pred||^2, in float32: (n, c, h, w) -> (n,)."""
    if noise_pred.shape != noise.shape:
        raise ValueError(f"Shapes differ: {tuple(noise_pred.shape)} and {tuple(noise.shape)}.")
    return (noise_pred.float() - noise.float()).square().flatten(1).mean(1)


def margin(
    policy_winner: Tensor, policy_loser: Tensor, reference_winner: Tensor, reference_loser: Tensor
) -> Tensor:
    """m = (l_policy^w - l_ref^w) - (l_policy^l - l_ref^l), (pairs,).

    Negative: the policy ranks the pair right.
    """
    return (policy_winner - reference_winner) - (policy_loser - reference_loser)


def inpo(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    preference: Tensor,
    *,
    beta: float,
) -> Tensor:
    """DDIM-InPO: -p log sigma(-beta/2 m) - (1 - p) log sigma(beta/2 m), (pairs,).

    The errors are those against the noise that inversion found (implied_noise).
    """
    m = margin(policy_winner, policy_loser, reference_winner, reference_loser)
    return _logistic(m, preference, beta)


def diffusion_dpo(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    preference: Tensor,
    *,
    beta: float,
) -> Tensor:
    """Diffusion-DPO (Wallace et al. 2023): the same form; its errors are against forward noise."""
    m = margin(policy_winner, policy_loser, reference_winner, reference_loser)
    return _logistic(m, preference, beta)


def ipo(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    preference: Tensor,
    *,
    beta: float,
) -> Tensor:
    """IPO (Azar et al. 2023) with h = -m/2: p (beta h - 1/2)^2 + (1 - p) (beta h + 1/2)^2.

    That is (h - 1/(2 beta))^2 times beta^2: the same minimum, but a loss of order one, so that
    learning rates carry over from the logistic objectives.
    """
    m = margin(policy_winner, policy_loser, reference_winner, reference_loser)
    scaled = -0.5 * beta * m
    return preference * (scaled - 0.5).square() + (1 - preference) * (scaled + 0.5).square()


def _logistic(m: Tensor, preference: Tensor, beta: float) -> Tensor:
    """-p log sigma(-beta/2 m) - (1 - p) log sigma(beta/2 m)."""
    scaled = -0.5 * beta * m
    return -preference * logsigmoid(scaled) - (1 - preference) * logsigmoid(-scaled)


OBJECTIVES: dict[str, Objective] = {"inpo": inpo, "diffusion_dpo": diffusion_dpo, "ipo": ipo}
"""The objectives by the name a round's configuration gives."""
