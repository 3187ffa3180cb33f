"""Changing the model a studio works with; what belongs to each model stays with it. Torch-free."""

from __future__ import annotations

import threading
from dataclasses import replace

from inpo_studio.engine import SPARE
from inpo_studio.settings import keep_chosen_model
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.starters import add_starters
from inpo_studio.studio.model.models import Found, named, ready_model
from storage.rounds import list_rounds
from storage.transitions import WORKED_ON

_one_at_a_time = threading.Lock()


def use_model(studio: Studio, name: str) -> Found:
    """Go on with another model, now and at the workspace's next start; returns what it is.

    Choices, pairs and rounds are kept by model, so those of the new one come back. Raises
    StudioError where the model cannot be used, and while a round is at work.
    """
    with _one_at_a_time:
        found = ready_model(studio, named(name))
        _refuse_at_work(studio)
        try:
            keep_chosen_model(studio.settings.workspace, found.name)
        except OSError as error:
            raise StudioError(
                f"The choice of the model cannot be kept ({error.strerror}); make the workspace "
                "writable and try again."
            ) from error
        _drop_spare_pairs(studio)
        studio.renew(replace(studio.settings, model=found.name))
        add_starters(studio)
    return found


def _refuse_at_work(studio: Studio) -> None:
    """A change of model starts the worker anew, which would cut into what it trains."""
    with studio.database.read() as session:
        busy = [
            row for row in list_rounds(session) if row.state == "queued" or row.state in WORKED_ON
        ]
    if busy:
        row = busy[0]
        whose = "" if row.model == studio.settings.model else f" of {row.model}"
        raise StudioError(
            f"Round {row.number}{whose} is at work; pause or end it under Align first, then change "
            "the model."
        )


def _drop_spare_pairs(studio: Studio) -> None:
    """Pairs that the worker makes without being asked are of the model that is left."""
    for job in studio.engine.unfinished("pairs"):
        if job.priority >= SPARE:
            studio.engine.cancel(job.job_id)
