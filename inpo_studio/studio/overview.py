"""Where the present model's part of the workspace stands."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import func, select

from inpo_studio.studio import Studio
from storage.model_states import adopted_round
from storage.pairs import count_ready
from storage.rounds import list_rounds
from storage.schema import Choice, Pair, Prompt


@dataclass(frozen=True)
class Overview:
    """Counts for the present model."""

    prompts: int
    """Prompts to label by; those held out are not counted."""
    pairs_ready: int
    """Pairs of the present policy that nobody chose on."""
    choices: int
    rounds: int
    """Rounds that are done."""
    adopted: int | None
    """Number of the round that new pairs are made with; None is the base model."""


def overview(studio: Studio) -> Overview:
    """Read the counts in one transaction."""
    model = studio.settings.model
    prompts = select(func.count()).select_from(Prompt).where(Prompt.split != "held_out")
    choices = select(func.count(Choice.id)).join(Choice.pair)
    choices = choices.where(Pair.model == model, Choice.undone_at.is_(None))
    with studio.database.read() as session:
        adopted = adopted_round(session, model)
        adapter_id = None if adopted is None else adopted.adapter_id
        return Overview(
            prompts=session.scalar(prompts) or 0,
            pairs_ready=count_ready(session, model, adapter_id),
            choices=session.scalar(choices) or 0,
            rounds=len(list_rounds(session, model, "done")),
            adopted=None if adopted is None else adopted.number,
        )
