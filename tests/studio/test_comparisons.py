"""Any two of base and rounds: what is drawn, used again, shown, hidden and refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import func, select

from inpo_studio.configs import GenerationConfig
from inpo_studio.engine import SPARE
from inpo_studio.jobs.comparisons import ComparisonsPayload
from inpo_studio.jobs.context import HandBack, JobContext
from inpo_studio.jobs.pictures import Painter
from inpo_studio.jobs.pipelines import Pipelines
from inpo_studio.jobs.worker import embedded_worker
from inpo_studio.studio import Studio
from inpo_studio.studio.compare.comparing import Cell, Comparing, comparing, draw_missing
from inpo_studio.studio.compare.comparisons import get_comparisons, request_comparisons
from inpo_studio.studio.compare.drawing import (
    cancel_one,
    draw_one,
    look_at_one,
    stop_drawing,
    warm_up,
)
from inpo_studio.studio.compare.views import View
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.prompts import comparison_prompts, label_prompts
from inpo_studio.studio.label.starters import HELD_OUT_STARTERS, add_starters, held_out_starters
from storage.errors import NotFound
from storage.prompts import find_prompt, list_prompts
from storage.rounds import create_round
from storage.schema import Comparison, Image, Round
from storage.trials import create_trial
from tests.jobs.support import GENERATION, fake_paint, fake_pipeline
from tests.studio.workspace import add_done_round


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str | None, float, int]]]:
    """Replaces the model; lists adapter, strength and count of every batch drawn."""
    batches: list[tuple[str | None, float, int]] = []

    def paint(painter: Any, prompts: Any, seeds: Any) -> Any:
        batches.append((painter.adapter_id, painter.scale, len(seeds)))
        return fake_paint(painter, prompts, seeds)

    monkeypatch.setattr(Painter, "paint", paint)
    monkeypatch.setattr(Pipelines, "get", fake_pipeline)
    return batches


def done_round(studio: Studio) -> Round:
    """A round that can be compared: its adapter's folder is there."""
    made = add_done_round(studio)
    (studio.settings.workspace / "adapters" / made.id).mkdir(parents=True)
    return made


def work(studio: Studio, *job_ids: str) -> list[Any]:
    """Let a worker do the jobs; their results, or what they failed with."""
    with embedded_worker(studio.settings):
        ended = [studio.engine.wait(job_id, timeout_s=60) for job_id in job_ids]
    return [job.result if job.state == "done" else job.error for job in ended]


def drawn(studio: Studio, *args: Any, **more: Any) -> list[Comparison]:
    asked = request_comparisons(studio, *args, generation=GENERATION, **more)
    (result,) = work(studio, asked.job_id)
    return get_comparisons(studio, result["comparison_ids"])


def work_off(studio: Studio) -> None:
    work(studio, *(job.job_id for job in studio.engine.unfinished("comparisons")))


def counted(studio: Studio, table: Any) -> int:
    with studio.database.read() as session:
        return session.scalar(select(func.count()).select_from(table)) or 0


def test_two_rounds_are_compared_each_with_its_own_adapter(studio: Studio, painted: Any) -> None:
    one, two = done_round(studio), done_round(studio)
    (row,) = drawn(studio, two, ["a sea"], [3], base_round=one)
    assert painted == [(one.adapter_id, 1.0, 1), (two.adapter_id, 1.0, 1)]
    assert (row.base_round_id, row.round_id) == (one.id, two.id)
    assert row.base_image.adapter_id == one.adapter_id
    assert row.aligned_image.adapter_id == row.adapter_id == two.adapter_id
    (again,) = drawn(studio, two, ["a sea"], [3], base_round=one)
    assert again.id == row.id


def test_pictures_are_used_again_on_either_side_but_never_at_another_strength(
    studio: Studio, painted: Any
) -> None:
    one, two = done_round(studio), done_round(studio)
    (half,) = drawn(studio, one, ["a sea"], [3], scale=0.5)
    assert painted == [(None, 1.0, 1), (one.adapter_id, 0.5, 1)]
    (full,) = drawn(studio, one, ["a sea"], [3])
    assert painted[2:] == [(one.adapter_id, 1.0, 1)], "the base picture is there already"
    assert full.base_image_id == half.base_image_id
    (both,) = drawn(studio, two, ["a sea"], [3], base_round=one)
    assert painted[3:] == [(two.adapter_id, 1.0, 1)], "and so is round 1's"
    assert both.base_image_id == full.aligned_image_id
    (weak,) = drawn(studio, one, ["a sea"], [3], base_round=two, scale=0.5)
    assert len(painted) == 4
    assert (weak.base_image_id, weak.aligned_image_id) == (
        both.aligned_image_id,
        half.aligned_image_id,
    )
    assert counted(studio, Image) == 4


