"""Rounds: start, stop, go on, adopt, and how they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any
from uuid import uuid4

from sqlalchemy.orm import Session

from inpo_studio.configs import RoundConfig
from inpo_studio.studio import Studio
from inpo_studio.studio.align.adopting import adopt_round, keep_checkpoint
from inpo_studio.studio.align.planning import (
    RoundPlan,
    Which,
    configure,
    default_config,
    find_parent,
    plan_round,
    selection_of,
    usable_choices,
)
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.logs import last_lines, round_log_path
from storage import metrics, model_states, rounds
from storage.adapters import get_adapter
from storage.progress import get_progress
from storage.schema import Adapter, Metric, Round, RoundRequest
from storage.transitions import WORKED_ON

__all__ = [
    "AT_REST",
    "ENDED",
    "RoundPlan",
    "RoundStatus",
    "adopt_round",
    "cancel_round",
    "default_config",
    "find_round",
    "finish_round",
    "keep_checkpoint",
    "pause_round",
    "plan_round",
    "resume_round",
    "round_log",
    "round_status",
    "start_round",
]

ENDED = ("done", "failed", "cancelled")
AT_REST = (*ENDED, "paused")


@dataclass(frozen=True)
class RoundStatus:
    """A round, its figures by step, and the adapter it made."""

    round: Round
    metrics: list[Metric]
    adapter: Adapter | None
    adapter_folder: Path | None
    note: str = ""
    """Before the first step: what the training waits for or prepares, as a sentence."""


def start_round(
    studio: Studio,
    *,
    changes: Mapping[str, Any] | None = None,
    which: Which = "all",
    annotators: Sequence[str] | None = None,
    parent: str | EllipsisType | None = ...,
    steps: int | None = None,
    objective: str | None = None,
    seed: int | None = None,
) -> Round:
    """Make a round of the present choices and hand it to the worker.

    `changes` are fields of RoundConfig in place of the defaults; `steps`, `objective` and `seed`
    are three of them by name. `which` is "fresh" for the choices no earlier round has learnt
    from, `annotators` names whose count. `parent` is a round's id to branch from, None for the
    base model, Ellipsis for the adopted round. Raises StudioError when there is nothing to learn
    from and for settings that cannot be used.
    """
    model = studio.settings.model
    selection = selection_of(which, annotators)
    asked = {**(changes or {}), **_named(steps=steps, objective=objective, seed=seed)}
    with studio.database.write() as session:
        found = usable_choices(session, model, selection)
        clear = sum(choice.split == "train" for choice in found)
        if not clear:
            raise StudioError(_nothing_to_learn(model, selection))
        before = find_parent(session, model, parent)
        config = configure(session, clear, asked, before)
        _same_rank(asked, config, before)
        made = rounds.create_round(
            session,
            model=model,
            parent_id=None if before is None else before.id,
            config=config.model_dump(),
            seed=config.seed,
            total_steps=config.steps,
            job_id=uuid4().hex,
            selection=selection,
        )
    _enqueue(studio, made)
    return made


def _named(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _nothing_to_learn(model: str, selection: dict[str, Any] | None) -> str:
    if selection is not None:
        return "None of these choices are left to learn from; take all choices, or label more."
    return (
        f"There are no choices to learn from for {model}; record some on training prompts "
        "with `inpo-studio choose` first."
    )


def _same_rank(asked: Mapping[str, Any], config: RoundConfig, parent: Round | None) -> None:
    """Refuse a rank that would silently be another: the adapter starts as a copy."""
    if parent is not None and asked.get("rank") not in (None, config.rank):
        raise StudioError(
            f"A round that starts from round {parent.number} has its rank ({config.rank}); leave "
            "the rank as it is, or start from the base model."
        )


def pause_round(studio: Studio, round_id: str) -> None:
    """Ask a round to stop after its present step, so that it can go on later."""
    _request(studio, round_id, "pause")


def cancel_round(studio: Studio, round_id: str) -> None:
    """Ask a round to stop for good; what it learnt is dropped."""
    _request(studio, round_id, "cancel")


def finish_round(studio: Studio, round_id: str) -> None:
    """Ask a round to end now and keep what it has learnt."""
    _request(studio, round_id, "finish")


def _request(studio: Studio, round_id: str, what: RoundRequest) -> None:
    with studio.database.write() as session:
        rounds.request(session, round_id, what)


def resume_round(studio: Studio, round_id: str) -> Round:
    """Put a paused or failed round back in the queue; it goes on from its last checkpoint."""
    with studio.database.write() as session:
        found = rounds.resume(session, round_id, job_id=uuid4().hex)
    _enqueue(studio, found)
    return found


def _enqueue(studio: Studio, found: Round) -> None:
    # A crash before this line is made good by the worker, which queues it under the same id.
    studio.engine.enqueue("round", {"round_id": found.id}, job_id=found.job_id)


def round_log(studio: Studio, round_id: str, lines: int = 8) -> list[str]:
    """Return the last lines that the training of a round has written, oldest first."""
    return last_lines(round_log_path(studio.settings, round_id), lines)


def find_round(studio: Studio, name: str | None) -> Round:
    """Return a round of the present model by id or number.

    None is the adopted one, else the latest one done. Raises StudioError when there is none.
    """
    model = studio.settings.model
    with studio.database.read() as session:
        mine = rounds.list_rounds(session, model)
        adopted = model_states.adopted_round(session, model)
    if name is not None:
        mine = [found for found in mine if name in (found.id, str(found.number))]
        if not mine:
            raise StudioError(f"There is no round {name} of {model} in this workspace.")
        return mine[0]
    if adopted is not None:
        return adopted
    done = [found for found in mine if found.state == "done"]
    if not done:
        raise StudioError(f"No round of {model} is done yet; run `inpo-studio align` first.")
    return max(done, key=lambda found: found.number)


def round_status(studio: Studio, round_id: str, after_step: int = -1) -> RoundStatus:
    """Return a round with its figures after `after_step`."""
    with studio.database.read() as session:
        found = rounds.get_round(session, round_id)
        figures = metrics.list_metrics(session, round_id, after_step=after_step)
        adapter = None if found.adapter_id is None else get_adapter(session, found.adapter_id)
        note = _note(session, found)
    folder = None if adapter is None else studio.settings.workspace / adapter.folder
    return RoundStatus(found, figures, adapter, folder, note)


def _note(session: Session, found: Round) -> str:
    if found.stage not in (None, "freeze", "cache") or found.state not in WORKED_ON:
        return ""
    told = None if found.job_id is None else get_progress(session, found.job_id)
    return "" if told is None else told.note
