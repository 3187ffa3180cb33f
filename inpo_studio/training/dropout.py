"""LoRA dropout: rank components left out, as a function of each pair's seed.

The usual dropout draws from global random state, so that a resumed round would differ, and per
activation, so that micro-batches would. Here a pair's forward leaves out whole rank components of
each layer's adapter, drawn from a seed of that visit alone; its two pictures lose the same ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class RankDropout:
    """Hooks on the down-projections of an adapter; passive but for the length of a forward."""

    def __init__(self, down: list[nn.Module], rank: int, share: float) -> None:
        """``down`` are the layers' ``lora_A``, whose outputs have ``rank`` components,
        last for linear layers and as channels for convolutions."""
        self._share = share
        self._shape = (len(down), rank)
        self._masks: Tensor | None = None
        for index, module in enumerate(down):
            module.register_forward_hook(self._hook(index))

    def begin(self, seeds: Tensor | None, images: int, device: torch.device) -> None:
        """Until :meth:`end`, drop by ``seeds`` ``(pairs,)`` in forwards of ``images`` images.

        ``images`` is a multiple of the pairs: all first pictures, then all second ones. None
        drops nothing.
        """
        self.end()
        if seeds is None or not self._share:
            return
        drawn = [
            torch.rand(self._shape, generator=torch.Generator().manual_seed(seed))
            for seed in seeds.tolist()
        ]
        kept = (torch.stack(drawn, dim=1) >= self._share).float() / (1 - self._share)
        self._masks = kept.repeat(1, images // len(seeds), 1).to(device)

    def end(self) -> None:
        """Drop nothing from here on."""
        self._masks = None

    def _hook(self, index: int) -> Any:
        def drop(module: nn.Module, inputs: Any, output: Tensor) -> Tensor | None:
            if self._masks is None:
                return None
            mask = self._masks[index]
            shape = [len(mask), *[1] * (output.ndim - 1)]
            shape[1 if isinstance(module, nn.Conv2d) else -1] = mask.shape[-1]
            return output * mask.reshape(shape).to(output.dtype)

        return drop
