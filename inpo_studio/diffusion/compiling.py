"""A UNet's training pass through torch.compile, and as it is where that fails."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

log = logging.getLogger("inpo_studio.diffusion")


class CompiledUNet:
    """Calls a UNet: compiled where gradients are wanted, as it is elsewhere.

    Training steps have one shape throughout, which is what a compilation is good for; validation,
    samples and the reference come in other shapes and would be compiled again for each. The
    UNet itself stays as it was, its parameters' names included. Where it cannot be compiled,
    `tell` gets one sentence and it is called as it is from there on.
    """

    def __init__(self, unet: nn.Module, tell: Callable[[str], None] = log.warning) -> None:
        self.tell = tell
        self._unet = unet
        self._compiled: Callable[..., Any] | None = torch.compile(unet)

    @property
    def compiles(self) -> bool:
        """Whether gradients still go through the compiled UNet."""
        return self._compiled is not None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """The UNet's output, arguments as its own."""
        if self._compiled is None or not torch.is_grad_enabled():
            return self._unet(*arguments, **named)
        try:
            return self._compiled(*arguments, **named)
        except RuntimeError as problem:
            # Imported late: it takes a second that a round without compilation need not wait.
            from torch._dynamo.exc import TorchDynamoException

            if not isinstance(problem, TorchDynamoException):
                raise
            log.info("torch.compile failed", exc_info=problem)
        self._compiled = None
        self.tell(
            "The model could not be compiled on this machine (torch.compile needs a C++ compiler, "
            "and Triton on a GPU), so the round goes on without that."
        )
        return self._unet(*arguments, **named)
