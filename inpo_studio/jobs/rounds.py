"""A round as a job of stages: freeze the choices, train, render samples, done.

The row of the round holds its state; every start of the training process is an attempt, which
fences off the writes of an earlier one that may still be alive. Wishes (pause, cancel, finish)
are read by the training process itself at every optimiser step.
"""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import Any

from inpo_studio.jobs import trainer
from inpo_studio.jobs.beside import Beside
from inpo_studio.jobs.context import JobCancelled, JobContext, JobFailed
from inpo_studio.jobs.rendering import render
from storage.errors import NothingToTrain, StaleAttempt, StorageError
from storage.patience import Patience, persisting
from storage.rounds import (
    claim_attempt,
    freeze_choices,
    get_round,
    request,
    set_state,
    update_progress,
)
from storage.schema import Round, RoundState
from storage.transitions import WORKED_ON

RESTARTS = 2
"""How often a training that dies is started again, as long as it gets further each time."""
PROGRESS_EVERY_S = 2.0
LEFT_WAIT_S = 1.0
PASSED_ON = "passed on"
"""What comes of a job whose round another one works on: paused in the queue, it was queued anew."""

log = logging.getLogger("inpo_studio.jobs.rounds")


@dataclass
class _Run:
    """One run of the job: the attempt that owns the round, and what was said of its progress."""

    context: JobContext
    round_id: str
    attempt: int = 0
    said: tuple[str | None, int] = ("", -1)
    """Stage and step as they were told last. Before its first step the training tells by itself
    what it waits for and prepares."""
    said_at: float = 0.0
    patience: Patience = field(default_factory=Patience)
    """A training that goes well is not ended because its progress cannot be told for a moment."""


