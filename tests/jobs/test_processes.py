"""Children on a lifeline, and locks."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from inpo_studio import processes
from inpo_studio.machine import computing_threads
from inpo_studio.processes import (
    device_lock,
    spawn,
    step_back,
    stop,
    thread_environment,
    watch_lifeline,
    worker_lock,
    worker_runs,
)
from tests.jobs.support import wait_for

CHILD = """
from inpo_studio.processes import watch_lifeline
import os, sys, time
assert watch_lifeline({on_lost})
print("threads", os.environ["OMP_NUM_THREADS"], "stdin", repr(sys.stdin.read()), flush=True)
time.sleep(60)
"""


def child(tmp_path: Path, on_lost: str = "") -> tuple[object, Path]:
    log = tmp_path / "logs" / "child.log"
    code = CHILD.format(on_lost=on_lost)
    started = spawn([sys.executable, "-c", code], log_path=log, env={"OMP_NUM_THREADS": "3"})
    wait_for(lambda: "threads" in log.read_text(), what="the child's start")
    return started, log


def test_a_child_ends_when_its_lifeline_is_cut(tmp_path: Path) -> None:
    started, log = child(tmp_path)
    assert log.read_text() == "threads 3 stdin ''\n"
    begun = time.monotonic()
    assert stop(started) != 0
    assert time.monotonic() - begun < 2


def test_a_child_may_end_in_its_own_way(tmp_path: Path) -> None:
    started, _ = child(tmp_path, "lambda: os._exit(7)")
    assert stop(started) == 7


def test_a_child_that_does_not_end_is_killed(tmp_path: Path) -> None:
    code = "import time; print('up', flush=True); time.sleep(60)"
    log = tmp_path / "child.log"
    started = spawn([sys.executable, "-c", code], log_path=log)
    wait_for(lambda: "up" in log.read_text())
    assert stop(started, grace_s=0.3) == -9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_neither_siblings_nor_forked_copies_hold_a_lifeline(tmp_path: Path) -> None:
    started, _ = child(tmp_path)
    sibling, _ = child(tmp_path / "sibling")
    release = multiprocessing.get_context("fork").Event()
    copy = multiprocessing.get_context("fork").Process(target=release.wait, args=(20,))
    copy.start()
    try:
        started.stdin.close()
        assert started.wait(3) != 0
        assert sibling.poll() is None
    finally:
        release.set()
        copy.join()
        stop(sibling)


def test_only_a_spawned_process_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("INPO_LIFELINE", raising=False)
    assert not watch_lifeline()


def test_a_long_log_is_put_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 3)
    log = tmp_path / "child.log"
    log.write_text("before")
    stop(spawn([sys.executable, "-c", "print('after')"], log_path=log))
    assert log.with_name("child.log.old").read_text() == "before"


def test_threads_are_set() -> None:
    assert thread_environment(2)["OMP_NUM_THREADS"] == "2"
    assert thread_environment()["MKL_NUM_THREADS"] == str(computing_threads())
    assert thread_environment()["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.skipif(os.name != "posix", reason="niceness is POSIX's")
def test_a_child_steps_back_unless_told_not_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    child = spawn(command, log_path=tmp_path / "log")
    try:
        before = psutil.Process(child.pid).nice()
        step_back(19, child.pid)  # the tests are run with INPO_STUDIO_STEP_BACK=no
        assert psutil.Process(child.pid).nice() == before
        monkeypatch.delenv("INPO_STUDIO_STEP_BACK")
        step_back(17, child.pid)
        assert psutil.Process(child.pid).nice() == 17
        step_back(3, child.pid)
        assert psutil.Process(child.pid).nice() == 17
        session = Path(f"/proc/{child.pid}/autogroup")
        if session.exists() and session.read_text().startswith("/"):
            assert session.read_text().split()[-1] == "17"
    finally:
        stop(child, 0)
    step_back(19, child.pid)  # nobody there: nothing happens


def test_a_device_is_held_by_one_at_a_time_and_the_other_says_that_it_waits() -> None:
    order: list[str] = []
    held = threading.Event()
    release = threading.Event()

    def first() -> None:
        with device_lock("cpu"):
            order.append("first")
            held.set()
            release.wait(10)
            order.append("released")

    thread = threading.Thread(target=first)
    thread.start()
    held.wait(10)

    def waiting(sentence: str) -> None:
        assert f"device cpu (process {os.getpid()})" in sentence
        release.set()

    with device_lock("cpu", on_wait=waiting, poll_s=0.05), device_lock("mps"):
        order.append("second")
    thread.join()
    assert order == ["first", "released", "second"]


def test_waiting_for_a_device_can_be_given_up() -> None:
    def give_up(sentence: str) -> None:
        raise InterruptedError

    with device_lock("cpu"), pytest.raises(InterruptedError), device_lock("cpu", on_wait=give_up):
        pass


def test_a_gpu_has_one_name_however_it_is_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert processes._device_name("cuda") == processes._device_name("cuda:0") == "cuda-0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert processes._device_name("cuda:1") == "cuda-1"
    assert processes._device_name("cuda") == "cuda-3"


def test_worker_locks_are_per_workspace(tmp_path: Path) -> None:
    assert not worker_runs(tmp_path / "a")
    with worker_lock(tmp_path / "a", 1):
        assert worker_runs(tmp_path / "a")
        assert not worker_runs(tmp_path / "b")
    assert not worker_runs(tmp_path / "a")
