"""kill -9 in a real round: it goes on to its end and gives the bytes of an undisturbed one."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from inpo_studio.configs import RoundConfig
from inpo_studio.engine import Engine
from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.align.rounds import RoundStatus, round_status
from inpo_studio.supervisor import Supervisor
from storage.adapters import list_adapters
from storage.samples import list_samples
from tests.jobs.support import wait_for
from tests.labelled import ROUND, queued_round

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL"),
]

CONFIG = RoundConfig.model_validate(
    {
        "steps": 60,
        "rank": 2,
        "alpha": 2.0,
        "batch_pairs": 4,
        "micro_batch_pairs": 2,
        "levels": 5,
        "checkpoint_every": 3,
        "validate_every": 10,
        "sample_every": 12,
        "weight_averaging": 0.9,
        "threads": 1,
        "dtype": "float32",
    }
)


def process_named(parent: int, part: str) -> psutil.Process | None:
    """A living descendant of ``parent`` whose command line holds ``part``."""
    try:
        for child in psutil.Process(parent).children(recursive=True):
            if part in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                return child
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return None


def kill_at(studio: Studio, supervisor: Supervisor, victim: str, step: int) -> None:
    """kill -9 the trainer or the worker once the round has got to ``step``."""
    wait_for(lambda: _status(studio).round.step >= step, 300, f"step {step}")
    worker = supervisor.pid
    assert worker is not None
    if victim == "worker":
        os.kill(worker, signal.SIGKILL)
        return
    trainer = process_named(worker, "inpo_studio.training.round")
    assert trainer is not None, "the trainer had ended before it could be killed"
    trainer.kill()


def run_round(settings: Settings, victims: list[str]) -> RoundStatus:
    """Run the workspace's round under the supervisor, killing ``victims`` on the way."""
    studio = open_studio(settings)
    try:
        Engine(settings).enqueue("round", {"round_id": ROUND}, job_id="round-job")
        with Supervisor(settings) as supervisor:
            for number, victim in enumerate(victims):
                kill_at(studio, supervisor, victim, 6 + 10 * number + random.randint(0, 5))
            wait_for(lambda: _status(studio).round.state in ("done", "failed"), 600, "the end")
        return _status(studio)
    finally:
        studio.close()


def _status(studio: Studio) -> RoundStatus:
    return round_status(studio, ROUND)


def kept_on_the_way(workspace: Path) -> tuple[list[Any], list[Any]]:
    """Sample pictures and snapshots of the round, by step."""
    studio = open_studio(Settings(workspace=workspace))
    try:
        with studio.database.read() as session:
            samples = list_samples(session, ROUND)
            adapters = list_adapters(session, round_id=ROUND)
    finally:
        studio.close()
    assert {sample.step for sample in samples} == {0, 12, 24, 36, 48, 60}
    assert [adapter.step for adapter in adapters] == [12, 24, 36, 48, 60]
    return (
        [(sample.step, sample.position, sample.sha256) for sample in samples],
        [(adapter.step, adapter.sha256) for adapter in adapters],
    )


def test_a_killed_round_ends_in_the_same_bytes(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    model = str(tiny_model("sd15"))
    settings = queued_round(tmp_path / "undisturbed", model, CONFIG)
    copied = tmp_path / "killed"
    shutil.copytree(settings.workspace, copied)
    undisturbed = run_round(settings, [])
    killed = run_round(
        Settings(workspace=copied, model=model, device="cpu", threads=1),
        ["trainer", "worker"],
    )
    for status in (undisturbed, killed):
        assert status.round.state == "done", status.round.failure
        assert [metric.step for metric in status.metrics] == list(range(1, CONFIG.steps + 1))
    assert killed.round.attempt > undisturbed.round.attempt + 1
    assert undisturbed.adapter is not None
    assert killed.adapter is not None
    assert killed.adapter.sha256 == undisturbed.adapter.sha256
    assert kept_on_the_way(copied) == kept_on_the_way(settings.workspace)
    losses = [[metric.loss for metric in status.metrics] for status in (undisturbed, killed)]
    assert losses[0] == losses[1]
