"""Preference objectives: per pair and unreduced, all with one signature.

Inputs are errors (pairs,) of the policy and the reference on winner and loser; `preference`
(pairs,) is the probability that the winner is the better one: 1 for a clear choice, 0.5 a tie.
`beta` is one number or (pairs,); `label_noise` the share of choices believed to be wrong clicks.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from inpo_studio.inpo.frequencies import weigh
from inpo_studio.inpo.preferences import debias_preference, smooth_preference

MAPO_SHARPNESS = 0.5
"""s in MaPO's f(x) = s x / (e^(s x) - 1), as published."""
MAPO_ANCHOR = 10.0
"""Weight of the winner's plain error against MaPO's logistic term: 1 / 0.1, as published."""


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
        beta: float | Tensor,
        label_noise: float = 0.0,
    ) -> Tensor: ...


def error(noise_pred: Tensor, noise: Tensor, weights: Tensor | None = None) -> Tensor:
    """l = mean over (c, h, w) of ||noise - noise_pred||^2: (n, c, h, w) -> (n,).

    With the `weights` of frequencies, (h, w // 2 + 1), the mean of r (W r), r = noise - noise_pred:
    the squares of r's frequencies times their weights. In float64 where the device has it: the
    margin is a difference of nearly equal errors times beta, and float32 would leave it four
    digits.
    """
    if noise_pred.shape != noise.shape:
        raise ValueError(f"Shapes differ: {tuple(noise_pred.shape)} and {tuple(noise.shape)}.")
    dtype = error_dtype(noise_pred.device)
    residual = noise_pred.to(dtype) - noise.to(dtype)
    weighed = residual if weights is None else weigh(residual, weights)
    return (residual * weighed).flatten(1).mean(1)


def error_dtype(device: torch.device) -> torch.dtype:
    """What errors, margins and losses are computed in on a device: float64 where it has that."""
    return torch.float32 if device.type == "mps" else torch.float64


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
    beta: float | Tensor,
    label_noise: float = 0.0,
) -> Tensor:
    """DDIM-InPO: -p log sigma(-beta/2 m) - (1 - p) log sigma(beta/2 m), (pairs,).

    The errors are those against the noise that inversion found (implied_noise). label_noise
    smooths p (conservative DPO).
    """
    m = margin(policy_winner, policy_loser, reference_winner, reference_loser)
    return _logistic(m, smooth_preference(preference, label_noise), beta)


def diffusion_dpo(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    preference: Tensor,
    *,
    beta: float | Tensor,
    label_noise: float = 0.0,
) -> Tensor:
    """Diffusion-DPO (Wallace et al. 2023): the same form; its errors are against forward noise."""
    m = margin(policy_winner, policy_loser, reference_winner, reference_loser)
    return _logistic(m, smooth_preference(preference, label_noise), beta)


def robust(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    preference: Tensor,
    *,
    beta: float | Tensor,
    label_noise: float = 0.0,
) -> Tensor:
    """Robust DPO (Chowdhury et al. 2024): `inpo` with p debiased by label_noise, (pairs,).

    For a clear choice that is (-(1 - e) log sigma(-beta/2 m) + e log sigma(beta/2 m)) / (1 - 2 e):
    in the mean over wrong clicks the loss of the right ones, and without a lower bound.
    """
    m = margin(policy_winner, policy_loser, reference_winner, reference_loser)
    return _logistic(m, debias_preference(preference, label_noise), beta)


def ipo(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    preference: Tensor,
    *,
    beta: float | Tensor,
    label_noise: float = 0.0,
) -> Tensor:
    """IPO (Azar et al. 2023) with h = -m/2: p (beta h - 1/2)^2 + (1 - p) (beta h + 1/2)^2.

    That is (h - 1/(2 beta))^2 times beta^2: the same minimum, but a loss of order one, so that
    learning rates carry over from the logistic objectives.
    """
    m = margin(policy_winner, policy_loser, reference_winner, reference_loser)
    scaled, p = -0.5 * beta * m, smooth_preference(preference, label_noise)
    return p * (scaled - 0.5).square() + (1 - p) * (scaled + 0.5).square()


def kto(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    preference: Tensor,
    *,
    beta: float | Tensor,
    label_noise: float = 0.0,
) -> Tensor:
    """KTO (Ethayarajh et al. 2024; Li et al. 2024 for diffusion) on the two images of a pair.

    With v = beta/2 (l_ref - l_policy) an image is wanted with probability q (p for the winner,
    1 - p for the loser) at a loss of 1 - q sigma(v - z) - (1 - q) sigma(z - v); the pair's is the
    mean of its two. z = max(0, mean of the pair's v), without gradient, stands for the batch's
    mean in the publication, so that a pair's loss does not depend on its company.
    """
    p = smooth_preference(preference, label_noise)
    winner = 0.5 * beta * (reference_winner - policy_winner)
    loser = 0.5 * beta * (reference_loser - policy_loser)
    zero = (0.5 * (winner + loser)).detach().clamp_min(0)
    return 0.5 * (_unwanted(winner - zero, p) + _unwanted(loser - zero, 1 - p))


def mapo(
    policy_winner: Tensor,
    policy_loser: Tensor,
    reference_winner: Tensor,
    reference_loser: Tensor,
    preference: Tensor,
    *,
    beta: float | Tensor,
    label_noise: float = 0.0,
) -> Tensor:
    """MaPO (Hong et al. 2024): no reference, a margin of the errors themselves and an anchor.

    10 l^w - log sigma((beta / s) (f(l^w) - f(l^l))), f(x) = s x / (e^(s x) - 1), s = 0.5, and
    weighted p, 1 - p with the images exchanged: ten times the published loss, which has a factor
    of 1000 for beta / s. f falls by s/2 where x is small, so there beta means what it means
    in the others.
    """
    p = smooth_preference(preference, label_noise)
    logit = beta / MAPO_SHARPNESS * (_mapo_odds(policy_winner) - _mapo_odds(policy_loser))
    anchor = p * policy_winner + (1 - p) * policy_loser
    return MAPO_ANCHOR * anchor - p * logsigmoid(logit) - (1 - p) * logsigmoid(-logit)


def _logistic(m: Tensor, preference: Tensor, beta: float | Tensor) -> Tensor:
    """-p log sigma(-beta/2 m) - (1 - p) log sigma(beta/2 m)."""
    scaled = -0.5 * beta * m
    return -preference * logsigmoid(scaled) - (1 - preference) * logsigmoid(-scaled)


def _unwanted(value: Tensor, wanted: Tensor) -> Tensor:
    """1 - q sigma(v) - (1 - q) sigma(-v)."""
    return 1 - wanted * value.sigmoid() - (1 - wanted) * (-value).sigmoid()


def _mapo_odds(value: Tensor) -> Tensor:
    """f(x) = s x / (e^(s x) - 1); 1 at x = 0."""
    x = (MAPO_SHARPNESS * value).clamp_min(1e-7)
    # As x e^-x / (1 - e^-x), which does not overflow for a large error.
    return x * torch.exp(-x) / -torch.expm1(-x)


OBJECTIVES: dict[str, Objective] = {
    "inpo": inpo,
    "diffusion_dpo": diffusion_dpo,
    "ipo": ipo,
    "robust": robust,
    "kto": kto,
    "mapo": mapo,
}
"""The objectives by the name a round's configuration gives."""
