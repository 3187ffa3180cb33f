"""What the blind vote's page sends: checked before anything is done with it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from inpo_studio.studio.compare.trials import MORE, MOST_PLANNED, PLANNED
from inpo_studio.ui.pair_picker.messages import AnyMessage, Key
from storage.schema import Answer

Token = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
Number = Annotated[int, Field(ge=1, lt=2**31)]
Which = Literal["all", "own"]


class Looked(AnyMessage):
    """What can be voted on, and the trials so far."""


class Started(AnyMessage):
    """A new trial of a round, by number, against another one or the base model."""

    round: Number
    against: Number | None = None
    planned: int = Field(PLANNED, ge=1, le=MOST_PLANNED)
    prompts: Which = "all"


class OnTrial(AnyMessage):
    """Something about one trial, by number."""

    trial: Number


class Wanted(OnTrial):
    """Items to vote on next, beside those the page holds."""

    holding: list[Token] = Field(default_factory=list, max_length=500)
    want: int = Field(ge=0, le=12)


class Cast(OnTrial):
    """A vote as it was shown: `left` is the picture that was on the left."""

    key: Key
    ticket: Token
    choice: Answer
    left: Token
    milliseconds: int | None = Field(None, ge=0, lt=2**31)


class Regretted(AnyMessage):
    """A vote to undo, by the key it was sent with; `again` asks for its item anew."""

    key: Key
    again: bool = False


class Extended(OnTrial):
    """More votes for a trial that is complete."""

    more: int = Field(MORE, ge=1, le=MOST_PLANNED)
