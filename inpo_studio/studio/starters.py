"""Starter prompts: what a newcomer labels by before writing prompts of their own."""

from __future__ import annotations

from sqlalchemy import select

from inpo_studio.postcards import starter_prompts
from inpo_studio.settings import EMBEDDED_MODEL
from inpo_studio.studio import Studio
from storage.prompts import add_prompts
from storage.schema import Prompt

STARTERS = 60


def add_starters(studio: Studio) -> int:
    """Give a workspace without prompts to label by those of the postcards; returns how many.

    Other models have no grammar of their own, so there the person's prompts begin.
    """
    if studio.settings.model != EMBEDDED_MODEL:
        return 0
    known = select(Prompt.id).where(Prompt.split != "held_out").limit(1)
    with studio.database.read() as session:
        if session.scalar(known) is not None:
            return 0
    texts = starter_prompts(STARTERS)
    with studio.database.write() as session:
        if session.scalar(known) is not None:
            return 0
        return len(add_prompts(session, texts, source="starter", kind="label"))
