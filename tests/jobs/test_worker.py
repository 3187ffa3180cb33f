"""The worker inside this process: jobs done, failed, cancelled, handed back, taken over."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from dbos import DBOS

from inpo_studio.engine import EngineError
from inpo_studio.jobs.context import HandBack, JobContext, JobFailed
from inpo_studio.jobs.executor import Executor
from inpo_studio.jobs.worker import embedded_worker, run_worker
from inpo_studio.processes import WorkerRunning, worker_lock, worker_runs
from inpo_studio.studio import Studio
from storage.progress import get_progress
from tests.jobs.support import add, count_up, wait_for

ENDLESS = {"items": 10_000, "item_s": 0.02}


def done_items(studio: Studio, job_id: str) -> int:
    with studio.database.read() as session:
        row = get_progress(session, job_id)
    return 0 if row is None else row.done


def test_a_job_is_done_and_its_progress_told(studio: Studio) -> None:
    seen = []
    with embedded_worker(studio.settings, kinds={"count": count_up}):
        assert worker_runs(studio.settings.workspace)
        job_id = studio.engine.enqueue("count", {"items": 3, "item_s": 0})
        status = studio.engine.wait(job_id, timeout_s=10, on_poll=seen.append)
    assert (status.kind, status.state, status.result) == ("count", "done", {"items": 3})
    assert seen[-1] == status
    assert done_items(studio, job_id) == 3
    assert not worker_runs(studio.settings.workspace)


def fail_plainly(context: JobContext, payload: dict[str, Any]) -> None:
    raise JobFailed("There is no paint; buy some.")


def fail_oddly(context: JobContext, payload: dict[str, Any]) -> None:
    raise KeyError("paint")


def test_failures_are_told_in_a_sentence(studio: Studio, capfd: pytest.CaptureFixture[str]) -> None:
    kinds = {"plainly": fail_plainly, "oddly": fail_oddly}
    errors = {}
    with embedded_worker(studio.settings, kinds=kinds):
        for kind in ("plainly", "oddly", "unknown"):
            status = studio.engine.wait(studio.engine.enqueue(kind, {}), timeout_s=10)
            assert status.state == "failed"
            errors[kind] = status.error or ""
    assert errors["plainly"] == "There is no paint; buy some."
    assert "KeyError: 'paint'" in errors["oddly"]
    assert "does not know jobs of the kind 'unknown'" in errors["unknown"]
    assert "Traceback" in (studio.settings.logs / "worker-0.log").read_text()
    assert capfd.readouterr() == ("", "")


def test_a_running_job_is_cancelled_at_its_next_item_and_the_next_job_runs(
    studio: Studio,
) -> None:
    with embedded_worker(studio.settings, kinds={"count": count_up, "add": add}):
        endless = studio.engine.enqueue("count", ENDLESS)
        wait_for(lambda: done_items(studio, endless) > 1)
        studio.engine.cancel(endless)
        following = studio.engine.enqueue("add", {"a": 2, "b": 2})
        assert studio.engine.wait(following, timeout_s=10).result == {"sum": 4}
        stopped_at = done_items(studio, endless)
    assert studio.engine.status(endless).state == "cancelled"
    assert done_items(studio, endless) == stopped_at < ENDLESS["items"]


@pytest.mark.slow
def test_a_job_is_handed_back_by_a_worker_that_stops_and_goes_on_in_the_next(
    studio: Studio,
) -> None:
    job_id = studio.engine.enqueue("count", {"items": 60, "item_s": 0.02})
    for _ in range(8):  # more often than a worker may die on it
        with embedded_worker(studio.settings, kinds={"count": count_up}):
            before = done_items(studio, job_id)
            wait_for(lambda before=before: done_items(studio, job_id) > before)
        status = studio.engine.status(job_id)
        assert (status.state, status.dispatches) == ("queued", 0)
    with embedded_worker(studio.settings, kinds={"count": count_up}):
        assert studio.engine.wait(job_id, timeout_s=20).state == "done"


def test_a_worker_that_stops_takes_up_nothing_more(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    work, destroy = Executor.work, DBOS.destroy

    def note(executor: Executor, job_id: str, kind: str, payload: dict[str, Any]) -> Any:
        given.append(job_id)
        return work(executor, job_id, kind, payload)

    def destroy_late() -> None:
        threading.Event().wait(1.0)  # long enough for the engine to look into its queue
        destroy()

    monkeypatch.setattr(Executor, "work", note)
    monkeypatch.setattr(DBOS, "destroy", destroy_late)
    jobs = [studio.engine.enqueue("count", ENDLESS) for _ in range(3)]
    with embedded_worker(studio.settings, kinds={"count": count_up}):
        wait_for(lambda: done_items(studio, jobs[0]) > 1)
    assert given == jobs[:1]
    assert [studio.engine.status(job_id).state for job_id in jobs] == ["queued"] * 3
    assert "Error" not in (studio.settings.logs / "worker-0.log").read_text()


def test_only_what_a_stopping_worker_lets_go_of_is_handed_back_by_it(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def give_way(executor: Executor, job_id: str, kind: str, payload: dict[str, Any]) -> Any:
        raise HandBack

    monkeypatch.setattr(Executor, "_do", give_way)
    executor = Executor(studio.settings)
    with pytest.raises(HandBack):
        executor.work("gives way", "count", {})
    executor._stopping.set()
    with pytest.raises(HandBack):
        executor.work("is let go", "count", {})
    assert executor._handed_back == {"is let go"}


def test_a_stage_that_is_done_is_not_done_again(studio: Studio) -> None:
    runs = []

    def staged(context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
        first = context.stage("first", lambda: runs.append("first") or {"drawn": 7})
        while len(runs) < 2:
            context.checkpoint()
        return {"first": first, "second": context.stage("second", lambda: "done")}

    job_id = studio.engine.enqueue("staged", {})
    with embedded_worker(studio.settings, kinds={"staged": staged}):
        wait_for(lambda: runs == ["first"])
    runs.append("stopped")
    with embedded_worker(studio.settings, kinds={"staged": staged}):
        status = studio.engine.wait(job_id, timeout_s=10)
    assert status.result == {"first": {"drawn": 7}, "second": "done"}
    assert runs == ["first", "stopped"]


def test_one_job_at_a_time(studio: Studio) -> None:
    at_work: list[str] = []
    together = []

    def alone(context: JobContext, payload: dict[str, Any]) -> None:
        at_work.append(context.job_id)
        together.append(len(at_work))
        threading.Event().wait(0.3)
        at_work.remove(context.job_id)

    with embedded_worker(studio.settings, kinds={"alone": alone}):
        jobs = [studio.engine.enqueue("alone", {}) for _ in range(4)]
        for job_id in jobs:
            studio.engine.wait(job_id, timeout_s=20)
    assert together == [1, 1, 1, 1]


def test_a_second_worker_in_a_slot_is_refused_with_the_first_one_named(studio: Studio) -> None:
    with (
        worker_lock(studio.settings.workspace),
        pytest.raises(WorkerRunning, match=r"already runs \(process \d+\).*--slot"),
    ):
        run_worker(studio.settings)


def test_an_embedded_worker_leaves_the_work_to_another_and_takes_over_from_it(
    studio: Studio,
) -> None:
    other = worker_lock(studio.settings.workspace)
    other.__enter__()
    with embedded_worker(studio.settings, kinds={"add": add}):
        job_id = studio.engine.enqueue("add", {"a": 1, "b": 1})
        with pytest.raises(TimeoutError):
            studio.engine.wait(job_id, timeout_s=1)
        other.__exit__(None, None, None)
        assert studio.engine.wait(job_id, timeout_s=10).state == "done"


def test_a_worker_that_cannot_start_says_why(studio: Studio) -> None:
    jobs = studio.settings.workspace / "jobs.db"
    jobs.rename(jobs.with_suffix(".away"))
    jobs.mkdir()
    with (
        pytest.raises(EngineError, match=r"jobs\.db cannot be read"),
        embedded_worker(studio.settings),
    ):
        pass
    assert not worker_runs(studio.settings.workspace)
    jobs.rmdir()
    jobs.with_suffix(".away").rename(jobs)
    with embedded_worker(studio.settings):
        assert worker_runs(studio.settings.workspace)
