"""Closing the studio during a round: no step is lost, and the bytes stay those of one run."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from inpo_studio.jobs import launching
from inpo_studio.jobs.launching import command
from inpo_studio.jobs.trainer import LEAVE_S
from inpo_studio.processes import spawn, stop
from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.training.round import Exit
from storage.adapters import get_adapter
from storage.frozen import freeze_choices
from storage.metrics import list_metrics
from storage.rounds import claim_attempt, get_round
from storage.samples import list_samples
from tests.faults.test_round_bytes import CONFIG
from tests.jobs.support import wait_for
from tests.labelled import ROUND, queued_round

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.name == "nt", reason="needs SIGTERM"),
]

STEPS = 40


def start(studio: Studio) -> subprocess.Popen[bytes]:
    with studio.database.write() as session:
        freeze_choices(session, ROUND)
        attempt = claim_attempt(session, ROUND)
    return spawn(
        command(studio.settings, ROUND, attempt),
        log_path=studio.settings.logs / "round.log",
        env=studio.settings.to_environment(),
    )


def finish(studio: Studio) -> None:
    child = start(studio)
    try:
        assert child.wait(300) == Exit.DONE
    finally:
        stop(child)


def step_of(studio: Studio) -> int:
    with studio.database.read() as session:
        return get_round(session, ROUND).step


def saved_step(settings: Settings) -> int:
    folder = settings.workspace / "rounds" / ROUND / "checkpoints"
    return max((int(path.name[-6:]) for path in folder.glob("checkpoint-*")), default=0)


@pytest.fixture
def new_studio(tmp_path: Path, tiny_model: Callable[[str], Path]) -> Callable[[str], Studio]:
    def make(name: str) -> Studio:
        # Its checkpoints on the way are far apart: only leaving saves anything between them.
        config = CONFIG.model_copy(update={"checkpoint_every": 1000, "steps": STEPS})
        return open_studio(queued_round(tmp_path / name, str(tiny_model("sd15")), config))

    return make


def test_leaving_loses_no_step_and_no_byte(
    new_studio: Callable[[str], Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, left = new_studio("whole"), new_studio("left")
    finish(whole)
    monkeypatch.setattr(launching, "ROUND", "tests.training.troubled")
    monkeypatch.setenv("TROUBLE", "slow")
    for how in ("lifeline", "signal", "lifeline"):
        wanted = step_of(left) + 4
        child = start(left)
        wait_for(lambda wanted=wanted: step_of(left) >= wanted, 120, f"step {wanted}")
        begun = time.monotonic()
        if how == "signal":
            child.send_signal(signal.SIGTERM)
            child.wait(LEAVE_S + 1)
        code = stop(child, grace_s=LEAVE_S)
        print(f"{how}: left after {time.monotonic() - begun:.2f} s at {saved_step(left.settings)}")
        assert code == Exit.LEFT
        # The progress in the database lags behind by what was not yet flushed.
        assert STEPS > saved_step(left.settings) >= wanted
        assert saved_step(left.settings) == step_of(left)
        with left.database.read() as session:
            assert get_round(session, ROUND).state == "running"
    finish(left)
    results = []
    for studio in (whole, left):
        with studio.database.read() as session:
            row = get_round(session, ROUND)
            assert row.adapter_id is not None
            results.append(
                (
                    get_adapter(session, row.adapter_id).sha256,
                    [(metric.step, metric.loss) for metric in list_metrics(session, ROUND)],
                    [(s.step, s.position, s.sha256) for s in list_samples(session, ROUND)],
                )
            )
        studio.close()
    assert results[0] == results[1]


def test_leaving_before_training_is_quick(new_studio: Callable[[str], Studio]) -> None:
    studio = new_studio("early")
    child = start(studio)
    begun = time.monotonic()
    assert stop(child, grace_s=20) == Exit.LEFT
    print(f"left after {time.monotonic() - begun:.2f} s")
    assert saved_step(studio.settings) == 0
    studio.close()
