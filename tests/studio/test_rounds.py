"""Rounds: what starts them, what stops them, what adopting one does to pairs."""

from __future__ import annotations

import pytest

from inpo_studio.studio import Studio
from inpo_studio.studio.choices import ImportedChoice, import_choices
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.pairs import ready_count, request_pairs
from inpo_studio.studio.rounds import (
    adopt_round,
    cancel_round,
    default_config,
    find_round,
    pause_round,
    resume_round,
    round_status,
    start_round,
)
from storage.errors import HeldOutPrompt, IllegalTransition, InvalidInput
from storage.prompts import add_prompts
from tests.studio.workspace import add_done_round, add_pairs


def choose_all(studio: Studio, count: int = 4) -> None:
    pairs = add_pairs(studio, count)
    lines = [ImportedChoice(n, pair.id, "left") for n, pair in enumerate(pairs)]
    import_choices(studio, lines)


@pytest.mark.parametrize(("choices", "batch"), [(1, 1), (5, 5), (8, 8), (500, 8)])
def test_defaults_follow_the_number_of_choices(choices: int, batch: int) -> None:
    config = default_config(choices)
    assert config.batch_pairs == batch
    assert config.batch_pairs % config.micro_batch_pairs == 0


def test_a_round_needs_choices(studio: Studio) -> None:
    with pytest.raises(StudioError, match="no choices"):
        start_round(studio)
    pairs = add_pairs(studio, 2)
    import_choices(studio, [ImportedChoice(1, pairs[0].id, "both_bad")])
    with pytest.raises(StudioError, match="no choices"):
        start_round(studio)


def test_a_round_is_written_and_queued(studio: Studio) -> None:
    choose_all(studio)
    made = start_round(studio, steps=7, objective="ipo", seed=5)
    assert (made.number, made.state, made.seed, made.total_steps) == (1, "queued", 5, 7)
    assert made.config["objective"] == "ipo"
    assert made.job_id is not None
    assert studio.engine.status(made.job_id).state == "queued"


def test_pause_resume_cancel(studio: Studio) -> None:
    choose_all(studio)
    made = start_round(studio)
    pause_round(studio, made.id)
    assert round_status(studio, made.id).round.state == "paused"
    assert resume_round(studio, made.id).state == "queued"
    with pytest.raises(IllegalTransition):
        resume_round(studio, made.id)
    cancel_round(studio, made.id)
    assert round_status(studio, made.id).round.state == "cancelled"


def test_adopting_retires_what_waits_of_the_older_policy(studio: Studio) -> None:
    pairs = add_pairs(studio, 3)
    import_choices(studio, [ImportedChoice(1, pairs[0].id, "left")])
    done = add_done_round(studio)
    assert adopt_round(studio, done.id) == 2
    assert ready_count(studio) == 0
    add_pairs(studio, 2, adapter_id=done.adapter_id)
    assert ready_count(studio) == 2
    assert adopt_round(studio, done.id) == 0
    assert adopt_round(studio, None) == 2
    assert ready_count(studio) == 2, "the base model's own pairs are back"


def test_the_next_round_starts_from_the_adopted_one(studio: Studio) -> None:
    choose_all(studio)
    done = add_done_round(studio)
    assert start_round(studio).parent_id is None
    adopt_round(studio, done.id)
    assert start_round(studio).parent_id == done.id


def test_only_a_round_with_an_adapter_is_adopted(studio: Studio) -> None:
    choose_all(studio)
    with pytest.raises(InvalidInput):
        adopt_round(studio, start_round(studio).id)


def test_the_round_that_is_meant(studio: Studio) -> None:
    with pytest.raises(StudioError, match="align"):
        find_round(studio, None)
    first, second = add_done_round(studio), add_done_round(studio)
    assert find_round(studio, None).id == second.id
    adopt_round(studio, first.id)
    assert find_round(studio, None).id == first.id
    assert find_round(studio, "2").id == second.id
    assert find_round(studio, first.id).id == first.id
    with pytest.raises(StudioError, match="round 9"):
        find_round(studio, "9")


def test_pairs_are_asked_for_with_the_present_policy(studio: Studio) -> None:
    asked = request_pairs(studio, ["a tree", "a house"], 3, seed=1)
    assert studio.engine.status(asked.job_id).state == "queued"
    assert (asked.count, asked.prompts, asked.seed) == (3, 2, 1)
    assert request_pairs(studio, ["a tree"], 1).seed != request_pairs(studio, ["a tree"], 1).seed


def test_held_out_prompts_get_no_pairs(studio: Studio) -> None:
    with studio.database.write() as session:
        add_prompts(session, ["a tree"], source="comparison", kind="compare")
    with pytest.raises(HeldOutPrompt):
        request_pairs(studio, ["a house", "a tree"], 3)
