"""Prompts: those to label by and those kept for comparisons."""

from __future__ import annotations

from collections.abc import Sequence

from inpo_studio.studio import Studio
from storage.prompts import add_prompts
from storage.schema import Prompt


def label_prompts(studio: Studio, texts: Sequence[str]) -> list[Prompt]:
    """Return the prompts with these texts, in order; new ones join train, one in ten validation.

    Raises HeldOutPrompt when one of them is kept for comparisons.
    """
    with studio.database.write() as session:
        return add_prompts(session, texts, source="own", kind="label")


def comparison_prompts(studio: Studio, texts: Sequence[str]) -> list[Prompt]:
    """Return the prompts with these texts, in order; new ones are held out for good."""
    with studio.database.write() as session:
        return add_prompts(session, texts, source="comparison", kind="compare")
