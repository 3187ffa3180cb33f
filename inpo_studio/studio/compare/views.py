"""What a person looks at under Compare: which two sides, and how their pictures are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from inpo_studio.configs import AdapterOn, GenerationConfig
from inpo_studio.studio import Studio
from inpo_studio.studio.compare.comparisons import Side
from inpo_studio.studio.errors import StudioError
from storage.guiding import adapter_on
from storage.rounds import get_round
from storage.schema import Comparison, Round

AT_ONCE = 4
"""Pictures drawn together: few, so that the grid fills while one watches."""


@dataclass(frozen=True)
class View:
    """What a page asks to see; with a `round_id` of None the studio chooses both sides."""

    base: Side = None
    round_id: str | None = None
    guidance: float = 3.0
    steps: int = 20
    seeds: int = 1
    """Seeds a prompt, from 0 on."""
    prompts: int = 12
    """Held-out prompts, the person's own ones first."""
    adapter_on: AdapterOn = "prompt"
    """The predictions of guidance that adapters change; `both` as in other programs."""

    @property
    def generation(self) -> GenerationConfig:
        """How its pictures are made."""
        return GenerationConfig(
            guidance=self.guidance,
            steps=self.steps,
            batch_size=AT_ONCE,
            adapter_on=self.adapter_on,
        )

    @property
    def name(self) -> str:
        """A name for the jobs that draw for it, whatever prompts and seeds they draw."""
        sides = self.base or "base", self.round_id or ""
        return ":".join((*sides, repr(self.guidance), str(self.steps), self.adapter_on))


def drawn_so(session: Session, view: View) -> Callable[[Comparison], bool]:
    """What tells whether both pictures of a comparison were drawn as a view asks for."""

    def made_with(round_id: str | None) -> tuple[object, ...]:
        row = None if round_id is None else get_round(session, round_id)
        side = None if row is None else adapter_on(session, row, view.adapter_on)
        return (view.guidance, view.steps, "", side)

    expected = made_with(view.base), made_with(view.round_id)

    def are(row: Comparison) -> bool:
        found = tuple(
            (image.guidance, image.steps, image.negative_prompt, image.adapter_on)
            for image in (row.base_image, row.aligned_image)
        )
        return found == expected

    return are


def sides_of(studio: Studio, session: Session, view: View) -> tuple[Round, Round | None]:
    """Return the aligned round and the other side; StudioError unless of the present model."""
    if view.round_id is None:
        raise StudioError("Choose a round to compare first.")
    aligned = get_round(session, view.round_id)
    base = None if view.base is None else get_round(session, view.base)
    if any(side is not None and side.model != studio.settings.model for side in (aligned, base)):
        raise StudioError("One of the sides is of another model; choose them again.")
    return aligned, base
