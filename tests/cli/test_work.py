"""Who does the work that a command waits for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import pytest

from inpo_studio.cli import work
from inpo_studio.cli.console import Console
from inpo_studio.settings import Settings
from inpo_studio.studio import Studio


@pytest.mark.parametrize("worker", [True, False])
def test_a_worker_is_started_unless_the_work_is_done_elsewhere(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, worker: bool
) -> None:
    started: list[Settings] = []

    @contextlib.contextmanager
    def embedded(settings: Settings) -> Iterator[None]:
        started.append(settings)
        yield

    monkeypatch.setattr(work, "embedded_worker", embedded)
    ends = iter([False, True])
    settings = replace(studio.settings, worker=worker)
    work.wait_until(settings, Console(as_json=False), lambda: next(ends), lambda: None)
    assert next(ends, None) is None
    assert len(started) == worker
