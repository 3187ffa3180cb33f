from __future__ import annotations

import pytest

from storage.adapters import add_adapter, get_adapter, list_adapters
from storage.choices import undo_choice
from storage.comparisons import add_comparison, get_comparison, list_comparisons
from storage.engines import Database
from storage.errors import IllegalTransition, InvalidInput, NothingToTrain, StaleAttempt
from storage.metrics import drop_metrics_after, last_metric, list_metrics, record_metrics
from storage.progress import get_progress, set_progress
from storage.prompts import add_prompts
from storage.rounds import claim_attempt, freeze_choices, get_round, round_pairs
from tests.storage.rows import (
    MODEL,
    a_choice,
    a_done_round,
    a_pair,
    a_round,
    an_image,
    put_in_state,
)


def test_winner_and_loser_follow_the_click_not_the_side(database: Database) -> None:
    with database.write() as session:
        pairs = [a_pair(session) for _ in range(4)]
        for pair, (choice, flipped) in zip(
            pairs,
            [("left", False), ("left", True), ("right", False), ("right", True)],
            strict=True,
        ):
            a_choice(session, pair, choice, flipped=flipped)  # type: ignore[arg-type]
        frozen = freeze_choices(session, a_round(session))
        first_wins = [
            (row.winner_image_id, row.loser_image_id) == (pair.first_image_id, pair.second_image_id)
            for row, pair in zip(frozen, pairs, strict=True)
        ]
        assert first_wins == [True, False, False, True]
        assert {row.winner_image_id == row.loser_image_id for row in frozen} == {False}
        assert [row.preference for row in frozen] == [1.0] * 4
        assert [row.position for row in frozen] == [0, 1, 2, 3]


def test_ties_are_soft_and_what_is_no_preference_is_left_out(database: Database) -> None:
    with database.write() as session:
        pairs = [a_pair(session) for _ in range(4)]
        tie = a_choice(session, pairs[0], "tie", flipped=True)
        a_choice(session, pairs[1], "both_bad")
        a_choice(session, pairs[2], "skip")
        undo_choice(session, a_choice(session, pairs[3]).id)
        a_choice(session, pairs[0], "right", annotator="bob")
        a_choice(session, a_pair(session, model="other"))
        frozen = freeze_choices(session, a_round(session).id)
        assert [(row.choice_id == tie.id, row.preference) for row in frozen] == [
            (True, 0.5),
            (False, 1.0),
        ]
        assert frozen[0].winner_image_id == pairs[0].first_image_id


def test_what_is_frozen_stays(database: Database) -> None:
    with database.write() as session:
        row = a_round(session)
        choice = a_choice(session, a_pair(session))
        frozen = freeze_choices(session, row)
        undo_choice(session, choice.id)
        a_choice(session, a_pair(session))
        assert freeze_choices(session, row) == frozen  # a stage that runs again
    with database.read() as session:
        (kept,) = round_pairs(session, row.id)
    assert kept.choice_id == choice.id
    assert (kept.prompt.text, kept.winner_image.seed) == (
        frozen[0].prompt.text,
        frozen[0].winner_image.seed,
    )


def test_splits_follow_the_prompts(database: Database) -> None:
    with database.write() as session:
        prompts = add_prompts(session, [f"prompt {n}" for n in range(10)], "own")
        for prompt in prompts:
            a_choice(session, a_pair(session, prompt))
        row = a_round(session)
        freeze_choices(session, row)
        (kept,) = round_pairs(session, row.id, "validation")
        assert kept.prompt.split == "validation"
        assert len(round_pairs(session, row.id, "train")) == 9


def test_a_round_without_validation_prompts_is_left_so(database: Database) -> None:
    with database.write() as session:
        a_choice(session, a_pair(session))
        row = a_round(session)
        freeze_choices(session, row)
        assert round_pairs(session, row.id, "validation") == []


def test_filters_choose_what_is_frozen(database: Database) -> None:
    with database.write() as session:
        adapter_id = a_done_round(session).adapter_id
        a_choice(session, a_pair(session))
        aligned = a_choice(session, a_pair(session, adapter_id=adapter_id), annotator="bob")
        one = freeze_choices(session, a_round(session), adapter_ids=[adapter_id])
        two = freeze_choices(session, a_round(session), annotators=["bob"])
        assert [row.choice_id for row in [*one, *two]] == [aligned.id] * 2


def test_nothing_to_learn_from_is_said_so(database: Database) -> None:
    with database.write() as session:
        row = a_round(session)
        a_choice(session, a_pair(session), "both_bad")
        with pytest.raises(NothingToTrain, match="pick left or right"):
            freeze_choices(session, row)
        assert round_pairs(session, row.id) == []
        put_in_state(session, row, "done")
        with pytest.raises(IllegalTransition, match="cannot be frozen"):
            freeze_choices(session, row)


