"""The optimisation loop of a round: draws, loss, optimiser step, measurement.

The loop knows no database and no process: it is told where to go on, asks ``control`` before
every step, and reports through callbacks.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.training.batch import Batches, PairErrors
from inpo_studio.training.policy import Policy

Request = Literal["pause", "cancel", "finish"]
Ending = Literal["done", "pause", "cancel", "finish"]

# A step with a non-finite loss or gradient is skipped; this many in a row end the round.
MAX_SKIPPED_IN_A_ROW = 3


class DivergedError(RuntimeError):
    """The round's numbers stopped being finite."""


@dataclass(frozen=True)
class StepRecord:
    """One row of the metrics; errors are policy minus reference, margins as in the paper.

    A pair is ranked right when its margin is negative: the policy's error fell more (or rose
    less) on the winner than on the loser.
    """

    step: int
    loss: float
    train_ranked_right: float | None
    validation_ranked_right: float | None
    margin: float
    validation_margin: float | None
    winner_error: float
    loser_error: float
    gradient_norm: float
    learning_rate: float
    seconds: float


class Trainer:
    """A policy, its optimiser and its running average, at ``step`` done optimiser steps."""

    def __init__(self, policy: Policy, batches: Batches, config: RoundConfig) -> None:
        self.policy = policy
        self.batches = batches
        self.config = config
        self.names, self.parameters = zip(*policy.parameters(), strict=True)
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            foreach=False,
        )
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.step = 0

    def run(
        self,
        control: Callable[[], Request | None],
        on_step: Callable[[StepRecord], None],
        on_checkpoint: Callable[[], None],
    ) -> Ending:
        """Train until ``config.steps`` are done or ``control`` asks to stop.

        ``control`` is asked before every step; ``on_checkpoint`` is called every
        ``config.checkpoint_every`` steps and when the loop pauses. Raises
        :class:`DivergedError` after three non-finite steps in a row.
        """
        skipped = 0
        while self.step < self.config.steps:
            request = control()
            if request is not None:
                if request == "pause":
                    on_checkpoint()
                return request
            record = self._one_step()
            skipped = 0 if math.isfinite(record.gradient_norm) else skipped + 1
            if skipped == MAX_SKIPPED_IN_A_ROW:
                raise DivergedError(
                    "The loss stopped being a finite number: lower the learning rate or raise beta."
                )
            on_step(record)
            if self.step % self.config.checkpoint_every == 0 and self.step < self.config.steps:
                on_checkpoint()
        return "done"

    def adapter_tensors(self) -> dict[str, Tensor]:
        """The weights to keep: the running average where there is one, else the last ones."""
        kept = self.average if self.config.weight_averaging else self.parameters
        return {name: tensor.detach() for name, tensor in zip(self.names, kept, strict=True)}

    def learning_rate(self) -> float:
        """Linear warm-up over ``warmup_steps``, then constant."""
        warmup = min(1.0, (self.step + 1) / max(1, self.config.warmup_steps))
        return self.config.learning_rate * warmup

    def _one_step(self) -> StepRecord:
        started = time.perf_counter()
        learning_rate = self.learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.zero_grad(set_to_none=True)
        losses, errors = [], []
        for micro in self.batches.of_step(self.step):
            error = self.batches.errors(self.policy, micro)
            loss = self.batches.losses(error, micro)
            (loss.sum() / self.config.batch_pairs).backward()
            losses.append(loss.detach())
            errors.append(error.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip))
        if math.isfinite(norm):
            self.optimizer.step()
        self.step += 1
        self._update_average()
        return self._record(torch.cat(losses), PairErrors.cat(errors), norm, learning_rate, started)

    @torch.no_grad()
    def _update_average(self) -> None:
        """Running average with the decay ramped up, so that early weights do not linger."""
        decay = min(self.config.weight_averaging, self.step / (self.step + 9))
        if not self.config.weight_averaging:
            return
        for kept, parameter in zip(self.average, self.parameters, strict=True):
            kept.lerp_(parameter.detach(), 1 - decay)

    def _record(
        self,
        losses: Tensor,
        errors: PairErrors,
        norm: float,
        learning_rate: float,
        started: float,
    ) -> StepRecord:
        validation = None
        if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
            validation = self.batches.validation(self.policy)
        return StepRecord(
            step=self.step,
            loss=float(losses.mean()),
            train_ranked_right=errors.ranked_right(),
            validation_ranked_right=validation.ranked_right() if validation else None,
            margin=float(errors.margin().mean()),
            validation_margin=float(validation.margin().mean()) if validation else None,
            winner_error=float((errors.policy_winner - errors.reference_winner).mean()),
            loser_error=float((errors.policy_loser - errors.reference_loser).mean()),
            gradient_norm=norm,
            learning_rate=learning_rate,
            seconds=time.perf_counter() - started,
        )
