"""The state machine of a round, as data: which change is allowed from where."""

from __future__ import annotations

from storage.schema import RoundRequest, RoundState

TRANSITIONS: dict[RoundState, frozenset[RoundState]] = {
    "queued": frozenset({"running", "paused", "cancelled", "failed"}),
    "running": frozenset({"pausing", "cancelling", "finishing", "done", "failed"}),
    # a round may reach its end before it sees the wish to pause
    "pausing": frozenset({"paused", "cancelling", "finishing", "done", "failed"}),
    "paused": frozenset({"queued", "cancelled"}),
    "cancelling": frozenset({"cancelled", "failed"}),
    "finishing": frozenset({"cancelling", "done", "failed"}),
    # trying again goes on from the last checkpoint
    "failed": frozenset({"queued", "cancelled"}),
    "cancelled": frozenset(),
    "done": frozenset(),
}

REQUESTS: dict[RoundRequest, dict[RoundState, RoundState]] = {
    "pause": {"queued": "paused", "running": "pausing", "pausing": "pausing", "paused": "paused"},
    "cancel": {
        "queued": "cancelled",
        "running": "cancelling",
        "pausing": "cancelling",
        "paused": "cancelled",
        "finishing": "cancelling",
        "cancelling": "cancelling",
        "failed": "cancelled",
        "cancelled": "cancelled",
    },
    "finish": {"running": "finishing", "pausing": "finishing", "finishing": "finishing"},
}
"""What a wish of the user makes of each state; a state that is missing refuses it."""

WORKED_ON: frozenset[RoundState] = frozenset({"running", "pausing", "cancelling", "finishing"})
"""States in which a process may be at work on the round, and may write."""

KEEPABLE: frozenset[RoundState] = frozenset({"done", "paused", "failed", "cancelled"})
"""States in which weights of an earlier step may be taken as what the round made."""

ENDED: frozenset[RoundState] = frozenset({"done", "cancelled", "failed"})
"""States in which nothing goes on; only `failed` can be tried again."""

SETTLED: frozenset[RoundState] = frozenset({"done", "cancelled"})
"""States after which a round never trains again."""
