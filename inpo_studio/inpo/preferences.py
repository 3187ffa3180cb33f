"""Soft preferences under label noise: what a choice is worth when some clicks are wrong.

A preference p (pairs,) is the probability that the winner is the better picture: 1 a clear choice,
1/2 a tie. A share epsilon of wrong clicks is a symmetric channel on it, which one may apply to the
model's side of the loss (smoothing) or undo on the label's side (debiasing).
"""

from __future__ import annotations

from torch import Tensor


def smooth_preference(preference: Tensor, label_noise: float) -> Tensor:
    """p' = (1 - epsilon) p + epsilon (1 - p), (pairs,): label smoothing, "conservative DPO"
    (Mitchell 2023). The loss then has a finite optimum at beta h = logit(p').

    Raises ValueError unless 0 <= label_noise < 1/2.
    """
    _check(label_noise)
    return preference * (1 - 2 * label_noise) + label_noise


def debias_preference(preference: Tensor, label_noise: float) -> Tensor:
    """p' = (p - epsilon) / (1 - 2 epsilon), (pairs,): the inverse of `smooth_preference`.

    A loss that is linear in p is then, in the mean over wrong clicks, the loss of the right ones
    (robust DPO, Chowdhury et al. 2024). p' leaves 0 .. 1, so the loss has no lower bound.
    Raises ValueError unless 0 <= label_noise < 1/2.
    """
    _check(label_noise)
    return (preference - label_noise) / (1 - 2 * label_noise)


def _check(label_noise: float) -> None:
    if not 0 <= label_noise < 0.5:
        raise ValueError("label_noise, the share of wrong choices, must lie in 0 .. 0.5.")
