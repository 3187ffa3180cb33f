"""Early stop: the weights of the lowest validation loss, and when to give up on a lower one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_PREFIX = "early_stop."


class EarlyStop:
    """Remembers the best weights; ``patience`` measurements without a lower loss end the round.

    Its state is tensors, so that a resumed round stops where an undisturbed one would.
    """

    def __init__(self, patience: int, names: Sequence[str]) -> None:
        self.patience = patience
        self.names = tuple(names)
        self.best: dict[str, Tensor] = {}
        self.best_step = 0
        self._lowest = math.inf
        self._since = 0

    def seen(self, step: int, loss: float, weights: Mapping[str, Tensor]) -> None:
        """Take note of the validation ``loss`` after ``step`` steps with ``weights``."""
        if loss < self._lowest:
            self._lowest, self._since, self.best_step = loss, 0, step
            self.best = {name: weights[name].detach().clone() for name in self.names}
        else:
            self._since += 1

    @property
    def over(self) -> bool:
        """Whether the patience is used up."""
        return self.patience > 0 and self._since >= self.patience

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps; empty before the first measurement."""
        if not self.best:
            return {}
        facts = [self._lowest, float(self._since), float(self.best_step)]
        kept = {f"{_PREFIX}best.{name}": tensor.cpu() for name, tensor in self.best.items()}
        return {f"{_PREFIX}facts": torch.tensor(facts, dtype=torch.float64), **kept}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take :meth:`state` up again; without one in ``tensors``, start afresh."""
        facts = tensors.get(f"{_PREFIX}facts")
        if facts is None:
            return
        self._lowest, since, step = facts.tolist()
        self._since, self.best_step = int(since), int(step)
        self.best = {name: tensors[f"{_PREFIX}best.{name}"].clone() for name in self.names}