def test_sides_that_cannot_be_compared_are_refused(studio: Studio) -> None:
    one = done_round(studio)
    with studio.database.write() as session:
        waiting = create_round(session, model=studio.settings.model, config={}, seed=0)
        foreign = create_round(session, model="another", config={}, seed=0)
    for sides, sentence in (
        ((waiting, None), "Round 2 is queued"),
        ((one, waiting), "Round 2 is queued"),
        ((one, one), "same round"),
    ):
        with pytest.raises(StudioError, match=sentence):
            request_comparisons(studio, sides[0], ["a sea"], [0], base_round=sides[1])
    with pytest.raises(StudioError, match="another model"):
        draw_one(studio, View(None, foreign.id), "a sea", 0, 1.0)
    with pytest.raises(NotFound):
        draw_one(studio, View("gone", one.id), "a sea", 0, 1.0)
    with pytest.raises(StudioError, match=r"between 0 and 1\.5"):
        draw_one(studio, View(None, one.id), "a sea", 0, 2.0)
    assert counted(studio, Comparison) == 0
    with studio.database.read() as session:
        assert find_prompt(session, "a sea") is None, "nothing was held out either"


def test_older_payloads_are_still_understood(studio: Studio) -> None:
    told = {"prompt_ids": ["p"], "seeds": [0], "round_id": "r", "generation": {}}
    assert ComparisonsPayload.model_validate(told).base_round_id is None


def test_a_missing_adapter_fails_the_job_with_a_sentence(studio: Studio, painted: Any) -> None:
    made = add_done_round(studio)
    asked = request_comparisons(studio, made, ["a sea"], [0])
    (error,) = work(studio, asked.job_id)
    assert "train its round again" in error


# ---- what the page shows ------------------------------------------------------------------


def shown(studio: Studio, **view: Any) -> Comparing:
    return comparing(studio, View(**{"guidance": 3.0, "steps": 20, **view}))


def first_of(studio: Studio, text: str) -> Cell:
    return next(cell for cell in shown(studio).cells if cell.prompt == text)


def test_without_a_round_the_page_is_empty_and_says_whether_one_trains(studio: Studio) -> None:
    add_starters(studio)
    assert (shown(studio).state, shown(studio).training, shown(studio).cells) == ("empty", None, [])
    with studio.database.write() as session:
        create_round(session, model=studio.settings.model, config={}, seed=0)
    assert (shown(studio).state, shown(studio).training) == ("empty", 1)


def test_by_default_the_base_is_beside_the_newest_round(studio: Studio) -> None:
    add_starters(studio)
    one, two = done_round(studio), done_round(studio)
    seen = shown(studio)
    assert [side.id for side in seen.sides] == ["", two.id, one.id]
    assert (seen.view.base, seen.view.round_id) == (None, two.id)
    assert (len(seen.cells), seen.missing, seen.more) == (12, 12, HELD_OUT_STARTERS - 12)
    assert seen.by_itself
    other = shown(studio, base=two.id, round_id=one.id)
    assert (other.view.base, other.view.round_id) == (two.id, one.id)
    assert shown(studio, base=two.id, round_id=two.id).view.base is None
    assert shown(studio, base="gone", round_id="gone").view == seen.view
    assert len(shown(studio, seeds=2, prompts=3).cells) == 6


def test_the_grid_fills_is_stopped_and_tells_how_far_it_is(studio: Studio, painted: Any) -> None:
    add_starters(studio)
    done_round(studio)
    view = shown(studio).view
    draw_missing(studio, view)
    draw_missing(studio, view)
    (job,) = studio.engine.unfinished("comparisons")
    waiting = shown(studio).drawing
    assert waiting is not None
    assert (waiting.state, waiting.done, waiting.total) == ("queued", 0, 12)
    stop_drawing(studio, view.name)
    assert shown(studio).drawing is None
    assert studio.engine.status(job.job_id).state == "cancelled"
    draw_missing(studio, view)
    work_off(studio)
    full = shown(studio)
    assert (full.missing, full.drawing) == (0, None)
    assert all(cell.base_image_id and cell.aligned_image_id for cell in full.cells)
    draw_missing(studio, view)
    assert studio.engine.unfinished("comparisons") == []
    assert shown(studio, guidance=5.0).missing == 12, "other settings, other pictures"
    other = shown(studio, adapter_on="both")
    assert other.missing == 12, "the adapter on both, other pictures"
    draw_missing(studio, other.view)
    work_off(studio)
    both = shown(studio, adapter_on="both")
    assert both.missing == 0
    assert [c.base_image_id for c in both.cells] == [c.base_image_id for c in full.cells]
    assert not {c.aligned_image_id for c in both.cells} & {c.aligned_image_id for c in full.cells}
    assert [c.aligned_image_id for c in shown(studio).cells] == [
        c.aligned_image_id for c in full.cells
    ]


