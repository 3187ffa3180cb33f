"""A round's training process in trouble: `python -m tests.training.troubled`, as the real one.

TROUBLE names it. To the second process alone: `memory` runs out where more than one pair is trained
at once; `failure` ends it with a sentence at its third step, `death` by a signal. To every process:
`slow` gives each step a fifth of a second more, so that it can be stopped on the way anywhere.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import torch
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2DCrossAttn

from inpo_studio.training.loop import Trainer
from inpo_studio.training.round import main

SENTENCE = "This process has had enough; give it a rest."


def run_out_of_memory() -> None:
    forward = UNetMidBlock2DCrossAttn.forward

    def limited(self: Any, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() and len(hidden_states) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return forward(self, hidden_states, *args, **kwargs)

    UNetMidBlock2DCrossAttn.forward = limited  # type: ignore[method-assign]


def end_at_third_step(trouble: str) -> None:
    backward = Trainer._backward

    def troubled(self: Trainer) -> torch.Tensor:
        if self.step == 2 and trouble == "failure":
            raise ValueError(SENTENCE)
        if self.step == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return backward(self)

    Trainer._backward = troubled  # type: ignore[method-assign]


def slow_down() -> None:
    backward = Trainer._backward

    def slow(self: Trainer) -> torch.Tensor:
        time.sleep(0.2)
        return backward(self)

    Trainer._backward = slow  # type: ignore[method-assign]


if __name__ == "__main__":
    if os.environ["TROUBLE"] == "slow":
        slow_down()
    elif os.environ.get("RANK") == "1":
        if os.environ["TROUBLE"] == "memory":
            run_out_of_memory()
        else:
            end_at_third_step(os.environ["TROUBLE"])
    sys.exit(main())
