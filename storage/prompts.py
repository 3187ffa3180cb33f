"""Prompts and the split that each draws once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from storage.checks import checked_text, get_row, next_number
from storage.errors import HeldOutPrompt
from storage.schema import Prompt, PromptSource, Split

MAX_PROMPT_BYTES = 2000


def add_prompts(
    session: Session,
    texts: Iterable[str],
    source: PromptSource,
    kind: Literal["label", "compare"] = "label",
) -> list[Prompt]:
    """The prompts of `texts`, in order, made where they are new; repeated texts once.

    New prompts of kind "label" become train, one in ten of them validation; new ones of kind
    "compare" are held out. A known prompt keeps its split and source. Raises HeldOutPrompt if
    a prompt to label is held out, InvalidInput if a text is empty, longer than
    MAX_PROMPT_BYTES or cannot be stored.
    """
    wanted = list(dict.fromkeys(checked_text(text, "prompt", MAX_PROMPT_BYTES) for text in texts))
    position = next_number(session, Prompt.position)
    labelled = session.scalar(
        select(func.count()).select_from(Prompt).where(Prompt.split != "held_out")
    )
    labelled = labelled or 0
    prompts = []
    for text in wanted:
        prompt = find_prompt(session, text)
        if prompt is None:
            split: Split = "held_out" if kind == "compare" else label_split(labelled)
            labelled += kind == "label"
            prompt = Prompt(text=text, split=split, source=source, position=position)
            position += 1
            session.add(prompt)
            session.flush()
        elif kind == "label":
            refuse_held_out(prompt)
        prompts.append(prompt)
    return prompts


def label_split(index: int) -> Split:
    """The split of the prompt that `index` (0-based) prompts to label came before.

    Each ten in a row hold exactly one validation prompt, at a fixed place in their second half
    that varies between tens, so that neither a short list nor an order in the list decides.
    """
    ten, place = divmod(index, 10)
    digest = hashlib.sha256(f"validation place of ten {ten}".encode()).digest()
    return "validation" if place == 5 + digest[0] % 5 else "train"


def refuse_held_out(prompt: Prompt) -> None:
    """Raise HeldOutPrompt if pairs on this prompt would leak what comparisons judge by."""
    if prompt.split == "held_out":
        raise HeldOutPrompt(
            f"The prompt {prompt.text!r} is held out for comparisons; "
            "make pairs on another prompt so that nothing is judged on what it was trained on."
        )


def find_prompt(session: Session, text: str) -> Prompt | None:
    """The prompt with this text, white space around it ignored."""
    return session.scalar(select(Prompt).where(Prompt.text == text.strip()))


def get_prompt(session: Session, prompt_id: str) -> Prompt:
    """The prompt with this id; NotFound if there is none."""
    return get_row(session, Prompt, prompt_id)


def list_prompts(session: Session, split: Split | None = None) -> list[Prompt]:
    """All prompts, or those of one split, oldest first."""
    query = select(Prompt).order_by(Prompt.position)
    if split is not None:
        query = query.where(Prompt.split == split)
    return list(session.scalars(query))