def run(context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Bring a round to rest: done, paused, cancelled or failed; returns its state.

    A round of which another job is in charge by now is left to that one. Raises JobFailed with
    the failure of the round.
    """
    this = _Run(context, str(payload["round_id"]))
    try:
        state = context.stage("freeze", lambda: _freeze(this))
        if state == "running":
            state = context.stage("train", lambda: _train(this))
        if state == "trained":
            context.stage("render", lambda: render(context, this.round_id))
            state = _finish(this)
    except JobCancelled:
        _cancel(this)
        raise
    except (JobFailed, StaleAttempt):
        raise
    except Exception as error:
        log.exception("round %s", this.round_id)
        _fail(this, str(error) or type(error).__name__)
        raise
    return {"round_id": this.round_id, "state": state}


@persisting
def _freeze(this: _Run) -> str:
    """Freeze the choices of a round that waits; the state it is in when there is nothing to do."""
    try:
        with this.context.database.write() as session:
            row = get_round(session, this.round_id)
            if not _is_ours(this, row):
                return PASSED_ON
            if row.state != "queued" and row.state not in WORKED_ON:
                return row.state
            if row.state in ("queued", "running"):
                freeze_choices(session, row)
            this.attempt = claim_attempt(session, this.round_id)
            if row.stage is None:
                update_progress(session, this.round_id, this.attempt, stage="freeze")
    except NothingToTrain as error:
        _fail(this, str(error))
        raise JobFailed(str(error)) from error
    return "running"


def _train(this: _Run) -> str:
    """Train until the round rests or has its adapter ("trained")."""
    this.context.pipelines.release()
    beside = Beside(this.context)
    furthest = _read(this).step
    for deaths in range(RESTARTS + 1):
        resting = _begin_attempt(this)
        if resting is not None:
            return resting
        settings = this.context.settings
        end = trainer.train(settings, this.round_id, this.attempt, lambda: _watch(this, beside))
        if end.ending == "left":
            _let_go(this)
        elif end.ending != "died":
            return _settle(this, end)
        log.warning("round %s: %s", this.round_id, end.sentence)
        step = _read(this).step
        if step <= furthest or deaths == RESTARTS:
            break
        furthest = step
        this.context.progress(step, _read(this).total_steps, "The training died and goes on.")
    _fail(this, end.sentence)
    raise JobFailed(end.sentence)


@persisting
def _begin_attempt(this: _Run) -> str | None:
    """Claim the round for a training process; its state when there is nothing to train."""
    with this.context.database.write() as session:
        row = get_round(session, this.round_id)
        if not _is_ours(this, row):
            return PASSED_ON
        if row.state != "queued" and row.state not in WORKED_ON:
            return row.state
        this.attempt = claim_attempt(session, this.round_id)
        if row.state == "pausing":
            return set_state(session, this.round_id, "paused", attempt=this.attempt).state
        if row.state == "cancelling":
            return set_state(session, this.round_id, "cancelled", attempt=this.attempt).state
    return None


def _let_go(this: _Run) -> None:
    """A training was told to end: so is this worker when the system shuts down, in this moment."""
    this.context.stopping.wait(LEFT_WAIT_S)
    this.context.checkpoint()


def _watch(this: _Run, beside: Beside) -> None:
    """While the training runs: pass its step on, look whether the job is to stop, make pairs."""
    with this.patience.bearing():
        this.context.checkpoint()
        _look(this, beside)


def _look(this: _Run, beside: Beside) -> None:
    with this.context.database.read() as session:
        row = get_round(session, this.round_id)
    begun = row.stage not in (None, "freeze", "cache")
    now = time.monotonic()
    said = (row.stage, row.step)
    later = now - this.said_at > PROGRESS_EVERY_S
    if begun and (row.stage != this.said[0] or (later and said != this.said)):
        this.said, this.said_at = said, now
        this.context.progress(row.step, row.total_steps, row.stage or "")
    if row.stage == "train" and row.step:  # after a step it has the memory that it needs
        beside.make_one()


def _settle(this: _Run, end: trainer.TrainerEnd) -> str:
    """Write the state that a training's orderly end means; wishes may have changed meanwhile."""
    row = _read(this)
    if row.attempt != this.attempt:
        raise StaleAttempt(f"Round {row.number} was taken over by another worker.")
    if row.state not in WORKED_ON:
        if row.state == "failed":
            raise JobFailed(row.failure or end.sentence)
        return row.state
    if end.ending == "done" and row.state != "cancelling":
        return "trained"
    if end.ending == "failed":
        sentence = row.failure or end.sentence
        _fail(this, sentence)
        raise JobFailed(sentence)
    if row.state == "cancelling":
        return _set(this, "cancelled")
    if end.ending == "paused" and row.state == "pausing":
        return _set(this, "paused")
    # The wish changed after the training had stopped for the earlier one: it goes on.
    return _train(this)


def _finish(this: _Run) -> str:
    row = _read(this)
    if row.state not in WORKED_ON:
        return row.state
    return _set(this, "cancelled" if row.state == "cancelling" else "done")


def _cancel(this: _Run) -> None:
    """The job was cancelled in the engine, not by a wish: the round ends with it."""
    with contextlib.suppress(StorageError), this.context.database.write() as session:
        if not _is_ours(this, get_round(session, this.round_id)):
            return
        if request(session, this.round_id, "cancel").state == "cancelling":
            set_state(session, this.round_id, "cancelled")


def _fail(this: _Run, sentence: str) -> None:
    try:
        _set(this, "failed", sentence)
    except StorageError as error:
        log.warning("round %s could not be marked as failed: %s", this.round_id, error)


@persisting
def _set(this: _Run, state: RoundState, failure: str | None = None) -> str:
    with this.context.database.write() as session:
        if not _is_ours(this, get_round(session, this.round_id)):
            return PASSED_ON
        fence = this.attempt or None  # nothing was claimed yet where the stages were done before
        return set_state(session, this.round_id, state, attempt=fence, failure=failure).state


def _is_ours(this: _Run, row: Round) -> bool:
    return row.job_id == this.context.job_id


@persisting
def _read(this: _Run) -> Round:
    with this.context.database.read() as session:
        return get_round(session, this.round_id)
