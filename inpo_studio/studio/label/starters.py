"""Starter prompts: what a newcomer labels and compares by before writing prompts of their own."""

from __future__ import annotations

from sqlalchemy import select

from inpo_studio.postcards import starter_prompts
from inpo_studio.settings import EMBEDDED_MODEL
from inpo_studio.studio import Studio
from storage.prompts import add_prompts
from storage.schema import Prompt

STARTERS = 60
HELD_OUT_STARTERS = 24


def add_starters(studio: Studio) -> int:
    """Give a workspace the postcards' prompts where it has none; returns how many to label by.

    Some are to label by, others are held out for comparisons. Other models have no grammar of
    their own, so there the person's prompts begin.
    """
    if studio.settings.model != EMBEDDED_MODEL:
        return 0
    label = select(Prompt.id).where(Prompt.split != "held_out").limit(1)
    held_out = select(Prompt.id).where(Prompt.split == "held_out", Prompt.source == "starter")
    with studio.database.read() as session:
        if session.scalar(label) is not None and session.scalar(held_out.limit(1)) is not None:
            return 0
    texts = starter_prompts(STARTERS)
    unseen = held_out_starters()
    with studio.database.write() as session:
        if session.scalar(held_out.limit(1)) is None:
            add_prompts(session, unseen, source="starter", kind="compare")
        if session.scalar(label) is not None:
            return 0
        kept = set(session.scalars(select(Prompt.text).where(Prompt.split == "held_out")))
        free = [text for text in texts if text not in kept]
        return len(add_prompts(session, free, source="starter", kind="label"))


def held_out_starters() -> list[str]:
    """Return prompts of the postcards' grammar that are not among those to label by."""
    label = set(starter_prompts(STARTERS))
    drawn = starter_prompts(HELD_OUT_STARTERS + STARTERS, seed=1)
    return [text for text in drawn if text not in label][:HELD_OUT_STARTERS]
