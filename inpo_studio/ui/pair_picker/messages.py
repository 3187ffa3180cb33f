"""What the pair picker's page sends: checked before anything is done with it."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from inpo_studio.ui.answering import StudioMessage
from storage.schema import Answer

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Key = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class AnyMessage(StudioMessage):
    """What every message says."""

    model_config = ConfigDict(strict=True)

    page: Id
    """A name the browser drew for this page; it tells pages of one person apart."""


class Wanted(AnyMessage):
    """Pairs to show next, beside those the page holds."""

    holding: list[Id] = Field(default_factory=list, max_length=500)
    want: int = Field(ge=0, le=20)
    standing: bool = False
    """Whether to say how far the labelling is, too."""


class Pressed(AnyMessage):
    """A choice as it was shown."""

    key: Key
    pair_id: Id
    choice: Answer
    left_image_id: Id
    right_image_id: Id
    milliseconds: int | None = Field(None, ge=0, lt=2**31)


class Regretted(AnyMessage):
    """A choice to undo, by the key it was sent with."""

    key: Key


class Remembered(AnyMessage):
    """Earlier choices, from a position backwards."""

    before: int | None = Field(None, ge=0, lt=2**31)
