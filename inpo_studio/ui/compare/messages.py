"""What the Compare page sends: checked before anything is done with it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from inpo_studio.configs import AdapterOn
from inpo_studio.studio.compare.drawing import MOST_STRENGTH
from inpo_studio.studio.compare.views import View
from inpo_studio.ui.answering import StudioMessage

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
MOST_PROMPTS = 600
MOST_SEEDS = 8
MOST_STEPS = 150
MOST_GUIDANCE = 30.0


class Message(StudioMessage):
    """What every message says: the view that the page shows."""

    base: Id | None = None
    round: Id | None = None
    guidance: float = Field(3.0, ge=0.0, le=MOST_GUIDANCE, allow_inf_nan=False)
    steps: int = Field(20, ge=1, le=MOST_STEPS)
    seeds: int = Field(1, ge=1, le=MOST_SEEDS)
    prompts: int = Field(12, ge=1, le=MOST_PROMPTS)
    adapter_on: AdapterOn = "prompt"

    @property
    def view(self) -> View:
        """The view in the studio's words."""
        return View(
            *(self.base, self.round, self.guidance, self.steps, self.seeds, self.prompts),
            adapter_on=self.adapter_on,
        )


class Looked(Message):
    """The page wants to see its view as it stands."""

    opened: bool = False
    """Whether it is the first look of a page, after which pictures will soon be asked for."""


class Wanted(Message):
    """The pictures that the view lacks."""

    again: bool = False
    """Ask for them even while others of the view are being drawn."""
    first: Id | None = None
    """The prompt that is looked at, which is drawn first."""


class Stopped(Message):
    """No more pictures of this view."""


class OneWanted(Message):
    """One prompt at one seed and strength."""

    prompt: str = Field(min_length=1, max_length=2000)
    seed: int = Field(ge=0, lt=2**32)
    strength: float = Field(1.0, ge=0.0, le=MOST_STRENGTH, allow_inf_nan=False)
    instead: Id | None = None
    """The job of a picture that is not wanted any more."""


class OneLooked(Message):
    """How a picture stands that was asked for by itself."""

    job: Id
