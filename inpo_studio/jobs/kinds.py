"""The kinds of job there are, by the name they are enqueued under."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from inpo_studio.jobs import checks, comparisons, pairs, rounds, trials
from inpo_studio.jobs.context import JobContext

Kind = Callable[[JobContext, dict[str, Any]], Any]
"""Does the job and returns its result, which must be JSON."""

KINDS: Mapping[str, Kind] = {
    "pairs": pairs.run,
    "comparisons": comparisons.run,
    "round": rounds.run,
    "trial": trials.run,
    "check": checks.run,
}
