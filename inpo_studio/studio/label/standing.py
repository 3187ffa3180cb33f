"""How far the labelling is: towards a useful round, and what the choices went into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, exists, func, select

from inpo_studio.studio import Studio
from inpo_studio.studio.label.pairs import policy_adapter
from storage.frozen import count_frozen
from storage.pairs import count_ready
from storage.rounds import list_rounds
from storage.schema import Choice, Pair, Prompt, Round, RoundPair, RoundState
from storage.transitions import WORKED_ON

USEFUL_CHOICES = 64
"""Clear choices from which trials with simulated tastes learnt a plain taste."""
_CLEAR = ("left", "right", "tie")
_IN_VAIN = ("failed", "cancelled")
"""States of rounds that nothing came of."""


@dataclass(frozen=True)
class WentInto:
    """A round and how many choices it learns or learnt from."""

    number: int
    state: RoundState
    choices: int


@dataclass(frozen=True)
class Standing:
    """Counts for the present model, over everybody who labels."""

    choices: int
    """All that are not undone."""
    clear: int
    """Those a round can learn from: a side or a tie, on a training prompt."""
    fresh: int
    """Clear ones that no round has learnt from yet."""
    goal: int
    ready: int
    """Pairs nobody has chosen on; with overlap, that the person asking has not chosen on."""
    prompts: int
    """Prompts to label by."""
    round_runs: bool
    """A round holds the worker, so that few or no pairs are made meanwhile."""
    rounds: list[WentInto]
    problem: str
    """Why no pairs are made; empty while all is well."""


def standing(studio: Studio, annotator: str | None = None) -> Standing:
    """Read the counts in one transaction; `annotator` is who asks."""
    model = studio.settings.model
    asking = annotator if studio.settings.overlap else None
    with studio.database.read() as session:
        rounds = list_rounds(session, model)
        frozen = count_frozen(session, model)
        adapter_id = policy_adapter(session, model)
        ready = count_ready(session, model, adapter_id, asking)
        counts: list[int] = [
            session.scalar(query) or 0
            for query in (_live(model), _clear(model), _fresh(model), _prompts())
        ]
    runs = any(found.state in ("queued", *WORKED_ON) for found in rounds)
    return Standing(
        choices=counts[0],
        clear=counts[1],
        fresh=counts[2],
        goal=USEFUL_CHOICES,
        ready=ready,
        prompts=counts[3],
        round_runs=runs,
        rounds=[
            WentInto(found.number, found.state, frozen[found.id])
            for found in rounds
            if found.id in frozen and found.state not in _IN_VAIN
        ],
        problem="" if ready else _problem(studio),
    )


def _live(model: str) -> Select[Any]:
    query = select(func.count(Choice.id)).join(Choice.pair)
    return query.where(Pair.model == model, Choice.undone_at.is_(None))


def _clear(model: str) -> Select[Any]:
    query = _live(model).join(Prompt, Pair.prompt_id == Prompt.id)
    return query.where(Choice.choice.in_(_CLEAR), Prompt.split == "train")


def _fresh(model: str) -> Select[Any]:
    learnt = (
        exists()
        .where(RoundPair.choice_id == Choice.id, RoundPair.round_id == Round.id)
        .where(Round.state.not_in(_IN_VAIN))
    )
    return _clear(model).where(~learnt)


def _prompts() -> Select[Any]:
    return select(func.count()).select_from(Prompt).where(Prompt.split != "held_out")


def _problem(studio: Studio) -> str:
    latest = studio.engine.latest("pairs")
    return (latest.error or "") if latest is not None and latest.state == "failed" else ""
