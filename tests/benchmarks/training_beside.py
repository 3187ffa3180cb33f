"""A real round on the postcards model, and pairs being made, beside something that is measured."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import psutil

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.align.rounds import cancel_round, start_round
from inpo_studio.studio.label.choices import record_choice
from inpo_studio.studio.label.labelling import Labelling
from inpo_studio.studio.label.starters import add_starters
from inpo_studio.supervisor import Supervisor
from storage.pairs import list_pairs
from storage.rounds import get_round

LEARNT_FROM = 24
"""Pairs the round learns from; made by the model, so that the trainer does what it always does."""
STEPS = 20_000
"""More than the measurement lasts."""
ALWAYS_MORE = 4_096
PATIENCE_S = 900.0


@dataclass(frozen=True)
class Moment:
    """How far training and pairs are, and the processor seconds of the processes so far."""

    at: float
    state: str
    step: int
    pairs: int
    processor_s: float


@dataclass(frozen=True)
class Beside:
    """What goes on beside the measurement."""

    studio: Studio
    round_id: str
    worker: psutil.Process

    def moment(self) -> Moment:
        """Look at it now."""
        with self.studio.database.read() as session:
            row = get_round(session, self.round_id)
            pairs = len(list_pairs(session, self.studio.settings.model))
        family = [self.worker, *self.worker.children(recursive=True)]
        spent = sum(sum(one.cpu_times()[:2]) for one in family if one.is_running())
        return Moment(time.monotonic(), row.state, row.step, pairs, spent)


def prepare(workspace: Path) -> None:
    """Make a workspace with pairs of the model and a choice on each, ready for a round."""
    studio = open_studio(Settings(workspace=workspace, keep_ready=LEARNT_FROM))
    try:
        add_starters(studio)
        labelling = Labelling(studio)

        def ready() -> bool:
            with studio.database.read() as session:
                return len(list_pairs(session)) >= LEARNT_FROM

        with Supervisor(studio.settings):
            wait_for(ready, "the pairs to learn from")
        for _ in range(0, LEARNT_FROM, 20):
            for shown in labelling.serve("me", "one", [], 20).pairs:
                record_choice(
                    studio,
                    key=uuid4().hex,
                    pair_id=shown.pair_id,
                    choice="left" if shown.left_image_id < shown.right_image_id else "right",
                    left_image_id=shown.left_image_id,
                    right_image_id=shown.right_image_id,
                )
    finally:
        studio.close()


@contextmanager
def training_beside(studio: Studio) -> Iterator[Beside]:
    """Train on a prepared workspace and make pairs all the while; begins at the first steps."""
    settings = replace(studio.settings, keep_ready=ALWAYS_MORE)
    row = start_round(studio, steps=STEPS)

    def trains() -> bool:
        with studio.database.read() as session:
            found = get_round(session, row.id)
        assert found.state in ("queued", "running"), f"{found.state}: {found.failure}"
        return found.step >= 2

    with Supervisor(settings) as supervisor:
        wait_for(trains, "the first steps of the training")
        assert supervisor.pid is not None
        yield Beside(studio, row.id, psutil.Process(supervisor.pid))
        cancel_round(studio, row.id)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.2)


def copied(prepared: Path, target: Path) -> Path:
    """A copy of a prepared workspace, without its logs."""
    shutil.copytree(prepared, target, ignore=shutil.ignore_patterns("logs", "*-wal", "*-shm"))
    return target
