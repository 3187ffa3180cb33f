"""Blind trials: what is shown, what a vote becomes, and by which test the result is judged."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest

from inpo_studio.studio import Studio
from inpo_studio.studio.compare.trials import (
    cast_vote,
    draw_missing,
    extend_trial,
    serve_items,
    start_trial,
    trial_progress,
    undo,
    undoable,
)
from inpo_studio.studio.compare.verdicts import history, result, reveal
from inpo_studio.studio.errors import StudioError
from storage.choices import live_choices
from storage.errors import AlreadyChosen, KeyReused, NotFound
from storage.prompts import add_prompts
from storage.rounds import create_round
from storage.schema import Trial, Vote
from storage.trials import list_trials, trial_items, used_seeds
from storage.votes import live_votes
from tests.studio.trial_rows import add_held_out, draw_items
from tests.studio.workspace import add_done_round, add_pairs


def a_trial(studio: Studio, planned: int = 4, drawn: bool = True) -> Trial:
    add_held_out(studio)
    trial = start_trial(studio, add_done_round(studio).id, planned=planned)
    if drawn:
        draw_items(studio, trial.id)
    return trial


def vote(studio: Studio, trial: Trial, choice: str, **more: object) -> Vote:
    """Vote on the next item, with the aligned picture on the left."""
    position = more.pop("position", None)
    if position is None:
        position = serve_items(studio, trial.id)[0][0].position
    values = {"key": uuid4().hex, "aligned_side": "left", "annotator": "me", "milliseconds": 700}
    return cast_vote(
        studio,
        trial_id=trial.id,
        item_position=position,  # type: ignore[arg-type]
        choice=choice,  # type: ignore[arg-type]
        **{**values, **more},  # type: ignore[arg-type]
    )


def votes_of(studio: Studio, trial: Trial) -> list[Vote]:
    with studio.database.read() as session:
        return live_votes(session, trial.id)


def test_prompts_are_spread_evenly_and_seeds_are_fresh(studio: Studio) -> None:
    prompts = add_held_out(studio, 4)
    round_id = add_done_round(studio).id
    first = start_trial(studio, round_id, planned=10, seed=1)
    second = start_trial(studio, round_id, planned=10, seed=1)
    with studio.database.read() as session:
        items = [trial_items(session, trial.id) for trial in (first, second)]
        known = used_seeds(session, studio.settings.model, prompts[0].id)
    for listed in items:
        assert sorted(Counter(item.prompt_id for item in listed).values()) == [2, 2, 3, 3]
        assert {item.prompt_id for item in listed[:4]} == {prompt.id for prompt in prompts}
    seeds = [(item.prompt_id, item.seed) for listed in items for item in listed]
    assert len(set(seeds)) == len(seeds) == 20
    assert {seed for prompt_id, seed in seeds if prompt_id == prompts[0].id} == known
    assert all(0 <= seed < 2**32 for _, seed in seeds)


def test_a_trial_is_drawn_by_one_job(studio: Studio) -> None:
    trial = a_trial(studio, drawn=False)
    draw_missing(studio, trial.id)
    (job,) = studio.engine.unfinished("trial")
    assert trial_progress(studio, trial.id).job == job
    assert serve_items(studio, trial.id) == ([], set())
    draw_items(studio, trial.id, 1)
    assert [item.position for item in serve_items(studio, trial.id)[0]] == [0]
    studio.engine.cancel(job.job_id)
    draw_missing(studio, trial.id)
    assert studio.engine.unfinished("trial") == []
    draw_missing(studio, trial.id, again=True)
    draw_missing(studio, trial.id, again=True)
    assert len(studio.engine.unfinished("trial")) == 1


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"planned": 0}, "Plan from 1"),
        ({"planned": 201}, "Plan from 1"),
        ({"scale": 0.0}, "strength"),
        ({"prompt_ids": []}, "no held-out prompts"),
    ],
)
def test_what_cannot_be_a_trial_is_refused(studio: Studio, values: dict, said: str) -> None:
    add_held_out(studio)
    with pytest.raises(StudioError, match=said):
        start_trial(studio, add_done_round(studio).id, **values)
    with studio.database.read() as session:
        assert list_trials(session, studio.settings.model) == []


def test_trials_take_held_out_prompts_and_rounds_that_are_done(studio: Studio) -> None:
    round_id = add_done_round(studio).id
    with pytest.raises(StudioError, match="no held-out prompts"):
        start_trial(studio, round_id)
    with studio.database.write() as session:
        labelled = add_prompts(session, ["a hill to label"], source="own")[0]
        unfinished = create_round(session, model=studio.settings.model, config={}, seed=0)
    with pytest.raises(StudioError, match="held-out prompts only"):
        start_trial(studio, round_id, prompt_ids=[labelled.id])
    own = add_held_out(studio)
    with pytest.raises(StudioError, match="compare one that is done"):
        start_trial(studio, unfinished.id)
    trial = start_trial(studio, round_id, planned=5, prompt_ids=[own[0].id])
    with studio.database.read() as session:
        assert {item.prompt_id for item in trial_items(session, trial.id)} == {own[0].id}


def test_votes_are_not_choices_and_count_once(studio: Studio) -> None:
    add_pairs(studio, 2)
    trial = a_trial(studio)
    first = vote(studio, trial, "left", key="one")
    again = vote(studio, trial, "left", key="one", position=first.item_position)
    assert first.id == again.id
    with pytest.raises(KeyReused):
        vote(studio, trial, "right", key="one", position=first.item_position)
    for who in ("me", "somebody else"):
        with pytest.raises(AlreadyChosen):
            vote(studio, trial, "right", position=first.item_position, annotator=who)
    assert len(votes_of(studio, trial)) == 1
    with studio.database.read() as session:
        assert live_choices(session) == []


def test_never_more_items_than_votes_are_missing(studio: Studio) -> None:
    trial = a_trial(studio, 4)
    assert len(serve_items(studio, trial.id, want=20)[0]) == 4
    items, still = serve_items(studio, trial.id, holding=[0, 1, 9], want=20)
    assert ([item.position for item in items], still) == ([2, 3], {0, 1})
    for _ in range(4):
        vote(studio, trial, "tie")
    assert serve_items(studio, trial.id, holding=[0], want=5) == ([], set())
    assert trial_progress(studio, trial.id).complete


def test_a_skip_is_no_vote_and_is_replaced(studio: Studio) -> None:
    trial = a_trial(studio, 3)
    skipped = vote(studio, trial, "skip")
    vote(studio, trial, "left")
    vote(studio, trial, "both_bad")
    found = trial_progress(studio, trial.id)
    assert (found.votes, found.target, found.ready, found.items) == (2, 3, 0, 4)
    assert found.job is not None
    draw_items(studio, trial.id)
    assert trial_progress(studio, trial.id).ready == 1
    assert undo(studio, "me", skipped.key) is not None
    found = trial_progress(studio, trial.id)
    assert (found.ready, found.items) == (1, 3), "what took its place is not needed any more"
    vote(studio, trial, "skip")
    assert trial_progress(studio, trial.id).job is not None, "drawn anew, by a job of its own"
    draw_items(studio, trial.id)
    vote(studio, trial, "right")
    with pytest.raises(AlreadyChosen):
        vote(studio, trial, "right", position=3)
    first = result(studio, trial.id)
    assert (first.tally.total, first.test, first.complete) == (3, "exact", True)
    assert len(reveal(studio, trial.id)) == 3


def test_undone_skips_after_a_look_add_no_votes(studio: Studio) -> None:
    trial = a_trial(studio, 2)
    for _ in range(2):
        vote(studio, trial, "left")
    result(studio, trial.id)
    extend_trial(studio, trial.id, 2)
    draw_items(studio, trial.id)
    skipped = vote(studio, trial, "skip")
    assert trial_progress(studio, trial.id).target == 4
    undo(studio, "me", skipped.key)
    found = trial_progress(studio, trial.id)
    assert (found.target, found.items, found.ready) == (4, 4, 2)


def test_a_vote_is_counted_for_the_side_it_was_shown_on(studio: Studio) -> None:
    trial = a_trial(studio, 6)
    for choice, side in (
        ("left", "left"),
        ("right", "right"),
        ("left", "right"),
        ("tie", "left"),
        ("both_bad", "right"),
        ("right", "right"),
    ):
        vote(studio, trial, choice, aligned_side=side)
    found = result(studio, trial.id)
    assert (found.tally.wins, found.tally.losses, found.tally.ties) == (3, 1, 2)
    assert (found.aligned, found.base) == ("Round 1", "the base model")
    winners = [shown.winner for shown in reveal(studio, trial.id)]
    assert winners == ["aligned", "aligned", "base", "tie", "both_bad", "aligned"]


def test_the_exact_test_holds_for_the_planned_votes_only(studio: Studio) -> None:
    trial = a_trial(studio, 6)
    for _ in range(6):
        vote(studio, trial, "left")
    assert history(studio)[0].result is None, "a list of trials is no look"
    first = result(studio, trial.id)
    assert (first.test, first.verdict, first.complete) == ("exact", "better", True)
    assert result(studio, trial.id).test == "exact", "a second look changes nothing"
    listed = history(studio)[0].result
    assert listed is not None
    assert listed.sentence == first.sentence
    extend_trial(studio, trial.id, 2)
    assert result(studio, trial.id).test == "exact", "no vote was added yet"
    assert history(studio)[0].result is None
    draw_items(studio, trial.id)
    vote(studio, trial, "left")
    more = result(studio, trial.id)
    assert (more.test, more.verdict, more.complete) == ("anytime", "can't tell yet", False)
    vote(studio, trial, "left")
    assert result(studio, trial.id).verdict == "better", "8 of 8"


def test_an_early_look_is_remembered(studio: Studio) -> None:
    trial = a_trial(studio, 6)
    with pytest.raises(StudioError, match="no vote yet"):
        result(studio, trial.id)
    vote(studio, trial, "left")
    assert result(studio, trial.id).test == "anytime"
    for _ in range(5):
        vote(studio, trial, "left")
    found = result(studio, trial.id)
    assert (found.test, found.complete, found.trial.first_look) == ("anytime", True, 1)
    assert found.verdict == "can't tell yet"


def test_pictures_get_names_only_at_the_end(studio: Studio) -> None:
    trial = a_trial(studio, 2)
    vote(studio, trial, "left")
    result(studio, trial.id)
    with pytest.raises(StudioError, match="once all the votes are in"):
        reveal(studio, trial.id)
    vote(studio, trial, "right")
    assert len(reveal(studio, trial.id)) == 2
    extend_trial(studio, trial.id, 1)
    with pytest.raises(StudioError, match="once all the votes are in"):
        reveal(studio, trial.id)


def test_undo_until_the_result_was_seen(studio: Studio) -> None:
    trial = a_trial(studio, 3)
    cast = [vote(studio, trial, "left") for _ in range(2)]
    assert undoable(studio, trial.id, "me") == [one.key for one in cast]
    assert undoable(studio, trial.id, "somebody else") == []
    with pytest.raises(NotFound, match="somebody else's"):
        undo(studio, "somebody else", cast[0].key)
    assert undo(studio, "me", "never sent") is None
    for _ in range(2):
        assert undo(studio, "me", cast[1].key) is not None
    assert serve_items(studio, trial.id)[0][0].position == cast[1].item_position
    assert trial_progress(studio, trial.id).votes == 1
    result(studio, trial.id)
    with pytest.raises(StudioError, match="has been seen"):
        undo(studio, "me", cast[0].key)
    assert undoable(studio, trial.id, "me") == []
    assert undo(studio, "me", vote(studio, trial, "left").key) is not None


def test_votes_are_added_after_the_result_only(studio: Studio) -> None:
    trial = a_trial(studio, 2)
    with pytest.raises(StudioError, match="in and seen"):
        extend_trial(studio, trial.id)
    vote(studio, trial, "left")
    vote(studio, trial, "left")
    with pytest.raises(StudioError, match="in and seen"):
        extend_trial(studio, trial.id)
    result(studio, trial.id)
    extend_trial(studio, trial.id, 3)
    found = trial_progress(studio, trial.id)
    assert (found.votes, found.target, found.items, found.trial.planned) == (2, 5, 5, 2)
    with pytest.raises(StudioError, match="Add from 1"):
        extend_trial(studio, trial.id, 0)