def test_what_is_looked_at_is_drawn_first(studio: Studio, painted: Any) -> None:
    add_starters(studio)
    done_round(studio)
    looked_at = shown(studio).cells[7].prompt_id
    draw_missing(studio, shown(studio).view, first=looked_at)
    work_off(studio)
    with studio.database.read() as session:
        oldest = session.scalars(select(Comparison).order_by(Comparison.position)).first()
    assert oldest is not None
    assert oldest.prompt_id == looked_at


def test_a_failure_is_shown_until_it_is_tried_again(studio: Studio, painted: Any) -> None:
    add_starters(studio)
    made = add_done_round(studio)
    draw_missing(studio, shown(studio).view)
    work_off(studio)
    failed = shown(studio).drawing
    assert failed is not None
    assert failed.state == "failed"
    assert "train its round again" in failed.failure
    (studio.settings.workspace / "adapters" / made.id).mkdir(parents=True)
    draw_missing(studio, shown(studio).view)
    work_off(studio)
    assert (shown(studio).missing, shown(studio).drawing) == (0, None)


def test_own_prompts_come_first_and_labelled_ones_are_marked(studio: Studio, painted: Any) -> None:
    add_starters(studio)
    done_round(studio)
    view = shown(studio).view
    (labelled,) = label_prompts(studio, ["a red barn"])
    for text, seed in (("a whale", 5), ("a red barn", 7)):
        asked = draw_one(studio, view, text, seed, 1.0)
        assert asked.job_id is not None
        work(studio, asked.job_id)
        found = look_at_one(studio, asked.job_id)
        assert found.comparison is not None
        assert (found.comparison.prompt.text, found.comparison.seed) == (text, seed)
    cells = shown(studio).cells
    assert [(c.prompt, c.seed, c.labelled) for c in cells[:3]] == [
        ("a red barn", 7, True),
        ("a whale", 0, False),
        ("a whale", 5, False),
    ]
    with studio.database.read() as session:
        whale = find_prompt(session, "a whale")
        assert whale is not None
        assert (whale.split, whale.source) == ("held_out", "comparison")
        barn = find_prompt(session, "a red barn")
        assert barn is not None
        assert barn.split == labelled.split != "held_out"


def test_a_strength_that_was_drawn_comes_back_at_once(studio: Studio, painted: Any) -> None:
    comparison_prompts(studio, ["a whale"])
    made = done_round(studio)
    view = View(None, made.id)
    asked = draw_one(studio, view, "a whale", 0, 0.5)
    assert asked.job_id is not None
    work(studio, asked.job_id)
    again = draw_one(studio, view, "a whale", 0, 0.5)
    assert again.job_id is None
    assert again.comparison is not None
    assert again.comparison.scale == 0.5
    assert first_of(studio, "a whale").comparison_id is None, "the grid is at full strength"
    assert draw_one(studio, view, "a whale", 0, 0.6).job_id is not None
    both = View(None, made.id, adapter_on="both")
    assert draw_one(studio, both, "a whale", 0, 0.5).job_id is not None


def test_only_single_pictures_are_cancelled_as_such(studio: Studio) -> None:
    add_starters(studio)
    made = done_round(studio)
    draw_missing(studio, shown(studio).view)
    (grid,) = studio.engine.unfinished("comparisons")
    single = draw_one(studio, View(None, made.id), "a whale", 0, 0.5)
    assert single.job_id is not None
    for job_id in (grid.job_id, single.job_id, "gone"):
        cancel_one(studio, job_id)
    assert studio.engine.status(grid.job_id).state == "queued"
    assert studio.engine.status(single.job_id).state == "cancelled"
    with pytest.raises(StudioError):
        look_at_one(studio, "gone")


def test_warming_up_draws_nothing(studio: Studio, painted: Any) -> None:
    made = done_round(studio)
    warm_up(studio, View(None, made.id))
    assert studio.engine.unfinished("comparisons") == []
    drawn(studio, made, ["a whale"], [0])
    before = len(painted)
    warm_up(studio, View(None, made.id))
    work_off(studio)
    assert len(painted) == before


def test_what_blind_trials_drew_is_not_shown(studio: Studio, painted: Any) -> None:
    (whale,) = comparison_prompts(studio, ["a whale"])
    made = done_round(studio)
    with studio.database.write() as session:
        create_trial(
            session,
            model=studio.settings.model,
            round_id=made.id,
            base_round_id=None,
            scale=1.0,
            generation={},
            items=[(whale.id, 99)],
        )
    asked = request_comparisons(studio, made, ["a whale"], [0, 99], generation=GenerationConfig())
    work(studio, asked.job_id)
    assert [(cell.prompt, cell.seed) for cell in shown(studio).cells] == [("a whale", 0)]


