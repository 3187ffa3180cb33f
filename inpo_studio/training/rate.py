"""The learning rate as a function of the configuration and the step."""

from __future__ import annotations

import math

from inpo_studio.configs import RoundConfig


def learning_rate(config: RoundConfig, step: int) -> float:
    """Rate of optimiser step ``step`` (from 0).

    Linear warm-up over ``warmup_steps``; then constant, or with ``learning_rate_decay`` down along
    a line or half a cosine that would reach 0 one step after the last.
    """
    if step < config.warmup_steps:
        return config.learning_rate * ((step + 1) / config.warmup_steps)
    done = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    left = max(0.0, 1.0 - done)
    if config.learning_rate_decay == "linear":
        return config.learning_rate * left
    if config.learning_rate_decay == "cosine":
        return config.learning_rate * 0.5 * (1 - math.cos(math.pi * left))
    return config.learning_rate
