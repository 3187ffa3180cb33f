"""How long a round will take, and what that goes by."""

from __future__ import annotations

import dataclasses

import pytest

from inpo_studio.configs import RoundConfig
from inpo_studio.studio import Studio
from inpo_studio.studio.align.estimates import USUAL, drawings
from inpo_studio.studio.align.rounds import plan_round
from storage.frozen import freeze_choices
from storage.metrics import record_metrics
from storage.rounds import claim_attempt, create_round, set_state, update_progress
from storage.timings import machine_name, note_timings
from tests.labelled import add_chosen_pairs

CONFIG = RoundConfig(steps=4, batch_pairs=2, micro_batch_pairs=2, levels=5, sample_every=2)


def add_timed_round(studio: Studio, machine: str | None = None) -> str:
    """A round of the present choices that took 3 s a step of two pairs."""
    settings = studio.settings
    with studio.database.write() as session:
        made = create_round(session, model=settings.model, config=CONFIG.model_dump(), seed=0)
        attempt = claim_attempt(session, made.id)
        freeze_choices(session, made.id)
        for step in range(1, 5):
            record_metrics(session, made.id, attempt, step, loss=0.5, seconds=3.0)
        update_progress(session, made.id, attempt, step=4)
        set_state(session, made.id, "done", attempt=attempt)
    note_timings(
        settings.workspace / "rounds" / made.id,
        machine or machine_name(settings.device, settings.threads),
        start_s=10.0,
        picture_s=5.0,
        samples_s=6.0,
        end_s=20.0,
    )
    return made.id


def test_it_goes_by_the_latest_round_on_this_machine(studio: Studio) -> None:
    add_chosen_pairs(studio, 6, model=studio.settings.model)
    add_timed_round(studio)
    add_timed_round(studio, "another machine")
    changes = {"steps": 10, "batch_pairs": 4, "sample_every": 5, "sample_prompts": 1, "levels": 10}
    plan = plan_round(studio, changes=changes)
    assert plan.seconds_from == "earlier rounds"
    # start, no new pictures, 10 steps of 4 pairs at 1.5 s, 3 drawings of 1 at 2 s, the end
    assert plan.seconds == pytest.approx(10 + 0 + 60 + 6 + 20)
    add_chosen_pairs(studio, 2, model=studio.settings.model, named="a lake")
    plan = plan_round(studio, changes=changes)
    assert plan.seconds == pytest.approx(10 + 4 * 10 + 60 + 6 + 20), "four new, at ten levels"
    plan = plan_round(studio, changes={**changes, "objective": "diffusion_dpo", "sample_every": 0})
    assert plan.seconds == pytest.approx(10 + 60 + 20), "nothing to invert or to draw"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_without_a_round_only_what_was_measured_is_told(studio: Studio, device: str) -> None:
    add_chosen_pairs(studio, 6, model=studio.settings.model)
    object.__setattr__(studio.settings, "device", device)
    plan = plan_round(studio)
    if device == "cuda":
        assert (plan.seconds, plan.seconds_from) == (None, None)
        return
    assert plan.seconds_from == "this model's usual"
    assert plan.seconds == pytest.approx(USUAL["postcards"].of(plan.config, 12))
    more = plan_round(studio, changes={"steps": 2 * plan.config.steps, "sample_every": 0})
    assert more.seconds is not None
    assert plan.seconds is not None
    assert more.seconds > plan.seconds


def test_an_unknown_model_has_no_usual(studio: Studio) -> None:
    object.__setattr__(studio, "settings", dataclasses.replace(studio.settings, model="own/model"))
    add_chosen_pairs(studio, 6, model="own/model")
    assert plan_round(studio).seconds is None


def test_a_damaged_note_is_no_note(studio: Studio) -> None:
    add_chosen_pairs(studio, 6, model=studio.settings.model)
    round_id = add_timed_round(studio)
    path = studio.settings.workspace / "rounds" / round_id / "timing.json"
    for content in ("", "[]", '{"machine": 3}', '{"machine": "x", "seconds": 4}'):
        path.write_text(content, encoding="utf-8")
        assert plan_round(studio).seconds_from == "this model's usual"


@pytest.mark.parametrize(("steps", "every", "count"), [(80, 20, 5), (33, 20, 3), (8, 0, 0)])
def test_how_often_samples_are_drawn(steps: int, every: int, count: int) -> None:
    assert drawings(RoundConfig(steps=steps, sample_every=every)) == count
