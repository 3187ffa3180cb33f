"""The round that the Align page watches: where it is, its figures, its samples, its log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from inpo_studio.studio import Studio
from inpo_studio.studio.align.imported import trained
from inpo_studio.studio.align.lineage import actions_of, first_line
from inpo_studio.studio.align.round_facts import Picture, counts_of_pairs, pictures
from inpo_studio.studio.align.round_words import STAGES, WISHES, Tone, chip
from inpo_studio.studio.align.rounds import round_log
from storage import metrics, rounds
from storage.errors import NotFound
from storage.remarks import read_remark
from storage.samples import list_samples
from storage.schema import Metric, Round
from storage.transitions import WORKED_ON

RECENT_STEPS = 10
"""Steps whose seconds the time left is told from."""
LOG_LINES = 12
FIGURES = (
    "step",
    "loss",
    "train_ranked_right",
    "validation_ranked_right",
    "margin",
    "validation_margin",
    "winner_error",
    "loser_error",
)
"""The columns of `Watched.figures`."""


@dataclass(frozen=True)
class Watched:
    """One round as it is at the moment."""

    id: str
    number: int
    state: str
    state_word: str
    tone: Tone
    doing: str
    step: int
    total_steps: int
    attempt: int
    seconds_left: float | None
    """From the seconds of recent steps; None while it does not train."""
    failure: str
    actions: list[str]
    validation_pairs: int
    """Decided pairs that the validation figures are measured on."""
    figures: list[list[float | None]]
    """Rows of FIGURES, those after the step that was asked for."""
    afresh: bool
    """Whether the rows stand in place of all that came before."""
    samples: list[Picture]
    log: list[str]


def to_watch(studio: Studio) -> str | None:
    """Return the id of the round at work, else of the latest one; None without any.

    An imported adapter has nothing to watch.
    """
    with studio.database.read() as session:
        found = [row for row in rounds.list_rounds(session, studio.settings.model) if trained(row)]
    chosen = at_work(found) or (found[-1] if found else None)
    return None if chosen is None else chosen.id


def at_work(found: Sequence[Round]) -> Round | None:
    """Return the latest of these rounds that waits for the worker or is worked on."""
    return next((r for r in reversed(found) if r.state in ("queued", *WORKED_ON)), None)


def watched(
    studio: Studio,
    round_id: str,
    *,
    after_step: int = -1,
    attempt: int | None = None,
    with_log: bool = False,
) -> Watched:
    """Return a round with its figures after a step; NotFound where there is no such round.

    A training that went on from a checkpoint measures the steps beyond it anew, so all figures
    come again when the attempt is not the one the asker knows.
    """
    with studio.database.read() as session:
        row = round_of_model(session, studio.settings.model, round_id)
        afresh = after_step < 0 or attempt != row.attempt
        measured = metrics.list_metrics(session, row.id, after_step=-1 if afresh else after_step)
        recent = _recent_seconds(session, row.id)
        samples = pictures(list_samples(session, row.id))
        counted = counts_of_pairs(session, row.model, row.id).get(row.id)
    word, tone = chip(row.state, row.stage)
    return Watched(
        id=row.id,
        number=row.number,
        state=row.state,
        state_word=word,
        tone=tone,
        doing=_doing(row, read_remark(studio.settings.workspace / "rounds" / row.id)),
        step=row.step,
        total_steps=row.total_steps,
        attempt=row.attempt,
        seconds_left=_seconds_left(row, recent),
        failure=first_line(row.failure),
        actions=actions_of(row),
        validation_pairs=0 if counted is None else counted.checked,
        figures=[[getattr(found, name) for name in FIGURES] for found in measured],
        afresh=afresh,
        samples=samples,
        log=round_log(studio, row.id, LOG_LINES) if with_log else [],
    )


def round_of_model(session: Session, model: str, round_id: str) -> Round:
    """Return a round of this model; NotFound for one of another."""
    row = rounds.get_round(session, round_id)
    if row.model != model:
        raise NotFound(f"There is no such round of {model}; reload the page.")
    return row


def _doing(row: Round, remark: str) -> str:
    if row.state in WISHES:
        return WISHES[row.state]
    if row.state == "done":
        early = row.step < row.total_steps
        ended = f"early, after {row.step} of {row.total_steps}" if early else f"after {row.step}"
        return (
            f"Finished {ended} steps. The curves tell how well it learnt your choices; whether you "
            "like it better, a blind vote under Compare tells."
        )
    doing = STAGES[row.stage] if row.stage else "Starting"
    return f"{doing}. {remark}" if remark and row.stage in ("cache", "train") else doing


def _recent_seconds(session: Session, round_id: str) -> list[float]:
    query = select(Metric.seconds).where(Metric.round_id == round_id, Metric.seconds.is_not(None))
    return [s for s in session.scalars(query.order_by(Metric.step.desc()).limit(RECENT_STEPS)) if s]


def _seconds_left(row: Round, recent: Sequence[float]) -> float | None:
    if row.state != "running" or row.stage != "train" or not recent:
        return None
    return max(0, row.total_steps - row.step) * sum(recent) / len(recent)
