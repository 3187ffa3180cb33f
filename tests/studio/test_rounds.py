"""Rounds: what starts them, what stops them, what adopting one does to pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from inpo_studio.configs import RoundConfig
from inpo_studio.studio import Studio
from inpo_studio.studio.align.planning import MOST_DISPLACEMENT
from inpo_studio.studio.align.rounds import (
    adopt_round,
    cancel_round,
    default_config,
    find_round,
    keep_checkpoint,
    pause_round,
    plan_round,
    resume_round,
    round_log,
    round_status,
    start_round,
)
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.choices import ImportedChoice, import_choices
from inpo_studio.studio.label.pairs import ready_count, request_pairs
from storage.adapters import add_snapshot
from storage.choices import live_choices
from storage.errors import HeldOutPrompt, IllegalTransition, InvalidInput
from storage.frozen import freeze_choices
from storage.pairs import list_pairs
from storage.prompts import add_prompts, list_prompts
from storage.rounds import claim_attempt, request, set_state
from storage.schema import Answer, Choice, Round, RoundState
from tests.labelled import add_chosen_pairs
from tests.storage.rows import put_in_state
from tests.studio.workspace import add_done_round, add_pairs


def choose_all(studio: Studio, count: int = 4) -> None:
    pairs = add_pairs(studio, count)
    lines = [ImportedChoice(n, pair.id, "left") for n, pair in enumerate(pairs)]
    import_choices(studio, lines)


@pytest.mark.parametrize(
    ("choices", "batch", "steps", "sample_every"),
    [(0, 1, 30, 10), (1, 1, 30, 10), (5, 5, 50, 15), (14, 8, 80, 20), (64, 8, 80, 20)],
)
def test_defaults_follow_the_number_of_choices(
    choices: int, batch: int, steps: int, sample_every: int
) -> None:
    config = default_config(choices)
    assert (config.batch_pairs, config.steps, config.sample_every) == (batch, steps, sample_every)
    assert config.batch_pairs % config.micro_batch_pairs == 0
    assert RoundConfig.model_validate(config.model_dump()) == config


def test_more_choices_than_usual_change_nothing() -> None:
    # Of 64 choices a tenth is on validation prompts.
    usual = RoundConfig(most_displacement=MOST_DISPLACEMENT)
    assert default_config(500) == default_config(64) == default_config(58) == usual


def test_few_choices_are_learnt_in_smaller_and_more_different_steps() -> None:
    configs = [default_config(choices) for choices in (5, 14, 29, 45, 58)]
    rates = [config.learning_rate for config in configs]
    levels = [config.levels for config in configs]
    assert rates == sorted(set(rates))
    assert levels == sorted(levels, reverse=True)
    assert (levels[0], levels[-1]) == (20, 10)


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
    assert made.selection is None


def test_what_is_changed_takes_along_what_hangs_on_it(studio: Studio) -> None:
    choose_all(studio)
    made = start_round(
        studio,
        changes={"steps": 200, "batch_pairs": 3, "rank": 16, "beta": 500.0, "objective": None},
        steps=120,
    )
    config = RoundConfig.model_validate(made.config)
    assert (config.steps, made.total_steps, config.sample_every) == (120, 120, 20)
    assert (config.batch_pairs, config.micro_batch_pairs) == (3, 3)
    assert (config.rank, config.alpha, config.beta) == (16, 16.0, 500.0)
    assert config.objective == RoundConfig().objective


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"learning_rate": -1}, "learning_rate cannot be -1: input should be greater than 0."),
        ({"steps": "many"}, "steps cannot be 'many': input should be a valid integer"),
        ({"batch_pairs": 0}, "batch_pairs cannot be 0: input should be greater"),
        ({"colour": 3}, "A round has no setting named 'colour'."),
        ({"lowest_timestep": 900, "highest_timestep": 100}, "must not exceed highest_timestep"),
        ({"batch_pairs": 6, "micro_batch_pairs": 4}, "must divide"),
    ],
)
def test_a_setting_that_cannot_be_used_is_told_in_a_sentence(
    studio: Studio, changes: dict[str, Any], sentence: str
) -> None:
    choose_all(studio)
    for ask in (start_round, plan_round):
        with pytest.raises(StudioError) as raised:
            ask(studio, changes=changes)
        assert sentence in str(raised.value)
        assert str(raised.value).endswith(".")
        assert "\n" not in str(raised.value)


def learnt(studio: Studio, made: Round) -> list[str]:
    """Freeze a round as its job would; the annotators of what it learns from."""
    with studio.database.write() as session:
        frozen = freeze_choices(session, made.id)
        return [session.get_one(Choice, pair.choice_id).annotator for pair in frozen]


def test_a_round_of_some_peoples_choices(studio: Studio) -> None:
    model = studio.settings.model
    add_chosen_pairs(studio, 3, model=model, annotator="ann")
    add_chosen_pairs(studio, 2, model=model, annotator="bob")
    assert plan_round(studio, annotators=["bob"]).clear == 2
    assert learnt(studio, start_round(studio, annotators=["bob", "bob"])) == ["bob", "bob"]
    with pytest.raises(StudioError, match="None of these choices"):
        start_round(studio, annotators=["cleo"])
    with pytest.raises(StudioError, match="at least one person"):
        start_round(studio, annotators=[])


def test_a_round_of_what_is_new(studio: Studio) -> None:
    model = studio.settings.model
    add_chosen_pairs(studio, 3, model=model, annotator="ann")
    first = start_round(studio, which="fresh")
    assert learnt(studio, first) == ["ann"] * 3
    with pytest.raises(StudioError, match="take all choices"):
        start_round(studio, which="fresh")
    with pytest.raises(StudioError, match="'fresh'"):
        start_round(studio, which="new")  # type: ignore[arg-type]
    add_chosen_pairs(studio, 2, model=model, annotator="bob")
    assert (plan_round(studio).clear, plan_round(studio, which="fresh").clear) == (5, 2)
    assert learnt(studio, start_round(studio, which="fresh")) == ["bob", "bob"]
    cancel_round(studio, first.id)
    assert plan_round(studio, which="fresh").clear == 3


def test_a_plan_counts_what_a_round_would_learn_from(studio: Studio) -> None:
    assert plan_round(studio).clear == 0
    answers: list[Answer] = ["left", "tie", "skip", "right", "both_bad"]
    add_chosen_pairs(studio, 20, model=studio.settings.model, answers=answers)
    with studio.database.read() as session:
        held = [prompt.text for prompt in list_prompts(session, "validation")]
        found = [
            (choice.choice, choice.pair.prompt.text in held)
            for choice in live_choices(session)
            if choice.choice in ("left", "right", "tie")
        ]
    plan = plan_round(studio)
    assert plan.validation == sum(checked for _, checked in found)
    assert plan.clear == len(found) - plan.validation
    assert plan.ties == sum(answer == "tie" and not checked for answer, checked in found)
    assert plan.config == default_config(plan.clear)
    assert plan.parent_number is None


def test_a_round_branches_from_any_other(studio: Studio) -> None:
    choose_all(studio)
    first, second = add_done_round(studio), add_done_round(studio)
    adopt_round(studio, second.id)
    assert plan_round(studio).parent_number == second.number
    assert plan_round(studio, parent=first.id).parent_number == first.number
    made = start_round(studio, parent=first.id)
    assert made.parent_id == first.id
    assert (made.config["rank"], made.config["alpha"]) == (4, 4.0), "its parent's"
    assert start_round(studio, parent=None).parent_id is None
    assert start_round(studio, changes={"rank": 4}).parent_id == second.id
    with pytest.raises(StudioError, match=r"its rank \(4\)"):
        start_round(studio, changes={"rank": 16})
    with pytest.raises(StudioError, match="no adapter"):
        start_round(studio, parent=made.id)


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


def add_steps(studio: Studio, round_id: str, steps: Sequence[int], state: RoundState) -> None:
    """Let a queued round come to rest with weights of some steps."""
    with studio.database.write() as session:
        attempt = claim_attempt(session, round_id)
        for step in steps:
            folder = f"rounds/{round_id}/adapters/{step:06d}"
            (studio.settings.workspace / folder).mkdir(parents=True)
            add_snapshot(
                session,
                sha256=f"{step:064x}",
                folder=folder,
                model=studio.settings.model,
                rank=4,
                alpha=4.0,
                step=step,
                round_id=round_id,
                attempt=attempt,
            )
        if state == "paused":
            request(session, round_id, "pause")
        set_state(session, round_id, state, attempt=attempt)


@pytest.mark.parametrize("state", ["paused", "failed"])
def test_earlier_weights_are_kept_instead(studio: Studio, state: RoundState) -> None:
    choose_all(studio)
    made = start_round(studio)
    add_steps(studio, made.id, [2, 4], state)
    with pytest.raises(StudioError, match="choose one of: 2, 4"):
        keep_checkpoint(studio, made.id, 3)
    kept = keep_checkpoint(studio, made.id, 2)
    status = round_status(studio, made.id)
    assert (status.round.state, status.round.adapter_id, kept.step) == ("done", kept.id, 2)
    assert keep_checkpoint(studio, made.id, 4).id != kept.id
    assert start_round(studio, parent=made.id).parent_id == made.id


def test_pairs_follow_the_weights_that_are_kept(studio: Studio) -> None:
    choose_all(studio)
    made = start_round(studio)
    add_steps(studio, made.id, [2, 4], "failed")
    late = keep_checkpoint(studio, made.id, 4)
    adopt_round(studio, made.id)
    add_pairs(studio, 3, adapter_id=late.id)
    assert ready_count(studio) == 3
    keep_checkpoint(studio, made.id, 2)
    assert ready_count(studio) == 0
    with studio.database.read() as session:
        assert len(list_pairs(session, state="ready")) == 4, "those that were chosen on"
    keep_checkpoint(studio, made.id, 4)
    assert ready_count(studio) == 3


def test_weights_that_are_not_on_the_disk_are_not_offered(studio: Studio) -> None:
    choose_all(studio)
    made = start_round(studio)
    add_steps(studio, made.id, [2], "failed")
    (studio.settings.workspace / f"rounds/{made.id}/adapters/000002").rmdir()
    with pytest.raises(StudioError, match="none yet"):
        keep_checkpoint(studio, made.id, 2)


def test_a_round_at_work_keeps_its_weights(studio: Studio) -> None:
    choose_all(studio)
    made = start_round(studio)
    add_steps(studio, made.id, [2], "running")
    with pytest.raises(IllegalTransition, match="wait until it rests"):
        keep_checkpoint(studio, made.id, 2)


@pytest.mark.parametrize("state", ["queued", "running", "paused", "failed"])
def test_weights_stay_while_another_round_trains_from_them(
    studio: Studio, state: RoundState
) -> None:
    choose_all(studio)
    made = start_round(studio)
    add_steps(studio, made.id, [2, 4], "failed")
    late = keep_checkpoint(studio, made.id, 4)
    child = start_round(studio, parent=made.id)
    with studio.database.write() as session:
        put_in_state(session, session.get_one(Round, child.id), state)
    with pytest.raises(IllegalTransition, match=f"Round 2, .* is {state}; let it end or cancel"):
        keep_checkpoint(studio, made.id, 2)
    assert keep_checkpoint(studio, made.id, 4).id == late.id, "those it has"
    with studio.database.write() as session:
        put_in_state(session, session.get_one(Round, child.id), "done")
    assert keep_checkpoint(studio, made.id, 2).step == 2


@contextmanager
def statements(*asked: Engine) -> Iterator[list[str]]:
    """What is sent to the database meanwhile."""
    seen: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *others: Any) -> None:
        seen.append(statement)

    for engine in asked:
        event.listen(engine, "before_cursor_execute", note)
    yield seen
    for engine in asked:
        event.remove(engine, "before_cursor_execute", note)


def test_planning_and_adopting_load_no_pictures(studio: Studio) -> None:
    choose_all(studio)
    done = add_done_round(studio)
    with statements(studio.database.reader, studio.database.writer) as sent:
        plan_round(studio, which="fresh")
        adopt_round(studio, done.id)
    assert sent
    assert not [statement for statement in sent if "JOIN images" in statement]


def test_the_end_of_a_rounds_log(studio: Studio) -> None:
    choose_all(studio)
    made = start_round(studio)
    assert round_log(studio, made.id) == []
    path = studio.settings.logs / f"round-{made.id}.log"
    path.write_text("\n".join(f"line {n}\n" for n in range(3000)), encoding="utf-8")
    assert round_log(studio, made.id, 2) == ["line 2998", "line 2999"]
    assert len(round_log(studio, made.id)) == 8


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
