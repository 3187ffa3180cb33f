"""The worker keeps pairs ready: enough, of the right prompts, and no job twice."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest

from inpo_studio.jobs import beside
from inpo_studio.jobs import supply as supplying
from inpo_studio.jobs.beside import Beside
from inpo_studio.jobs.context import JobContext, JobFailed
from inpo_studio.jobs.executor import Executor
from inpo_studio.jobs.pictures import Painter
from inpo_studio.jobs.pipelines import Pipelines
from inpo_studio.jobs.supply import FIRST, Supply
from inpo_studio.studio import Studio
from inpo_studio.studio.label.pairs import ready_count, request_pairs
from inpo_studio.studio.label.prompts import label_prompts
from inpo_studio.studio.label.standing import standing
from storage.pairs import list_pairs
from tests.jobs.support import fake_paint, fake_pipeline, wait_for

WANTED = 30


def supply(studio: Studio, keep_ready: int = WANTED) -> Supply:
    settings = replace(studio.settings, keep_ready=keep_ready)
    return Supply(settings, studio.database, studio.engine)


def test_it_asks_once_and_only_where_there_are_prompts(studio: Studio) -> None:
    assert supply(studio).top_up() is None
    label_prompts(studio, ["a red barn", "a lighthouse"])
    assert supply(studio, keep_ready=0).top_up() is None
    keeper = supply(studio)
    job_id = keeper.top_up()
    assert job_id is not None
    assert keeper.top_up() is None
    assert supply(studio).top_up() is None
    assert [job.job_id for job in studio.engine.unfinished("pairs")] == [job_id]


def test_a_worker_fills_a_fresh_workspace_and_stops(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Painter, "paint", fake_paint)
    monkeypatch.setattr(Pipelines, "get", fake_pipeline)
    label_prompts(studio, [f"a hill {number}" for number in range(5)])
    executor = Executor(replace(studio.settings, keep_ready=WANTED), keeps_ready=True)
    executor.start()
    try:
        wait_for(lambda: ready_count(studio) >= FIRST, 20, "the first pairs")
        wait_for(lambda: ready_count(studio) >= WANTED, 60, "enough pairs")
    finally:
        executor.stop()
    assert ready_count(studio) == WANTED
    with studio.database.read() as session:
        per_prompt: dict[str, int] = {}
        for pair in list_pairs(session):
            per_prompt[pair.prompt_id] = per_prompt.get(pair.prompt_id, 0) + 1
            assert pair.second_image.variation_strength == studio.settings.variation < 1
    assert len(per_prompt) == 5
    assert max(per_prompt.values()) - min(per_prompt.values()) <= 3


def test_pairs_that_are_asked_for_are_as_the_studio_is_set(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def enqueue(engine: Any, kind: str, payload: dict[str, Any], *rest: Any, **more: Any) -> str:
        asked.append(payload)
        return "job"

    monkeypatch.setattr(type(studio.engine), "enqueue", enqueue)
    request_pairs(studio, ["a fox"], 2)
    assert [payload["variation"] for payload in asked] == [studio.settings.variation]


class Failing:
    """An engine whose jobs fail as soon as they are asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def unfinished(self, kind: str) -> list[Any]:
        return []

    def find(self, job_id: str) -> Any:
        return SimpleNamespace(state="failed") if job_id in self.asked else None

    def enqueue(self, kind: str, payload: Any, *, job_id: str, **others: Any) -> None:
        self.asked.append(job_id)


