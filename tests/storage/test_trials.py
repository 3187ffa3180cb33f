from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy.orm import Session

from storage.comparisons import add_comparison
from storage.engines import Database
from storage.errors import AlreadyChosen, InvalidInput, KeyReused, NotFound
from storage.prompts import add_prompts
from storage.schema import Comparison, Prompt, Trial
from storage.trials import (
    add_items,
    create_trial,
    get_trial,
    list_trials,
    note_look,
    set_item_comparison,
    trial_items,
    used_seeds,
)
from storage.votes import find_vote, live_votes, record_vote, undo_vote
from tests.storage.rows import MODEL, a_done_round, a_round, an_image


def held_out(session: Session) -> Prompt:
    return add_prompts(session, ["a tent at night"], "comparison", "compare")[0]


def a_trial(session: Session, **values: Any) -> Trial:
    made: dict[str, Any] = {"model": MODEL, "base_round_id": None, "scale": 1.0, "generation": {}}
    if "round_id" not in values:
        values["round_id"] = a_done_round(session).id
    if "items" not in values:
        prompt = held_out(session)
        values["items"] = [(prompt.id, 11), (prompt.id, 12)]
    return create_trial(session, **(made | values))


def a_comparison(session: Session, prompt: Prompt, seed: int) -> Comparison:
    base, aligned = an_image(session, prompt, seed), an_image(session, prompt, seed)
    return add_comparison(
        session,
        prompt_id=prompt.id,
        seed=seed,
        base_image_id=base.id,
        aligned_image_id=aligned.id,
    )


def a_vote(session: Session, trial: Trial, **values: Any) -> Any:
    made: dict[str, Any] = {"key": "k", "item_position": 0, "choice": "left"}
    made |= {"aligned_side": "left", "annotator": "ann", "milliseconds": 900}
    return record_vote(session, trial_id=trial.id, **(made | values))


def test_items_keep_their_order_and_get_their_pictures(database: Database) -> None:
    with database.write() as session:
        trial = a_trial(session)
        prompt = held_out(session)
        add_items(session, trial.id, [(prompt.id, 13)])
        drawn = a_comparison(session, prompt, 12)
        set_item_comparison(session, trial.id, 1, drawn.id)
        with pytest.raises(InvalidInput, match="another prompt or seed"):
            set_item_comparison(session, trial.id, 0, drawn.id)
        with pytest.raises(NotFound, match="no item 9"):
            set_item_comparison(session, trial.id, 9, drawn.id)
    with database.read() as session:
        items = trial_items(session, trial.id)
        assert [(item.position, item.seed) for item in items] == [(0, 11), (1, 12), (2, 13)]
        assert [item.comparison is not None for item in items] == [False, True, False]
        assert get_trial(session, trial.id).planned == 2
        assert used_seeds(session, MODEL, prompt.id) == {11, 12, 13}


def test_the_first_look_is_remembered(database: Database) -> None:
    with database.write() as session:
        trial = a_trial(session)
        assert note_look(session, trial.id, 1).first_look == 1
        assert note_look(session, trial.id, 2).first_look == 1


def test_a_trial_needs_two_sides_with_adapters(database: Database) -> None:
    with database.write() as session:
        done, other = a_done_round(session), a_done_round(session)
        unfinished = a_round(session)
        with pytest.raises(InvalidInput, match="two different sides"):
            a_trial(session, round_id=done.id, base_round_id=done.id)
        with pytest.raises(InvalidInput, match="has no adapter"):
            a_trial(session, round_id=unfinished.id)
        with pytest.raises(InvalidInput, match="needs prompts"):
            a_trial(session, round_id=done.id, items=[])
        made = a_trial(session, round_id=done.id, base_round_id=other.id)
        assert [trial.id for trial in list_trials(session, MODEL, done.id)] == [made.id]
        assert list_trials(session, MODEL, other.id) == []


def test_a_vote_is_stored_once_and_can_be_undone(database: Database) -> None:
    with database.write() as session:
        trial = a_trial(session)
        with pytest.raises(InvalidInput, match="not drawn yet"):
            a_vote(session, trial)
        prompt = held_out(session)
        set_item_comparison(session, trial.id, 0, a_comparison(session, prompt, 11).id)
        vote = a_vote(session, trial)
        assert a_vote(session, trial).id == vote.id
        with pytest.raises(KeyReused):
            a_vote(session, trial, choice="right")
        with pytest.raises(AlreadyChosen):
            a_vote(session, trial, key="another")
        undo_vote(session, vote.id)
        again = a_vote(session, trial, key="another", choice="tie")
        assert [found.id for found in live_votes(session, trial.id)] == [again.id]
        assert live_votes(session, trial.id, "somebody else") == []
        assert find_vote(session, "k") is vote
