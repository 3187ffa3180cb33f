"""Snapshots: at some steps, sample pictures and an adapter that can be kept instead of the last."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from inpo_studio.diffusion.adapters import WEIGHTS_FILE, save_adapter
from inpo_studio.training.loop import Trainer
from inpo_studio.training.policy import POLICY
from inpo_studio.training.samples import Sampler
from storage.errors import StaleAttempt

if TYPE_CHECKING:
    from inpo_studio.training.ledger import Ledger

log = logging.getLogger("inpo_studio.round")


class _PutOff(Exception):
    """The pictures are drawn another time: something more urgent was asked for."""


class Snapshots:
    """Takes the snapshots of one attempt at a round."""

    def __init__(
        self, ledger: Ledger, trainer: Trainer, sampler: Sampler | None, leaving: threading.Event
    ) -> None:
        self.seconds: list[float] = []
        """How long each drawing took."""
        self._ledger = ledger
        self._trainer = trainer
        self._sampler = sampler
        self._leaving = leaving

    def take(self) -> None:
        """Keep the present adapter and draw the pictures, unless that was done before.

        A wish to pause or cancel puts the pictures off to the time the round goes on. What fails
        here is told in the log and not tried again; it never ends the round.
        """
        self._ledger.flush()
        try:
            if self._trainer.step:  # at step 0 nothing is learnt yet
                self._ledger.keep_snapshot(self._trainer)
            self._draw()
        except _PutOff:
            log.info("the samples of step %d are put off", self._trainer.step)
        except StaleAttempt:
            raise
        except Exception:
            log.exception("no more samples are drawn in this round")
            self._sampler = None

    def _draw(self) -> None:
        sampler, step = self._sampler, self._trainer.step
        if sampler is None or self._ledger.has_samples(step, len(sampler.plan.prompts)):
            return
        started = time.monotonic()
        with self._trainer.as_kept():
            pictures = sampler.draw(self._look)
        self._ledger.keep_samples(step, sampler.plan.prompts, pictures)
        self.seconds.append(time.monotonic() - started)
        log.info("drew %d samples at step %d", len(pictures), step)

    def _look(self) -> None:
        """Between two denoising steps: whoever waits for the round to stop is not kept waiting."""
        if self._leaving.is_set() or self._ledger.request() in ("pause", "cancel"):
            raise _PutOff


def publish_adapter(trainer: Trainer, folder: Path) -> str:
    """Write the weights to keep into ``folder``, whole or not at all; returns their SHA-256.

    The same step of the same round gives the same bytes, so what is there already may stay.
    """
    policy = trainer.policy
    facts = {
        "base_model": policy.pipeline.model,
        "objective": trainer.config.objective,
        "steps": str(trainer.step),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    with trainer.as_kept():
        sha256 = save_adapter(policy.pipeline.unet, POLICY, temporary, facts)
    if _weights_sha256(folder) == sha256:
        shutil.rmtree(temporary)
        return sha256
    shutil.rmtree(folder, ignore_errors=True)
    temporary.replace(folder)
    return sha256


def _weights_sha256(folder: Path) -> str | None:
    try:
        with (folder / WEIGHTS_FILE).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
