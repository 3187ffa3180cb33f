"""How many UNet forwards something takes, counted where they happen."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

# A backward through a layer is two products of the forward's size: one for its input's gradient
# and one for its weights'. The published step: 12.8 for inversion, 2 + 4 for the policy, 2 for the
# reference.
BACKWARD_WORTH = 2
PUBLISHED_PER_PAIR = 20.8


@dataclass
class Forwards:
    """Images that went through the network, and those of them that a backward followed."""

    images: int = 0
    trained: int = 0

    @property
    def worth(self) -> int:
        """Everything in forwards of one image, a backward counted as two."""
        return self.images + BACKWARD_WORTH * self.trained


@contextmanager
def count_forwards(unet: nn.Module) -> Iterator[Forwards]:
    """Count the images of every forward of ``unet`` in a block.

    A forward whose output carries gradients is taken to be followed by a backward.
    """
    counted = Forwards()

    def count(module: nn.Module, inputs: Any, output: Any) -> None:
        first: Tensor = output[0] if isinstance(output, tuple) else output.sample
        counted.images += len(first)
        if torch.is_grad_enabled() and first.requires_grad:
            counted.trained += len(first)

    handle = unet.register_forward_hook(count)
    try:
        yield counted
    finally:
        handle.remove()