def test_a_step_is_measured_again_after_a_resume(database: Database) -> None:
    with database.write() as session:
        row = a_round(session)
        first = claim_attempt(session, row.id)
        for step in range(4):
            record_metrics(session, row.id, first, step, loss=0.7, margin=float("nan"))
        second = claim_attempt(session, row.id)
        with pytest.raises(StaleAttempt):
            record_metrics(session, row.id, first, 4, loss=0.1)
        assert drop_metrics_after(session, row.id, second, 2) == 1
        record_metrics(session, row.id, second, 2, loss=0.5, seconds=1.5)
    with database.read() as session:
        rows = list_metrics(session, row.id)
        assert [(m.step, m.loss, m.margin, m.seconds) for m in rows] == [
            (0, 0.7, None, None),
            (1, 0.7, None, None),
            (2, 0.5, None, 1.5),
        ]
        assert [m.step for m in list_metrics(session, row.id, after_step=1)] == [2]
        latest = last_metric(session, row.id)
        assert latest is not None
        assert latest.step == 2


def test_an_adapter_is_stored_once_and_becomes_the_rounds(database: Database) -> None:
    with database.write() as session:
        row = a_round(session)
        attempt = claim_attempt(session, row.id)
        values = {"model": MODEL, "rank": 8, "alpha": 8.0, "step": 60, "round_id": row.id}

        def add(sha256: str, folder: str = "adapters/1", attempt: int = attempt) -> str:
            return add_adapter(
                session,
                sha256=sha256,
                folder=folder,
                attempt=attempt,
                **values,  # type: ignore[arg-type]
            ).id

        first = add("a" * 64)
        assert add("a" * 64) == first == get_round(session, row.id).adapter_id
        assert add("b" * 64) == get_round(session, row.id).adapter_id != first
        assert [a.sha256[0] for a in list_adapters(session, MODEL)] == ["a", "b"]
        assert get_adapter(session, first).folder == "adapters/1"
        for folder in ("/etc", "../up", "a/../../b", "C:/x", "a\\b"):
            with pytest.raises(InvalidInput, match="inside the workspace"):
                add("c" * 64, folder)
        claim_attempt(session, row.id)
        with pytest.raises(StaleAttempt):
            add("c" * 64)


def test_an_imported_adapter_has_no_round(database: Database) -> None:
    values = {"folder": "adapters/x", "model": MODEL, "rank": 4, "alpha": 4.0, "step": 0}
    with database.write() as session:
        adapter = add_adapter(session, sha256="a" * 64, **values)  # type: ignore[arg-type]
        assert adapter.round_id is None
        with pytest.raises(InvalidInput, match="pass both or neither"):
            add_adapter(session, sha256="a" * 64, round_id="r", **values)  # type: ignore[arg-type]


def test_comparisons_are_of_one_prompt_and_seed(database: Database) -> None:
    with database.write() as session:
        row = a_done_round(session)
        held_out, *_ = add_prompts(session, ["a tent"], "comparison", "compare")
        known = add_prompts(session, ["a tree"], "own")[0]
        made = []
        for prompt in (held_out, known):
            base = an_image(session, prompt, 5)
            aligned = an_image(session, prompt, 5, adapter_id=row.adapter_id)
            values = {"base_image_id": base.id, "aligned_image_id": aligned.id, "seed": 5}
            values |= {"prompt_id": prompt.id, "comparison_id": f"c {prompt.text}"}
            values |= {"round_id": row.id, "adapter_id": row.adapter_id}
            made.append(add_comparison(session, **values))  # type: ignore[arg-type]
            assert add_comparison(session, **values) is made[-1]  # type: ignore[arg-type]
            with pytest.raises(InvalidInput, match="another prompt or seed"):
                add_comparison(session, **{**values, "seed": 6, "comparison_id": "d"})  # type: ignore[arg-type]
    with database.read() as session:
        assert [c.prompt.text for c in list_comparisons(session, row.id)] == ["a tent", "a tree"]
        (counted,) = list_comparisons(session, row.id, split="held_out")
        assert counted.prompt.text == "a tent"
        assert get_comparison(session, made[0].id).aligned_image.adapter_id == row.adapter_id


def test_progress_is_what_was_said_last(database: Database) -> None:
    with database.write() as session:
        assert get_progress(session, "job") is None
        set_progress(session, "job", kind="pairs", done=0, total=64)
        set_progress(session, "job", kind="pairs", done=3, total=64, note="drawing")
    with database.read() as session:
        row = get_progress(session, "job")
        assert row is not None
        assert (row.done, row.total, row.note) == (3, 64, "drawing")
