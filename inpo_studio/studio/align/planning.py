"""What a round will be: its choices, its configuration, its parent, and how long it takes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from inpo_studio.configs import RoundConfig
from inpo_studio.studio import Studio
from inpo_studio.studio.align.estimates import Source, estimate
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.standing import USEFUL_CHOICES
from storage import model_states, rounds
from storage.adapters import get_adapter
from storage.choices import live
from storage.frozen import usable
from storage.schema import Answer, Choice, Pair, Prompt, Round, RoundPair, Split

STEPS_ROUNDED_TO = 10
MOST_DRAWINGS = 8
FULL_LENGTH_FROM = 14
USUALLY_LEARNT = 0.9 * USEFUL_CHOICES
"""Of the usual number of choices, those that are not on validation prompts."""

MOST_DISPLACEMENT = 0.035
"""Tastes about single places or colours come this far by themselves, brightness three times as
far, which costs what the prompt asks for."""

Which = Literal["all", "fresh"]


class Usable(NamedTuple):
    """What a plan needs of a choice that a round would freeze; there may be many thousands."""

    choice: Answer
    split: Split
    first_image_id: str
    second_image_id: str


@dataclass(frozen=True)
class RoundPlan:
    """What a round of the present choices would be."""

    config: RoundConfig
    clear: int
    """Choices it would learn from: sides and ties on training prompts."""
    validation: int
    """Choices it would be checked on: sides and ties on validation prompts."""
    ties: int
    """How many of `clear` are ties."""
    seconds: float | None
    """How long it will take; None where nothing is known to tell it by."""
    seconds_from: Source | None
    parent_number: int | None
    """The round it starts from; None is the base model."""


def plan_round(
    studio: Studio,
    *,
    changes: Mapping[str, Any] | None = None,
    which: Which = "all",
    annotators: Sequence[str] | None = None,
    parent: str | EllipsisType | None = ...,
) -> RoundPlan:
    """Return what `start_round` would start, arguments as there.

    Without choices it says so by `clear` 0. Raises StudioError for settings that cannot be used.
    """
    model = studio.settings.model
    with studio.database.read() as session:
        found = usable_choices(session, model, selection_of(which, annotators))
        learnt = [choice for choice in found if choice.split == "train"]
        before = find_parent(session, model, parent)
        config = configure(session, len(learnt), changes or {}, before)
        pictures = _new_pictures(session, model, found, before)
        seconds, seconds_from = estimate(session, studio.settings, config, pictures)
    return RoundPlan(
        config=config,
        clear=len(learnt),
        validation=len(found) - len(learnt),
        ties=sum(choice.choice == "tie" for choice in learnt),
        seconds=seconds,
        seconds_from=seconds_from,
        parent_number=None if before is None else before.number,
    )


def default_config(clear_choices: int) -> RoundConfig:
    """Return the configuration a round starts with for this many choices to learn from.

    A round never takes more pairs a step than there are. With fewer choices than are usual its
    learning rate falls, by the cube root, and each picture is inverted to more levels, as many as
    take the time that the usual number of pictures takes: few pairs are learnt by heart soon, and
    steps that are smaller and more different put that off. Below FULL_LENGTH_FROM choices it takes
    fewer steps as well, by the square root. None goes further from its reference than
    MOST_DISPLACEMENT.
    """
    usual = RoundConfig()
    batch = max(1, min(usual.batch_pairs, clear_choices))
    micro = usual.micro_batch_pairs if batch == usual.batch_pairs else batch
    few = min(1.0, max(1, clear_choices) / USUALLY_LEARNT)
    share = math.sqrt(min(1.0, max(1, clear_choices) / FULL_LENGTH_FROM))
    steps = math.ceil(usual.steps * share / STEPS_ROUNDED_TO) * STEPS_ROUNDED_TO
    changes = {
        "batch_pairs": batch,
        "micro_batch_pairs": micro,
        "steps": steps,
        "learning_rate": round(usual.learning_rate * few ** (1 / 3), 5),
        "levels": min(2 * usual.levels, int(usual.levels / few)),
        "most_displacement": MOST_DISPLACEMENT,
        "sample_every": _sample_every(steps, usual),
    }
    return usual.model_copy(update=changes)


def _sample_every(steps: int, usual: RoundConfig) -> int:
    """About four stretches in a short round and at most MOST_DRAWINGS in a long one."""
    every = max(1, min(usual.sample_every, steps // 4), math.ceil(steps / MOST_DRAWINGS))
    return every if every <= 5 else math.ceil(every / 5) * 5


def configure(
    session: Session, clear: int, changes: Mapping[str, Any], parent: Round | None
) -> RoundConfig:
    """Return the defaults for so many choices with `changes`, and what follows from both.

    What depends on a changed setting and is not given itself follows it; rank and alpha are
    those of the parent's adapter, which the new one starts as a copy of. Raises StudioError, one
    sentence, for a setting that is unknown or cannot be used.
    """
    usual = default_config(clear)
    asked = {name: value for name, value in changes.items() if value is not None}
    follows: dict[str, Any] = {}
    steps, batch, rank = (asked.get(name) for name in ("steps", "batch_pairs", "rank"))
    if isinstance(steps, int):
        follows["sample_every"] = _sample_every(steps, RoundConfig())
    if isinstance(batch, int) and batch > 0:
        most = min(batch, usual.micro_batch_pairs)
        follows["micro_batch_pairs"] = next(n for n in range(most, 0, -1) if batch % n == 0)
    if isinstance(rank, int):
        follows["alpha"] = rank * usual.alpha / usual.rank
    if parent is not None and parent.adapter_id is not None:
        adapter = get_adapter(session, parent.adapter_id)
        asked |= {"rank": adapter.rank, "alpha": adapter.alpha}
    try:
        return RoundConfig.model_validate({**usual.model_dump(), **follows, **asked})
    except ValidationError as error:
        raise StudioError(_sentence(error)) from error


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "extra_forbidden":
        return f"A round has no setting named {name!r}."
    message = first["msg"].removeprefix("Value error, ").rstrip(".")
    if not name:
        return f"{message}."
    return f"{name} cannot be {first['input']!r}: {message[0].lower()}{message[1:]}."


def selection_of(which: Which, annotators: Sequence[str] | None) -> dict[str, Any] | None:
    """Return which choices a round is to freeze, as its row holds it; None is all.

    Raises StudioError for an unknown kind or an empty list of names.
    """
    if which not in ("all", "fresh"):
        raise StudioError(f"A round learns from 'all' choices or the 'fresh' ones, not {which!r}.")
    if annotators is not None and not annotators:
        raise StudioError("Name at least one person whose choices to learn from, or leave it out.")
    if which == "all" and annotators is None:
        return None
    names = None if annotators is None else sorted(set(annotators))
    return {"which": which, "annotators": names}


def usable_choices(session: Session, model: str, selection: dict[str, Any] | None) -> list[Usable]:
    """Return the choices a round would freeze: sides and ties, on training and validation."""
    columns: list[Any] = [Choice.choice, Prompt.split, Pair.first_image_id, Pair.second_image_id]
    query = select(*columns).join(Choice.pair).join(Prompt, Pair.prompt_id == Prompt.id)
    rows = session.execute(usable(live(query, model), selection))
    return [Usable._make(row) for row in rows]


def find_parent(session: Session, model: str, parent: str | EllipsisType | None) -> Round | None:
    """Return the round to start from: the adopted one for Ellipsis, None for the base model.

    Raises NotFound for an unknown id, StudioError for a round without an adapter or of another
    model.
    """
    if parent is None:
        return None
    if isinstance(parent, EllipsisType):
        return model_states.adopted_round(session, model)
    found = rounds.get_round(session, parent)
    if found.model != model:
        raise StudioError(f"Round {found.number} is of another model; choose one of {model}.")
    if found.state != "done" or found.adapter_id is None:
        raise StudioError(f"Round {found.number} has no adapter to start from; finish it first.")
    return found


def _new_pictures(
    session: Session, model: str, found: Sequence[Usable], parent: Round | None
) -> int:
    """How many pictures no earlier round from this parent has inverted."""
    pictures = {
        image_id for choice in found for image_id in (choice.first_image_id, choice.second_image_id)
    }
    query = (
        select(RoundPair.winner_image_id, RoundPair.loser_image_id)
        .join(Round, RoundPair.round_id == Round.id)
        .where(Round.model == model, Round.state == "done")
        .where(Round.parent_id.is_not_distinct_from(None if parent is None else parent.id))
    )
    known = {image_id for row in session.execute(query) for image_id in row}
    return len(pictures - known)