# ---- who goes first -----------------------------------------------------------------------


def test_a_single_picture_goes_before_and_between_longer_work(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_starters(studio)
    made = done_round(studio)
    view = View(None, made.id)
    order: list[str] = []
    jobs: dict[str, str] = {}

    def paint(painter: Any, prompts: Any, seeds: Any) -> Any:
        order.append(painter.context.job_id)
        if painter.context.job_id == jobs["pairs"] and "single" not in jobs:
            jobs["single"] = draw_one(studio, view, "a whale", 0, 0.5).job_id or ""
        return fake_paint(painter, prompts, seeds)

    monkeypatch.setattr(Painter, "paint", paint)
    monkeypatch.setattr(Pipelines, "get", fake_pipeline)
    with studio.database.read() as session:
        prompt_ids = [prompt.id for prompt in list_prompts(session, "train")[:6]]
    told = {
        "prompt_ids": prompt_ids,
        "count": 6,
        "seed": 1,
        "generation": GENERATION.model_dump(),
        "model": studio.settings.model,
    }
    jobs["pairs"] = studio.engine.enqueue("pairs", told, priority=SPARE)
    draw_missing(studio, shown(studio).view)
    (grid,) = studio.engine.unfinished("comparisons")
    work(studio, jobs["pairs"])
    names = {jobs["pairs"]: "pairs", jobs["single"]: "single", grid.job_id: "grid"}
    runs = [names[job_id] for job_id in order]
    # The grid was asked for before anything ran, and the single picture while the pairs were made.
    assert runs[:6] == ["grid"] * 6
    assert runs[6:9] == ["pairs", "single", "single"]
    assert set(runs[9:]) == {"pairs"}
    result = studio.engine.status(jobs["pairs"]).result
    assert len(result["pair_ids"]) == len(set(result["pair_ids"])) == 6


def test_giving_way_is_for_more_urgent_jobs_only(studio: Studio) -> None:
    job_id = studio.engine.enqueue("pairs", {}, priority=SPARE)
    context = JobContext(
        job_id=job_id,
        kind="pairs",
        settings=studio.settings,
        database=studio.database,
        files=studio.files,
        engine=studio.engine,
        pipelines=Pipelines(studio.settings),
        stopping=threading.Event(),
        priority=SPARE,
    )
    context.give_way()
    studio.engine.enqueue("round", {})
    with pytest.raises(HandBack):
        context.give_way()


def test_what_fills_idle_time_is_dropped_while_a_person_waits(
    studio: Studio, painted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_starters(studio)
    view = View(None, done_round(studio).id)
    painting = Painter.paint
    jobs: dict[str, str] = {}

    def slowly(painter: Any, prompts: Any, seeds: Any) -> Any:
        if painter.context.priority == SPARE and not jobs:
            jobs["single"] = draw_one(studio, view, "a whale", 0, 1.0).job_id or ""
            deadline = time.monotonic() + 20
            while time.monotonic() < deadline:
                painter.context.checkpoint()
                time.sleep(0.02)
            jobs["dropped"] = "no"
        return painting(painter, prompts, seeds)

    monkeypatch.setattr(Painter, "paint", slowly)
    with studio.database.read() as session:
        prompt_ids = [prompt.id for prompt in list_prompts(session, "train")[:2]]
    told = {
        "prompt_ids": prompt_ids,
        "count": 2,
        "seed": 1,
        "generation": GENERATION.model_dump(),
        "model": studio.settings.model,
    }
    pairs = studio.engine.enqueue("pairs", told, priority=SPARE)
    (result,) = work(studio, pairs)
    assert studio.engine.status(jobs["single"]).state == "done"
    assert "dropped" not in jobs
    assert len(result["pair_ids"]) == 2


# ---- starters -----------------------------------------------------------------------------


def test_a_newcomer_has_prompts_to_compare_by_that_are_not_labelled_by(studio: Studio) -> None:
    add_starters(studio)
    with studio.database.read() as session:
        held_out = list_prompts(session, "held_out")
        others = {p.text for p in list_prompts(session) if p.split != "held_out"}
    assert len(held_out) == len(held_out_starters()) == HELD_OUT_STARTERS == 24
    assert {prompt.source for prompt in held_out} == {"starter"}
    assert not others & {prompt.text for prompt in held_out}


def test_an_older_workspace_gets_them_too_and_own_prompts_stay(studio: Studio) -> None:
    text = held_out_starters()[0]
    label_prompts(studio, [text])
    assert add_starters(studio) == 0
    with studio.database.read() as session:
        held_out = list_prompts(session, "held_out")
        own = find_prompt(session, text)
    assert own is not None
    assert own.split != "held_out"
    assert len(held_out) == HELD_OUT_STARTERS - 1
