"""Rows to test with, by the functions that the program itself uses."""

from __future__ import annotations

import hashlib
from itertools import count
from typing import Any

from sqlalchemy import update
from sqlalchemy.orm import Session

from storage.adapters import add_adapter
from storage.choices import record_choice
from storage.images import add_image
from storage.pairs import add_pair
from storage.prompts import add_prompts
from storage.rounds import claim_attempt, create_round, set_state
from storage.schema import Answer, Choice, Image, Pair, Prompt, Round, RoundState

MODEL = "postcards"
_numbers = count()


def a_prompt(session: Session, text: str = "a house by the sea") -> Prompt:
    return add_prompts(session, [text], "own")[0]


def an_image(session: Session, prompt: Prompt, seed: int | None = None, **values: Any) -> Image:
    seed = next(_numbers) if seed is None else seed
    made: dict[str, Any] = {
        "sha256": hashlib.sha256(str(seed).encode()).hexdigest(),
        "width": 128,
        "height": 128,
        "model": MODEL,
        "adapter_id": None,
        "guidance": 3.0,
        "steps": 20,
    }
    made |= values
    made |= {"adapter_on": made["adapter_id"] and "prompt"}
    return add_image(session, prompt_id=prompt.id, seed=seed, **made)


def a_pair(session: Session, prompt: Prompt | None = None, **values: Any) -> Pair:
    prompt = prompt or a_prompt(session)
    first, second = an_image(session, prompt, **values), an_image(session, prompt, **values)
    return add_pair(
        session, prompt_id=prompt.id, first_image_id=first.id, second_image_id=second.id
    )


def a_choice(
    session: Session, pair: Pair, choice: Answer = "left", *, flipped: bool = False, **values: Any
) -> Choice:
    """A click; `flipped` shows the pair's second image on the left."""
    shown = [pair.first_image_id, pair.second_image_id]
    left, right = reversed(shown) if flipped else shown
    made: dict[str, Any] = {"key": f"key-{next(_numbers)}", "annotator": "ann", "milliseconds": 800}
    made |= {"pair_id": pair.id, "left_image_id": left, "right_image_id": right}
    return record_choice(session, choice=choice, **(made | values))


def a_round(session: Session, **values: Any) -> Round:
    made: dict[str, Any] = {"model": MODEL, "config": {"beta": 2000.0}, "seed": 1}
    return create_round(session, **(made | values))


def put_in_state(session: Session, row: Round, state: RoundState) -> None:
    """Set a state by force, past the machine under test."""
    session.execute(update(Round).where(Round.id == row.id).values(state=state))
    session.refresh(row)


def a_done_round(session: Session, **values: Any) -> Round:
    row = a_round(session, **values)
    attempt = claim_attempt(session, row.id)
    add_adapter(
        session,
        sha256=hashlib.sha256(row.id.encode()).hexdigest(),
        folder=f"adapters/{row.id}",
        model=row.model,
        rank=8,
        alpha=8.0,
        step=60,
        round_id=row.id,
        attempt=attempt,
    )
    return set_state(session, row.id, "done", attempt=attempt)
