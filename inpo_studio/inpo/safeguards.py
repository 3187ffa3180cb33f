"""Safeguards of the winner: a margin can also grow while both errors do.

A preference loss asks only that the winner's error fall against the loser's. With a large step
both may rise, and pictures degrade. Each safeguard is an addition that is off by default; both
break the symmetry by which flipping every label flips the gradient, as they must.
"""

from __future__ import annotations

import torch
from torch import Tensor


def winner_penalty(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    preference: Tensor,
    *,
    beta: float | Tensor,
) -> Tensor:
    """beta/2 (p max(0, l_policy^w - l_ref^w) + (1 - p) max(0, l_policy^l - l_ref^l)), (pairs,).

    What DPO-Positive (Pal et al. 2024) subtracts from the logit, here added to the loss, so that
    it goes with every objective. Zero while the winner's error is not above the reference's.
    """
    excess_winner = (policy_winner - reference_winner).clamp_min(0)
    excess_loser = (policy_loser - reference_loser).clamp_min(0)
    return 0.5 * beta * (preference * excess_winner + (1 - preference) * excess_loser)


def loser_scale(winner_residual: Tensor, loser_residual: Tensor, mu: float) -> Tensor:
    """lambda = clip((1 - mu) |g_w|^2 / <g_w, g_l>, 0, 1), and 1 where <g_w, g_l> <= 0, (n,).

    g are the errors' gradients with respect to the prediction, up to one factor: its residuals
    epsilon - tau, (n, c, h, w). With the loser's gradient scaled by lambda, a small step along
    g_w - lambda g_l lowers the winner's error at no less than mu of the rate of g_w alone
    (Diffusion-SDPO, 2511.03317, to first order in the prediction). Raises ValueError unless
    0 <= mu <= 1.
    """
    if not 0 <= mu <= 1:
        raise ValueError("mu, the share of the winner's descent to keep, must lie in 0 .. 1.")
    winner, loser = winner_residual.float().flatten(1), loser_residual.float().flatten(1)
    along = (winner * loser).sum(1)
    ratio = (1 - mu) * winner.square().sum(1) / along.clamp_min(1e-12)
    return torch.where(along > 0, ratio.clamp(0, 1), torch.ones_like(ratio)).detach()


def scale_gradient(value: Tensor, scale: Tensor) -> Tensor:
    """`value` itself, with its gradient times `scale`; both (n,)."""
    return value.detach() + scale * (value - value.detach())