def test_what_fails_is_tried_again_after_ever_longer(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    label_prompts(studio, ["a red barn"])
    now, tried = 0.0, []
    monkeypatch.setattr(supplying, "time", SimpleNamespace(monotonic=lambda: now))
    settings = replace(studio.settings, keep_ready=WANTED)
    keeper = Supply(settings, studio.database, Failing())  # type: ignore[arg-type]
    while len(tried) < 7:
        if keeper.top_up() is not None:
            tried.append(now)
        now += 10.0
    waits = [later - before for before, later in pairwise(tried)]
    assert waits == [70, 130, 250, 490, 910, 910]
    label_prompts(studio, ["a lighthouse"])
    assert keeper.top_up() is not None


def test_what_fails_is_said_and_not_repeated_at_once(studio: Studio) -> None:
    tried = []

    def fail(context: JobContext, payload: dict[str, Any]) -> Any:
        tried.append(payload)
        raise JobFailed("The weights are missing; install them.")

    label_prompts(studio, ["a red barn"])
    settings = replace(studio.settings, keep_ready=WANTED)
    for starts in (1, 2):  # a worker that is started anew tries at once
        executor = Executor(settings, kinds={"pairs": fail}, keeps_ready=True)
        executor.start()
        try:
            wait_for(lambda starts=starts: len(tried) >= starts, 20, "a try")
            wait_for(lambda: not studio.engine.unfinished("pairs"), 20, "its end")
            time.sleep(2.5 if starts == 1 else 0)  # another look at what is ready
        finally:
            executor.stop()
    assert len(tried) == 2
    assert "weights are missing" in standing(studio).problem


def test_pairs_go_on_beside_a_round_where_there_is_room(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Painter, "paint", fake_paint)
    monkeypatch.setattr(Pipelines, "get", fake_pipeline)
    label_prompts(studio, ["a red barn", "a lighthouse"])
    settings = replace(studio.settings, keep_ready=2)
    context = JobContext(
        job_id="round",
        kind="round",
        settings=settings,
        database=studio.database,
        files=studio.files,
        engine=studio.engine,
        pipelines=Pipelines(settings),
        stopping=threading.Event(),
    )
    assert Beside(context).make_one() is None  # a worker that was not asked to
    keeper = Beside(replace(context, keeps_ready=True))
    monkeypatch.setattr("inpo_studio.jobs.beside.free_bytes", lambda device: 0)
    assert keeper.make_one() is None
    monkeypatch.setattr("inpo_studio.jobs.beside.free_bytes", lambda device: 2**40)
    monkeypatch.setattr("inpo_studio.jobs.beside.LOOK_EVERY_S", 0.0)
    made = [keeper.make_one() for _ in range(3)]
    assert made[2] is None
    with studio.database.read() as session:
        assert {pair.id for pair in list_pairs(session)} == set(made[:2])
        assert all(pair.second_image.variation_strength for pair in list_pairs(session))
        assert len({pair.prompt_id for pair in list_pairs(session)}) == 2


def test_a_failure_beside_a_round_is_not_the_rounds(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Pipelines, model: str) -> Any:
        raise RuntimeError("no such model")

    monkeypatch.setattr(Pipelines, "get", fail)
    monkeypatch.setattr("inpo_studio.jobs.beside.free_bytes", lambda device: 2**40)
    label_prompts(studio, ["a red barn"])
    context = JobContext(
        job_id="round",
        kind="round",
        settings=studio.settings,
        database=studio.database,
        files=studio.files,
        engine=studio.engine,
        pipelines=Pipelines(studio.settings),
        stopping=threading.Event(),
        keeps_ready=True,
    )
    keeper = Beside(context)
    assert keeper.make_one() is None
    assert keeper.make_one() is None


def test_on_a_card_the_model_makes_room_for_the_training(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Painter, "paint", fake_paint)
    monkeypatch.setattr(beside, "on_card", lambda device: True)
    monkeypatch.setattr(beside, "LOOK_EVERY_S", 0.0)
    free = 0
    monkeypatch.setattr(beside, "free_bytes", lambda device: free)
    label_prompts(studio, ["a red barn", "a lighthouse"])
    settings = replace(studio.settings, keep_ready=3)
    pipelines = Pipelines(settings)
    context = JobContext(
        job_id="round",
        kind="round",
        settings=settings,
        database=studio.database,
        files=studio.files,
        engine=studio.engine,
        pipelines=pipelines,
        stopping=threading.Event(),
        keeps_ready=True,
    )
    keeper = Beside(context)
    to_load, to_draw = (beside.room_bytes(settings.model, "cuda", held) for held in (False, True))
    assert 0 < to_draw < to_load < beside.ROOM_BYTES
    free = to_load - 1
    assert keeper.make_one() is None
    assert not pipelines.holds(settings.model)
    free = to_load
    assert keeper.make_one() is not None
    assert pipelines.holds(settings.model)
    free = to_draw
    assert keeper.make_one() is not None
    free = to_draw - 1
    assert keeper.make_one() is None
    assert not pipelines.holds(settings.model)
    free = to_load
    assert keeper.make_one() is not None
    assert pipelines.holds(settings.model)
    pipelines.release()
