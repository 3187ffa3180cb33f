"""A studio that changes its model: the worker it keeps is started anew with it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import psutil

from inpo_studio.settings import load_settings
from inpo_studio.studio import Studio
from inpo_studio.supervisor import Supervisor
from tests.jobs.support import wait_for

_WORKER = """
import sys, time
from pathlib import Path
from inpo_studio.processes import watch_lifeline
from inpo_studio.settings import load_settings
watch_lifeline()
Path(sys.argv[1]).write_text(load_settings().model)
time.sleep(600)
"""


def test_the_worker_goes_on_with_the_new_model(studio: Studio, tmp_path: Path) -> None:
    seen = tmp_path / "model"
    command = [sys.executable, "-c", _WORKER, str(seen)]
    with Supervisor(studio.settings, command=command) as supervisor:
        studio.on_renewed.append(supervisor.renew)
        wait_for(seen.exists, 20)
        wait_for(lambda: seen.read_text() == "postcards")
        first = supervisor.pid
        assert first is not None
        studio.renew(replace(studio.settings, model="a/b"))
        wait_for(lambda: seen.read_text() == "a/b", 20)
        assert not psutil.pid_exists(first)
        assert supervisor.pid not in (None, first)
    assert load_settings({"workspace": studio.settings.workspace}, {}).model == "postcards"
