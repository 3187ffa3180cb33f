"""The reference's predictions where x_t repeats: made once, whatever the order of visits."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Pairs are predicted in groups of this size, fixed by their place among the pairs: the last bit of
# a prediction may depend on its batch, and a resumed round must find the ones it had.
GROUP = 16

Predict = Callable[[Tensor, int, bool], tuple[Tensor, ...]]
"""predict(pairs (GROUP,), level, dropped) -> the reference's prediction for each x_t of a pair:
one (GROUP, c, h, w) where winner and loser share it, else two."""


class RepeatedReference:
    """Predictions by (pair, level, prompt or empty), for rounds without fresh noise."""

    def __init__(self, num_pairs: int, predict: Predict) -> None:
        self._num_pairs = num_pairs
        self._predict = predict
        self._made: dict[tuple[int, int, bool], tuple[Tensor, ...]] = {}

    def at(self, pairs: Tensor, levels: Tensor, dropped: Tensor) -> Tensor:
        """Predictions for ``n`` visits; ``(n, c, h, w)``, or ``(2n, c, h, w)`` with the winners'
        first."""
        rows: list[tuple[Tensor, ...]] = []
        visits = zip(pairs.tolist(), levels.tolist(), dropped.tolist(), strict=True)
        for pair, level, empty in visits:
            group, row = divmod(pair, GROUP)
            rows.append(tuple(part[row] for part in self._group(group, level, empty)))
        return torch.cat([torch.stack(part) for part in zip(*rows, strict=True)])

    def _group(self, group: int, level: int, empty: bool) -> tuple[Tensor, ...]:
        key = (group, level, empty)
        if key not in self._made:
            pairs = torch.arange(group * GROUP, (group + 1) * GROUP).clamp_max(self._num_pairs - 1)
            self._made[key] = tuple(part.cpu() for part in self._predict(pairs, level, empty))
        return self._made[key]
