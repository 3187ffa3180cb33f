"""The optimisation loop of a round: draws, loss, optimiser step, measurement.

The loop knows no database and no process: it is told where to go on, asks ``control`` before
every step, and reports through callbacks. Between its steps, while nobody holds ``whole``, another
thread may save it.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.training.batch import Batches
from inpo_studio.training.early_stop import EarlyStop
from inpo_studio.training.errors import PairErrors
from inpo_studio.training.policy import Policy
from inpo_studio.training.rate import learning_rate

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
        self.early_stop = EarlyStop(config.early_stop, self.names)
        self.whole = threading.RLock()
        """Held while weights, step and what was reported of it do not belong together."""

    def run(
        self,
        control: Callable[[], Request | None],
        on_step: Callable[[StepRecord], None],
        on_checkpoint: Callable[[], None],
        on_sample: Callable[[], None] = lambda: None,
    ) -> Ending:
        """Train until ``config.steps`` are done or ``control`` asks to stop.

        ``control`` is asked before every step; ``on_checkpoint`` is called every
        ``config.checkpoint_every`` steps and when the loop pauses or ends with weights to keep;
        ``on_sample`` every ``config.sample_every`` steps, at the step where the loop starts if it
        is such a one, and at the end. Raises :class:`DivergedError` after three non-finite steps
        in a row.
        """
        skipped = 0
        ending: Ending = "done"
        if self._is_due(self.config.sample_every):
            on_sample()
        while self.step < self.config.steps and not self.early_stop.over:
            request = control()
            if request is not None:
                ending = request
                break
            record = self._one_step(on_step)
            skipped = 0 if math.isfinite(record.gradient_norm) else skipped + 1
            if skipped == MAX_SKIPPED_IN_A_ROW:
                raise DivergedError(
                    "The loss stopped being a finite number: lower the learning rate or raise beta."
                )
            if self._is_due(self.config.checkpoint_every):
                self._checkpoint(on_checkpoint)
            if self._is_due(self.config.sample_every):
                on_sample()
        if ending in ("done", "finish"):
            self._take_best()
        if ending != "cancel":
            self._checkpoint(on_checkpoint)
        if ending in ("done", "finish") and self.step and self.config.sample_every:
            on_sample()
        return ending

    def _is_due(self, every: int) -> bool:
        """Whether something done ``every`` so many steps is due on the way (0: never)."""
        goes_on = self.step < self.config.steps and not self.early_stop.over
        return goes_on and bool(every) and self.step % every == 0

    def _checkpoint(self, on_checkpoint: Callable[[], None]) -> None:
        with self.whole:
            on_checkpoint()

    def adapter_tensors(self) -> dict[str, Tensor]:
        """The weights to keep: the running average where there is one, else the last ones."""
        kept = self.average if self.config.weight_averaging else self.parameters
        return {name: tensor.detach() for name, tensor in zip(self.names, kept, strict=True)}

    @contextmanager
    def as_kept(self) -> Iterator[None]:
        """The policy with the weights of :meth:`adapter_tensors`, for a block."""
        if not self.config.weight_averaging:
            yield
            return
        with self.whole, torch.no_grad():
            before = [parameter.detach().clone() for parameter in self.parameters]
            try:
                for parameter, kept in zip(self.parameters, self.average, strict=True):
                    parameter.copy_(kept)
                yield
            finally:
                for parameter, own in zip(self.parameters, before, strict=True):
                    parameter.copy_(own)

    @torch.no_grad()
    def _take_best(self) -> None:
        """With early stop, what is kept are the weights of the lowest validation loss."""
        best = self.early_stop.best
        with self.whole:
            for name, parameter, average in zip(
                self.names, self.parameters, self.average, strict=True
            ):
                if name in best:
                    parameter.copy_(best[name])
                    average.copy_(best[name])

    def _one_step(self, on_step: Callable[[StepRecord], None]) -> StepRecord:
        started = time.perf_counter()
        rate = learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        losses, errors = [], []
        for micro in self.batches.of_step(self.step):
            error = self.batches.errors(self.policy, micro)
            loss = self.batches.losses(error, micro)
            (loss.sum() / self.config.batch_pairs).backward()
            losses.append(loss.detach())
            errors.append(error.detach())
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip))
        with self.whole:
            if math.isfinite(norm):
                self.optimizer.step()
            self.step += 1
            self._update_average()
            found = PairErrors.cat(errors)
            record = self._record(torch.cat(losses), found, norm, rate, started)
            on_step(record)
        return record

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
        rate: float,
        started: float,
    ) -> StepRecord:
        validation = None
        if self.step % self.config.validate_every == 0 or self.step == self.config.steps:
            validation = self.batches.validation(self.policy)
        if validation is not None and self.config.early_stop:
            loss = self.batches.validation_loss(validation)
            self.early_stop.seen(self.step, loss, self.adapter_tensors())
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
            learning_rate=rate,
            seconds=time.perf_counter() - started,
        )
