"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

# On a machine that is busy with other work, processes that step back would hardly get a turn.
os.environ.setdefault("INPO_STUDIO_STEP_BACK", "no")
# Tests run beside each other: one thread each, and threads that wait leave the processor (read when
# torch loads).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell starts what runs in its background deaf to Ctrl-C, and every process started from it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Files that take minutes, begun first, so that no process is left alone with one of them.
LONGEST = (
    "test_whole_loop.py",
    "test_families.py",
    "test_together.py",
    "test_round_bytes.py",
    "test_worker_dies.py",
    "test_levers.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files for two processes; the order within a file stays."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """tiny_model(kind) -> folder of a small random pipeline, made once a session."""
    made: dict[str, Path] = {}

    def build(kind: str) -> Path:
        if kind not in made:
            from tests.tiny import build_tiny

            made[kind] = build_tiny(kind, tmp_path_factory.mktemp("tiny") / kind)  # type: ignore[arg-type]
        return made[kind]

    return build
