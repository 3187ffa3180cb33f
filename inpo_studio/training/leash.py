"""How far a policy may go from its reference, however loud the choices are.

A taste that many layers serve, such as brightness, moves the predictions several times as far as
one that few do, at equal steps. The limit is on the predictions, so it means the same for both.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from inpo_studio.training.policy import Policy


class Leash:
    """Takes an adapter back towards where its round began, once its predictions are too far."""

    def __init__(self, policy: Policy, most: float) -> None:
        """``most`` is RoundConfig's ``most_displacement``; 0 lets it go anywhere."""
        self._most = most
        begun = policy.reference_parameters()
        self._up = [
            (parameter, begun.get(name))
            for name, parameter in policy.parameters()
            if "lora_B" in name
        ]

    @torch.no_grad()
    def hold(self, displacement: Tensor) -> None:
        """After a step whose pairs had a mean squared ``displacement`` ``(n,)``.

        Where its root is beyond the limit, each LoRA B goes back along the line to its beginning
        by the same share: W_0 + B A becomes W_0 + s B A, and its displacement s times as large.
        """
        away = math.sqrt(float(displacement.mean()))
        if not self._most or away <= self._most:
            return
        share = self._most / away
        for parameter, begun in self._up:
            if begun is None:
                parameter.mul_(share)
            else:
                parameter.copy_(torch.lerp(begun, parameter, share))
