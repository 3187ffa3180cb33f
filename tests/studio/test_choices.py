"""Choices: recorded as shown, taken in from files whole or not at all."""

from __future__ import annotations

import pytest

from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.choices import (
    Import,
    ImportedChoice,
    as_stored,
    import_choices,
    record_choice,
)
from inpo_studio.studio.overview import overview
from storage.choices import live_choices
from storage.schema import Choice, Pair
from tests.studio.workspace import add_pairs


def live(studio: Studio) -> list[Choice]:
    with studio.database.read() as session:
        return live_choices(session, studio.settings.model)


def click(studio: Studio, pair: Pair, key: str, *, swapped: bool = False) -> Choice:
    images = [pair.first_image_id, pair.second_image_id]
    left, right = reversed(images) if swapped else images
    return record_choice(
        studio, key=key, pair_id=pair.id, choice="left", left_image_id=left, right_image_id=right
    )


def test_a_choice_shown_the_other_way_round_is_flipped_for_export(studio: Studio) -> None:
    first, second = add_pairs(studio, 2)
    click(studio, first, "one")
    click(studio, second, "two", swapped=True)
    assert [as_stored(choice) for choice in live(studio)] == ["left", "right"]


def test_importing_again_changes_nothing_and_a_new_mind_replaces(studio: Studio) -> None:
    pairs = add_pairs(studio, 3)
    lines = [ImportedChoice(n, pair.id, "left") for n, pair in enumerate(pairs, start=1)]
    assert import_choices(studio, lines) == Import(recorded=3, replaced=0, unchanged=0)
    assert import_choices(studio, lines) == Import(recorded=0, replaced=0, unchanged=3)
    changed = [ImportedChoice(1, pairs[0].id, "tie")]
    assert import_choices(studio, changed) == Import(recorded=0, replaced=1, unchanged=0)
    assert import_choices(studio, lines[:1]) == Import(recorded=0, replaced=1, unchanged=0)
    assert [choice.choice for choice in live(studio)] == ["left"] * 3
    assert import_choices(studio, lines, "someone else").recorded == 3


def test_one_unknown_pair_and_nothing_is_written(studio: Studio) -> None:
    pairs = add_pairs(studio, 2)
    (foreign,) = add_pairs(studio, 1, model="a/b")
    for bad in ("nonsense", foreign.id):
        lines = [ImportedChoice(1, pairs[0].id, "left"), ImportedChoice(2, bad, "left")]
        with pytest.raises(StudioError, match="Line 2"):
            import_choices(studio, lines)
    assert live(studio) == []


def test_overview_counts_the_present_model_only(studio: Studio) -> None:
    pairs = add_pairs(studio, 3)
    add_pairs(studio, 2, model="a/b")
    click(studio, pairs[0], "one")
    seen = overview(studio)
    assert (seen.prompts, seen.pairs_ready, seen.choices, seen.rounds) == (4, 2, 1, 0)
