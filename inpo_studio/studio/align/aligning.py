"""What the Align page shows of the next round, and how it is started.

The tree of all rounds is in `lineage`, the round that is watched in `watching`.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Literal, get_args

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inpo_studio.configs import Objective
from inpo_studio.studio import Studio
from inpo_studio.studio.align.planning import RoundPlan, plan_round
from inpo_studio.studio.align.round_words import OBJECTIVES, STATES, about, some
from inpo_studio.studio.align.rounds import start_round
from inpo_studio.studio.align.watching import at_work
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.standing import USEFUL_CHOICES, standing
from storage import model_states, rounds
from storage.choices import DECIDED
from storage.schema import Choice, Pair, Prompt, Round

LEAST_CHOICES = 8
"""Clear choices below which the page starts no round: one step's worth of pairs."""

_starting = threading.Lock()


@dataclass(frozen=True)
class Wish:
    """What a person asks of the next round; an empty one asks for what is usual."""

    changes: Mapping[str, Any] = field(default_factory=dict)
    """Fields of RoundConfig."""
    which: Literal["all", "fresh"] = "all"
    annotators: tuple[str, ...] | None = None
    parent: str | EllipsisType | None = ...
    """A round's id, None for the base model, Ellipsis for the adopted round."""


@dataclass(frozen=True)
class Labeller:
    """A person who labels, and how many of their choices a round can learn from."""

    name: str
    clear: int


@dataclass(frozen=True)
class Offered:
    """An objective to choose, and what it does in one sentence."""

    name: str
    label: str
    note: str


@dataclass(frozen=True)
class Plan:
    """What the start card says of the next round."""

    ready: bool
    button: str
    sentence: str
    hint: str
    """What would make the round better; empty when there is nothing to say."""
    clear: int
    goal: int
    usual: dict[str, Any]
    """What the drawer's fields stand at when nobody fills them in."""
    adopted_number: int | None
    paused: int | None
    """The number of a round that waits to be resumed."""
    labellers: list[Labeller]
    objectives: list[Offered]


def plan_next(studio: Studio, wish: Wish | None = None) -> Plan:
    """Return what the next round would do; StudioError for what cannot be asked."""
    wish = wish or Wish()
    asked: dict[str, Any] = {
        "which": wish.which,
        "annotators": _listed(wish),
        "parent": wish.parent,
    }
    usual = plan_round(studio, **asked)
    plan = plan_round(studio, changes=wish.changes, **asked) if wish.changes else usual
    stands = standing(studio)
    with studio.database.read() as session:
        adopted = model_states.adopted_round(session, studio.settings.model)
        labellers = _labellers(session, studio.settings.model)
        resting = rounds.list_rounds(session, studio.settings.model, "paused")
    paused = resting[-1].number if resting else None
    return Plan(
        ready=plan.clear >= LEAST_CHOICES,
        button=_button(plan, wish, len(labellers)),
        sentence=_sentence(plan),
        hint=(
            f"Round {paused} is paused: resume it below, or start another one."
            if paused is not None and plan.clear >= LEAST_CHOICES
            else _hint(plan, wish, bool(stands.rounds), stands.fresh)
        ),
        clear=plan.clear,
        goal=USEFUL_CHOICES,
        usual=usual.config.model_dump(),
        adopted_number=None if adopted is None else adopted.number,
        paused=paused,
        labellers=labellers,
        objectives=[
            Offered(name, *OBJECTIVES.get(name, (name, ""))) for name in get_args(Objective)
        ],
    )


def begin(studio: Studio, wish: Wish) -> Round:
    """Start the round that was asked for.

    Raises StudioError while another one is at work and where there are too few choices.
    """
    with _starting:
        active = _active(studio)
        if active is not None:
            raise StudioError(
                f"Round {active.number} is {STATES[active.state][0]}; the next one can start when "
                "it has ended or rests."
            )
        plan = plan_next(studio, wish)
        if not plan.ready:
            raise StudioError(plan.sentence)
        return start_round(
            studio,
            changes=dict(wish.changes),
            which=wish.which,
            annotators=_listed(wish),
            parent=wish.parent,
        )


def _listed(wish: Wish) -> list[str] | None:
    return None if wish.annotators is None else list(wish.annotators)


def _active(studio: Studio) -> Round | None:
    with studio.database.read() as session:
        return at_work(rounds.list_rounds(session, studio.settings.model))


def _labellers(session: Session, model: str) -> list[Labeller]:
    query = (
        select(Choice.annotator, func.count(Choice.id))
        .join(Choice.pair)
        .join(Prompt, Pair.prompt_id == Prompt.id)
        .where(Pair.model == model, Choice.undone_at.is_(None), Choice.choice.in_(DECIDED))
        .where(Prompt.split == "train")
        .group_by(Choice.annotator)
        .order_by(func.count(Choice.id).desc(), Choice.annotator)
    )
    return [Labeller(row[0], row[1]) for row in session.execute(query)]


def _button(plan: RoundPlan, wish: Wish, labellers: int) -> str:
    if not plan.clear:
        return "Align on my choices"
    whose = "my" if labellers <= 1 and wish.annotators is None else "these"
    fresh = "new " if wish.which == "fresh" else ""
    return f"Align on {whose} {some(plan.clear, f'{fresh}choice', f'{fresh}choices')}"


def _sentence(plan: RoundPlan) -> str:
    """One sentence: what a press of the button does and how long that takes."""
    if plan.clear < LEAST_CHOICES:
        missing = LEAST_CHOICES - plan.clear
        there = "there are none yet" if not plan.clear else f"there are {plan.clear}"
        there = "there is 1" if plan.clear == 1 else there
        return (
            f"A round needs at least {LEAST_CHOICES} clear choices (left, right or both good) and "
            f"{there}: label {missing} more, and you can start."
        )
    start = "the base model" if plan.parent_number is None else f"round {plan.parent_number}"
    held = some(plan.validation, "choice", "choices")
    checked = f", checks it on {held} it does not learn from" if plan.validation else ""
    return (
        f"Trains a small adapter on top of {start} for "
        f"{some(plan.config.steps, 'step', 'steps')}{checked}, {_how_long(plan)}; you can go on "
        "labelling meanwhile."
    )


def _how_long(plan: RoundPlan) -> str:
    if plan.seconds is None:
        return "and takes a time that is not known before a first round has run here"
    source = {
        "earlier rounds": ", going by earlier rounds here",
        "this model's usual": ", as this model usually does on a CPU",
    }.get(plan.seconds_from or "", "")
    return f"and takes {about(plan.seconds)}{source}"


def _hint(plan: RoundPlan, wish: Wish, rounds_before: bool, fresh: int) -> str:
    if plan.clear < LEAST_CHOICES:
        return f"{USEFUL_CHOICES} is where simulated tastes were learnt well."
    if rounds_before and fresh == 0 and wish.which == "all":
        return (
            "Every choice has been in a round already; new pairs would teach it more than the "
            "same ones again."
        )
    missing = USEFUL_CHOICES - plan.clear
    if missing > 0:
        more = some(missing, "more choice", "more choices")
        return (
            f"You can start now; {more} would make it surer: {USEFUL_CHOICES} is where simulated "
            "tastes were learnt well."
        )
    return ""
