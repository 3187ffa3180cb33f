"""What pages are given and what becomes of their clicks, without a browser."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio
from inpo_studio.studio.align.rounds import adopt_round
from inpo_studio.studio.label.labelling import Batch, Click, Labelling, Shown
from inpo_studio.studio.label.leases import LEASE_S, Leases
from inpo_studio.studio.label.standing import standing
from inpo_studio.studio.label.starters import STARTERS, add_starters
from storage.choices import live_choices
from storage.errors import AlreadyChosen, InvalidInput, NotFound
from storage.prompts import list_prompts
from storage.rounds import create_round, freeze_choices
from tests.studio.workspace import add_done_round, add_pairs


def click(shown: Shown, choice: str = "left", key: str = "") -> Click:
    return Click(
        key=key or uuid4().hex,
        pair_id=shown.pair_id,
        choice=choice,  # type: ignore[arg-type]
        left_image_id=shown.left_image_id,
        right_image_id=shown.right_image_id,
        milliseconds=700,
    )


def ids(shown: list[Shown]) -> list[str]:
    return [one.pair_id for one in shown]


def test_pages_share_no_pair_and_leases_end(studio: Studio) -> None:
    add_pairs(studio, 8)
    now = [0.0]
    labelling = Labelling(studio, Leases(lambda: now[0]))
    first = labelling.serve("me", "one", [], 6).pairs
    second = labelling.serve("me", "two", [], 6).pairs
    assert len(first) == 6
    assert len(second) == 2
    assert not set(ids(first)) & set(ids(second))
    now[0] = LEASE_S / 2
    assert labelling.serve("me", "one", ids(first), 0).lost == []
    now[0] = LEASE_S + 1
    third = labelling.serve("you", "three", [], 6).pairs
    assert set(ids(third)) == set(ids(second))
    # What was given to another page meanwhile is lost, all else is kept.
    assert labelling.serve("me", "two", ids(second), 0).lost == ids(second)


def test_a_page_frees_what_it_does_not_hold(studio: Studio) -> None:
    add_pairs(studio, 3)
    labelling = Labelling(studio)
    had = labelling.serve("me", "one", [], 3).pairs
    labelling.serve("me", "one", ids(had)[:1], 0)
    assert set(ids(labelling.serve("me", "two", [], 3).pairs)) == set(ids(had)[1:])


def test_overlap_asks_everybody(studio: Studio) -> None:
    add_pairs(studio, 1)
    alone, both = Labelling(studio), Labelling(studio, overlap=True)
    (shown,) = alone.serve("me", "one", [], 1).pairs
    alone.commit("me", click(shown))
    assert alone.serve("you", "two", [], 1).pairs == []
    assert ids(both.serve("you", "two", [], 1).pairs) == [shown.pair_id]


def test_overlap_is_a_setting(studio: Studio) -> None:
    add_pairs(studio, 2)
    together = replace(studio, settings=replace(studio.settings, overlap=True))
    labelling = Labelling(together)
    mine = labelling.serve("me", "one", [], 2).pairs
    # two people at the same time, but never two pages of one
    yours = labelling.serve("you", "two", [], 2).pairs
    assert set(ids(mine)) == set(ids(yours))
    assert labelling.serve("me", "three", [], 2).pairs == []
    for one in mine:
        labelling.commit("me", click(one))
    assert labelling.serve("me", "one", ids(mine), 2) == Batch([], ids(mine))
    assert labelling.serve("you", "two", ids(yours), 0).lost == []
    assert (standing(together, "me").ready, standing(together, "you").ready) == (0, 2)
    for one in yours:
        labelling.commit("you", click(one, "right"))
    with studio.database.read() as session:
        assert len(live_choices(session)) == 4


def test_without_overlap_one_person_chooses(studio: Studio) -> None:
    """Another web process on the same database may have shown the pair to somebody else."""
    add_pairs(studio, 1)
    here, there = Labelling(studio), Labelling(studio)
    (mine,) = here.serve("me", "one", [], 1).pairs
    (yours,) = there.serve("you", "two", [], 1).pairs
    assert mine.pair_id == yours.pair_id
    here.commit("me", click(mine))
    with pytest.raises(AlreadyChosen, match="Somebody else"):
        there.commit("you", click(yours))
    assert standing(studio, "you").ready == 0


def test_sides_are_random_and_kept(studio: Studio) -> None:
    pairs = {pair.id: pair for pair in add_pairs(studio, 20)}
    shown = Labelling(studio).serve("me", "one", [], 20).pairs
    on_left = {one.left_image_id == pairs[one.pair_id].first_image_id for one in shown}
    assert on_left == {True, False}


def test_own_prompts_come_first(studio: Studio) -> None:
    assert add_starters(studio) == STARTERS
    assert add_starters(studio) == 0
    with studio.database.read() as session:
        assert {prompt.source for prompt in list_prompts(session)} == {"starter"}
    own = {pair.id for pair in add_pairs(studio, 2)}
    shown = Labelling(studio).serve("me", "one", [], 2).pairs
    assert set(ids(shown)) == own


def test_other_models_have_no_starters(studio: Studio) -> None:
    other = Studio(
        Settings(workspace=studio.settings.workspace, model="some/model"),
        studio.database,
        studio.files,
        studio.engine,
    )
    assert add_starters(other) == 0


def test_a_click_counts_once(studio: Studio) -> None:
    add_pairs(studio, 2)
    labelling = Labelling(studio)
    shown = labelling.serve("me", "one", [], 1).pairs[0]
    pressed = click(shown)
    labelling.commit("me", pressed)
    labelling.commit("me", pressed)
    with pytest.raises(AlreadyChosen):
        labelling.commit("me", click(shown, "right"))
    with pytest.raises(InvalidInput):
        labelling.commit("me", Click("k", shown.pair_id, "left", "a", "b", None))
    with studio.database.read() as session:
        assert [row.key for row in live_choices(session)] == [pressed.key]


def test_undo_goes_back_without_limit_and_only_ones_own(studio: Studio) -> None:
    add_pairs(studio, 30)
    labelling = Labelling(studio)
    pressed = [click(one) for one in labelling.serve("me", "one", [], 20).pairs]
    pressed += [click(one) for one in labelling.serve("me", "two", [], 10).pairs]
    for one in pressed:
        labelling.commit("me", one)
    assert labelling.history("you", None, 20) == []
    latest = labelling.history("me", None, 20)
    earlier = labelling.history("me", latest[-1].position, 20)
    seen = [past.key for past in [*latest, *earlier]]
    assert seen == [one.key for one in reversed(pressed)]
    with pytest.raises(NotFound):
        labelling.undo("you", "one", seen[0])
    for _ in range(2):
        assert labelling.undo("me", "one", seen[0]).frozen_in == []
    assert not labelling.undo("me", "one", "never sent").found
    assert len(labelling.history("me", None, 20)) == 20
    # It is open again, and still reserved for the page that took it back.
    assert labelling.serve("me", "two", [], 5).pairs == []
    assert ids(labelling.serve("me", "one", [], 5).pairs) == [pressed[-1].pair_id]


def test_undoing_what_a_round_froze_says_so(studio: Studio) -> None:
    add_pairs(studio, 4)
    labelling = Labelling(studio)
    pressed = [click(one) for one in labelling.serve("me", "one", [], 4).pairs]
    for one in pressed:
        labelling.commit("me", one)
    with studio.database.write() as session:
        made = create_round(session, model=studio.settings.model, config={}, seed=0)
        frozen = len(freeze_choices(session, made))
    assert standing(studio).fresh == 0
    assert [(w.number, w.choices) for w in standing(studio).rounds] == [(1, frozen)]
    assert labelling.undo("me", "one", pressed[0].key).frozen_in == [1]
    assert standing(studio).rounds[0].choices == frozen


def test_pairs_of_an_older_policy_leave_the_page(studio: Studio) -> None:
    add_pairs(studio, 3)
    labelling = Labelling(studio)
    held = ids(labelling.serve("me", "one", [], 3).pairs)
    adopt_round(studio, add_done_round(studio).id)
    batch = labelling.serve("me", "one", held, 5)
    assert batch.lost == held
    assert batch.pairs == []


def test_standing_counts_what_rounds_learn_from(studio: Studio) -> None:
    add_pairs(studio, 6)
    labelling = Labelling(studio)
    answers = ["left", "right", "tie", "both_bad", "skip"]
    for shown, answer in zip(labelling.serve("me", "one", [], 5).pairs, answers, strict=True):
        labelling.commit("me", click(shown, answer))
    found = standing(studio)
    assert (found.choices, found.clear, found.fresh, found.ready) == (5, 3, 3, 1)
    assert not found.round_runs
    assert found.problem == ""
