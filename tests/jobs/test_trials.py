"""Pictures of a blind trial: both sides of every item, a few at a time, in no telling order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from inpo_studio.jobs import trials as trial_jobs
from inpo_studio.jobs.pictures import Painter
from inpo_studio.jobs.pipelines import Pipelines
from inpo_studio.jobs.worker import embedded_worker
from inpo_studio.studio import Studio
from inpo_studio.studio.compare.trials import (
    cast_vote,
    draw_missing,
    serve_items,
    start_trial,
    trial_progress,
)
from storage.prompts import add_prompts
from storage.schema import Trial, TrialItem
from storage.trials import trial_items
from tests.jobs.support import GENERATION, fake_paint, fake_pipeline
from tests.studio.workspace import add_done_round


@pytest.fixture
def painted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str | None, int]]]:
    """Replaces the model; lists adapter and size of every batch."""
    batches: list[tuple[str | None, int]] = []

    def paint(painter: Any, prompts: Any, seeds: Any) -> Any:
        batches.append((painter.adapter_id, len(seeds)))
        return fake_paint(painter, prompts, seeds)

    monkeypatch.setattr(Painter, "paint", paint)
    monkeypatch.setattr(Pipelines, "get", fake_pipeline)
    return batches


def a_trial(studio: Studio, planned: int, rounds: int = 1, **more: Any) -> Trial:
    made = [add_done_round(studio) for _ in range(rounds)]
    for found in made:
        (studio.settings.workspace / "adapters" / found.id).mkdir(parents=True)
    base_id = made[-2].id if rounds > 1 else None
    with studio.database.write() as session:
        add_prompts(session, ["a sea", "a wood"], source="own", kind="compare")
    return start_trial(studio, made[-1].id, base_id, planned=planned, generation=GENERATION, **more)


def work(studio: Studio, trial: Trial) -> list[TrialItem]:
    job = trial_progress(studio, trial.id).job
    assert job is not None
    with embedded_worker(studio.settings):
        ended = studio.engine.wait(job.job_id, timeout_s=60)
    assert ended.state == "done", ended.error
    with studio.database.read() as session:
        return trial_items(session, trial.id)


def test_both_sides_of_every_item_are_drawn(studio: Studio, painted: list[Any]) -> None:
    trial = a_trial(studio, 9)
    items = work(studio, trial)
    assert [size for _, size in painted] == [2, 2, 4, 4, 3, 3]
    for item in items:
        drawn = item.comparison
        assert drawn is not None
        assert (drawn.prompt_id, drawn.seed) == (item.prompt_id, item.seed)
        assert drawn.base_image.adapter_id is None
        assert drawn.aligned_image.adapter_id == drawn.adapter_id is not None
        assert drawn.base_image.sha256 != drawn.aligned_image.sha256
        assert (drawn.round_id, drawn.base_round_id) == (trial.round_id, None)
    assert len(serve_items(studio, trial.id, want=20)[0]) == 9


def test_two_rounds_at_a_strength(studio: Studio, painted: list[Any]) -> None:
    trial = a_trial(studio, 2, rounds=2, scale=0.5)
    drawn = work(studio, trial)[0].comparison
    assert drawn is not None
    adapters = {drawn.base_image.adapter_id, drawn.aligned_image.adapter_id}
    assert len(adapters) == 2
    assert None not in adapters
    assert (drawn.base_round_id, drawn.scale) == (trial.base_round_id, 0.5)


def test_which_side_is_drawn_first_is_a_matter_of_chance(
    studio: Studio, painted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_jobs, "TOGETHER", 1)
    work(studio, a_trial(studio, 40))
    first = [adapter is None for adapter, _ in painted[::2]]
    assert set(first) == {True, False}
    rows = [adapter is None for adapter, _ in painted]
    assert all(one != other for one, other in zip(rows[::2], rows[1::2], strict=True))


def test_items_added_for_skips_are_drawn_too(studio: Studio, painted: list[Any]) -> None:
    trial = a_trial(studio, 3)
    work(studio, trial)
    cast_vote(
        studio,
        key="k",
        trial_id=trial.id,
        item_position=0,
        choice="skip",
        aligned_side="left",
        annotator="me",
    )
    items = work(studio, trial)
    assert len(items) == 4
    assert all(item.comparison is not None for item in items)
    assert sum(size for _, size in painted) == 8, "nothing is drawn twice"


def test_a_missing_adapter_is_said_and_can_be_tried_again(
    studio: Studio, painted: list[Any]
) -> None:
    trial = a_trial(studio, 2)
    folder = studio.settings.workspace / "adapters" / trial.round_id
    folder.rmdir()
    job = trial_progress(studio, trial.id).job
    assert job is not None
    with embedded_worker(studio.settings):
        ended = studio.engine.wait(job.job_id, timeout_s=60)
        assert ended.state == "failed"
        folder.mkdir()
        draw_missing(studio, trial.id)
        found = trial_progress(studio, trial.id).job
        assert found is not None
        assert "missing" in str(found.error), "it is not repeated by itself"
        draw_missing(studio, trial.id, again=True)
        again = trial_progress(studio, trial.id).job
        assert again is not None
        assert studio.engine.wait(again.job_id, timeout_s=60).state == "done"
    assert trial_progress(studio, trial.id).ready == 2
