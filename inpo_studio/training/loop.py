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
from typing import Literal

import torch
from torch import Tensor

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.fitting import OutOfMemory, attempt
from inpo_studio.diffusion.memory import halved
from inpo_studio.inpo.objectives import error_dtype
from inpo_studio.training.batch import Batches
from inpo_studio.training.early_stop import EarlyStop
from inpo_studio.training.errors import PairErrors
from inpo_studio.training.leash import Leash
from inpo_studio.training.policy import Policy
from inpo_studio.training.rate import learning_rate
from inpo_studio.training.records import StepRecord

__all__ = ["DivergedError", "Ending", "Request", "StepRecord", "Trainer"]

Request = Literal["pause", "cancel", "finish"]
Ending = Literal["done", "pause", "cancel", "finish"]

# A step with a non-finite loss or gradient is skipped; this many in a row end the round.
MAX_SKIPPED_IN_A_ROW = 3


class DivergedError(RuntimeError):
    """The round's numbers stopped being finite."""


class Trainer:
    """A policy, its optimiser and its running average, at ``step`` done optimiser steps."""

    def __init__(self, policy: Policy, batches: Batches, config: RoundConfig) -> None:
        self.policy = policy
        self.batches = batches
        self.together = batches.together
        self.config = config
        self.names, self.parameters = zip(*policy.parameters(), strict=True)
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            weight_decay=config.weight_decay,
            foreach=False,
        )
        self.average = [parameter.detach().clone() for parameter in self.parameters]
        self.leash = Leash(policy, config.most_displacement)
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
        if self._is_due(self.config.sample_every):
            on_sample()
        while (ending := self._ending(control)) is None:
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

    def _ending(self, control: Callable[[], Request | None]) -> Ending | None:
        """What ends the loop before its next step, if anything; the first process says it."""

        def choose() -> Ending | None:
            over = self.step >= self.config.steps or self.early_stop.over
            return "done" if over else control()

        return self.together.decide(choose)

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
        losses, errors = self._gradients()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.gradient_clip))
        with self.whole:
            if math.isfinite(norm):
                self.optimizer.step()
                self.leash.hold(errors.displacement)
            self.step += 1
            self._update_average()
            record = self._record(losses, errors, norm, rate, started)
            on_step(record)
        return record

    def _gradients(self) -> tuple[Tensor, PairErrors]:
        """Leave the step's gradients in the parameters; losses and errors of all its pairs.

        Where memory runs out in any process, all begin the step again, with the same draws in
        smaller micro-batches.
        """
        device = self.policy.pipeline.device
        while True:
            self.optimizer.zero_grad(set_to_none=True)
            figures = attempt(self._backward, device)
            if self.together.all(figures is not None) and figures is not None:
                break
            self._take_fewer()
        self.together.add_gradients(self.parameters)
        losses, *errors = self.together.join_columns(figures, self.config.batch_pairs)
        return losses, PairErrors(*errors)

    def _backward(self) -> Tensor:
        """Gradients of this process's pairs, a micro-batch at a time.

        Returns ``(7, n)``: each pair's loss and errors.
        """
        device = self.policy.pipeline.device
        # A process without a pair in this step still sends its nothing, in the others' dtype.
        figures = [torch.empty((7, 0), dtype=error_dtype(device), device=device)]
        try:
            for micro in self.batches.of_step(self.step):
                errors = self.batches.errors(self.policy, micro)
                losses = self.batches.losses(errors, micro)
                (losses.sum() / self.config.batch_pairs).backward()
                figures.append(torch.stack([losses.detach(), *errors.detach().fields()]))
        finally:
            self.policy.settle()
        return torch.cat(figures, dim=1)

    def _take_fewer(self) -> None:
        """Memory ran out: go on with half as many pairs at once, and with one frugally.

        Raises OutOfMemory where that does not help either.
        """
        unet, tell = self.policy.pipeline.unet, self.policy.at_once.tell
        # The largest share, so that all processes halve alike.
        largest = math.ceil(self.config.batch_pairs / self.together.size)
        now = min(self.batches.pairs_at_once, largest)
        fewer = halved(now, self.config.batch_pairs)
        if fewer is not None:
            self.batches.use(fewer)
            tell(f"Memory ran out at {now} pairs at once; going on with {fewer}.")
        elif not unet.is_gradient_checkpointing:
            unet.enable_gradient_checkpointing()
            tell("Memory ran out at one pair; going on in slower steps that need less.")
        else:
            raise OutOfMemory(
                "Not even one pair fits into the device's memory; close other programs, choose "
                "between smaller pictures, or use a smaller model or a larger card."
            )

    def _validate(self) -> PairErrors | None:
        """Errors on validation pairs where they are due, in the first process alone: those of the
        weights that would be kept."""
        due = self.step % self.config.validate_every == 0 or self.step == self.config.steps
        if not (due and self.together.leads and len(self.batches.data.validation)):
            return None
        device = self.policy.pipeline.device
        with self.as_kept():
            while (found := attempt(lambda: self.batches.validation(self.policy), device)) is None:
                self._take_fewer()
            return found

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
        validation = self._validate()
        if validation is not None and self.config.early_stop:
            loss = self.batches.validation_loss(validation)
            self.early_stop.seen(self.step, loss, self.adapter_tensors())
        seconds = time.perf_counter() - started
        return StepRecord.of(self.step, losses, errors, validation, norm, rate, seconds)
