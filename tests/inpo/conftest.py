"""Schedules that the algorithm is tested on."""

from __future__ import annotations

from typing import Any

import pytest

from inpo_studio.inpo.schedule import Schedule, schedule_from_config

STABLE_DIFFUSION: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "clip_sample": False,
}


@pytest.fixture(params=["epsilon", "v_prediction"])
def prediction_type(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def schedule() -> Schedule:
    return schedule_from_config(STABLE_DIFFUSION)
