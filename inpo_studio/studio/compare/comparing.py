"""What the Compare page shows: two sides, and pictures by both of the same prompts and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from inpo_studio.settings import EMBEDDED_MODEL
from inpo_studio.studio import Studio
from inpo_studio.studio.compare.drawing import Drawing, draw_cells, drawing
from inpo_studio.studio.compare.views import View, drawn_so
from storage.model_states import adopted_round
from storage.prompts import list_prompts
from storage.rounds import get_round, list_rounds
from storage.schema import Comparison, Prompt, Round, TrialItem
from storage.transitions import WORKED_ON


@dataclass(frozen=True)
class SideShown:
    """One entry of the pickers; an empty id is the base model."""

    id: str
    number: int | None
    parent_number: int | None
    adopted: bool


@dataclass(frozen=True)
class Cell:
    """One prompt at one seed, and its two pictures where they have been drawn."""

    prompt_id: str
    prompt: str
    seed: int
    labelled: bool
    """Rounds may have learnt from this prompt, so that it says less."""
    own: bool
    comparison_id: str | None = None
    base_image_id: str | None = None
    aligned_image_id: str | None = None


@dataclass(frozen=True)
class Comparing:
    """The page: `state` is "empty" where there is no round to compare yet."""

    state: Literal["empty", "open"]
    sides: list[SideShown]
    training: int | None
    """The number of a round that holds the worker, so that pictures wait for its end."""
    view: View
    cells: list[Cell] = field(default_factory=list)
    missing: int = 0
    more: int = 0
    """Held-out prompts beyond those shown."""
    by_itself: bool = False
    """Whether missing pictures are cheap enough to be drawn without being asked for."""
    drawing: Drawing | None = None


def comparing(studio: Studio, asked: View) -> Comparing:
    """Read what a view shows. Raises StudioError for sides that cannot be compared."""
    model = studio.settings.model
    with studio.database.read() as session:
        rounds = list_rounds(session, model)
        adopted = adopted_round(session, model)
        done = [found for found in rounds if found.state == "done" and found.adapter_id]
        training = next((r.number for r in rounds if r.state in ("queued", *WORKED_ON)), None)
        sides = _sides(rounds, done, None if adopted is None else adopted.id)
        if not done:
            return Comparing("empty", sides, training, asked)
        view = _chosen(asked, done)
        cells, more = _cells(session, view)
    missing = sum(cell.comparison_id is None for cell in cells)
    return Comparing(
        state="open",
        sides=sides,
        training=training,
        view=view,
        cells=cells,
        missing=missing,
        more=more,
        by_itself=model == EMBEDDED_MODEL,
        drawing=drawing(studio, view.name),
    )


def draw_missing(
    studio: Studio, asked: View, *, first: str | None = None, again: bool = False
) -> None:
    """Ask for the pictures that a view lacks, those of the prompt with the id `first` at first.

    With `again` even while others of the view are being drawn.
    """
    shown = comparing(studio, asked)
    lacking = [cell for cell in shown.cells if cell.comparison_id is None]
    lacking.sort(key=lambda cell: cell.prompt_id != first)
    cells = [(cell.prompt, cell.seed) for cell in lacking]
    draw_cells(studio, shown.view, cells, again=again)


def _sides(rounds: Sequence[Round], done: Sequence[Round], adopted: str | None) -> list[SideShown]:
    numbers = {found.id: found.number for found in rounds}
    base = SideShown("", None, None, adopted is None)
    return [base] + [
        SideShown(r.id, r.number, numbers.get(r.parent_id or ""), r.id == adopted)
        for r in reversed(done)
    ]


def _chosen(asked: View, done: Sequence[Round]) -> View:
    """The view with its sides settled: by default base beside the newest round."""
    known = {found.id for found in done}
    round_id = asked.round_id if asked.round_id in known else done[-1].id
    base = asked.base if asked.base in known and asked.base != round_id else None
    return replace(asked, base=base, round_id=round_id)


def _cells(session: Session, view: View) -> tuple[list[Cell], int]:
    """The view's cells in order, and how many held-out prompts it leaves out."""
    drawn = _drawn(session, view)
    held_out = list_prompts(session, "held_out")
    own = [prompt for prompt in reversed(held_out) if prompt.source != "starter"]
    ordered = own + [prompt for prompt in held_out if prompt.source == "starter"]
    shown = ordered[: view.prompts]
    known = {prompt.id for prompt in held_out}
    labelled: dict[str, Prompt] = {}
    for row in drawn.values():
        if row.prompt_id not in known:
            labelled[row.prompt_id] = row.prompt
    cells = []
    for prompt in [*labelled.values(), *shown]:
        others = {seed for prompt_id, seed in drawn if prompt_id == prompt.id}
        wanted = set() if prompt.id in labelled else set(range(view.seeds))
        cells += [
            _cell(prompt, seed, drawn.get((prompt.id, seed))) for seed in sorted(wanted | others)
        ]
    return cells, len(ordered) - len(shown)


def _cell(prompt: Prompt, seed: int, row: Comparison | None) -> Cell:
    return Cell(
        prompt_id=prompt.id,
        prompt=prompt.text,
        seed=seed,
        labelled=prompt.split != "held_out",
        own=prompt.source != "starter",
        comparison_id=None if row is None else row.id,
        base_image_id=None if row is None else row.base_image_id,
        aligned_image_id=None if row is None else row.aligned_image_id,
    )


def _drawn(session: Session, view: View) -> dict[tuple[str, int], Comparison]:
    """The comparisons of a view at full strength, by prompt and seed.

    What blind trials drew is left out: it must not be seen here before it is voted on.
    """
    aligned = get_round(session, view.round_id or "")
    base = None if view.base is None else get_round(session, view.base).adapter_id
    query = (
        select(Comparison)
        .where(
            Comparison.round_id == view.round_id,
            Comparison.base_round_id.is_not_distinct_from(view.base),
            Comparison.adapter_id == aligned.adapter_id,
            Comparison.scale == 1.0,
            ~exists().where(
                TrialItem.prompt_id == Comparison.prompt_id, TrialItem.seed == Comparison.seed
            ),
        )
        .order_by(Comparison.position)
    )
    as_asked = drawn_so(session, view)
    return {
        (row.prompt_id, row.seed): row
        for row in session.scalars(query)
        if row.base_image.adapter_id == base and as_asked(row)
    }
