"""`inpo-studio align`: one round of training to its end, or on from where it was paused."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from inpo_studio.cli.console import Console, advance
from inpo_studio.cli.opening import opened
from inpo_studio.cli.work import wait_until
from inpo_studio.studio import Studio
from inpo_studio.studio.align.rounds import (
    AT_REST,
    RoundStatus,
    adopt_round,
    find_round,
    pause_round,
    resume_round,
    round_status,
    start_round,
)
from inpo_studio.studio.errors import WorkError
from inpo_studio.studio.logs import round_log_path
from storage.errors import IllegalTransition
from storage.schema import Metric, Round

_FIGURES = (
    "loss",
    "train_ranked_right",
    "validation_ranked_right",
    "margin",
    "validation_margin",
    "winner_error",
    "loser_error",
)


def run(arguments: Any, console: Console) -> int:
    """Start or resume the round and follow it; Ctrl-C pauses it."""
    begun = time.monotonic()
    with opened(arguments) as studio:
        if arguments.resume is None:
            found = start_round(
                studio,
                changes={"compiled": True} if arguments.compile else None,
                steps=arguments.steps,
                objective=arguments.objective,
                seed=arguments.seed,
            )
        else:
            found = resume_round(studio, find_round(studio, arguments.resume).id)
        interrupted = _follow(studio, console, found)
        status = round_status(studio, found.id)
        if status.round.state in ("failed", "cancelled"):
            raise WorkError(_ending(studio, status))
        retired = None
        if arguments.adopt and status.round.state == "done":
            retired = adopt_round(studio, found.id)
    values = _values(status, time.monotonic() - begun)
    values |= {"adopted": retired is not None, "retired_pairs": retired or 0}
    console.result(values, _text(values))
    return 130 if interrupted else 0


def _follow(studio: Studio, console: Console, found: Round) -> bool:
    """Show a round until it rests; True when Ctrl-C asked for the pause."""
    interrupted = False
    with console.bar("align", "step") as bar:

        def at_rest() -> bool:
            status = round_status(studio, found.id)
            row = status.round
            label = row.stage or row.state
            advance(bar, row.step, row.total_steps, label, _live(status.metrics))
            return row.state in AT_REST

        def pause() -> None:
            nonlocal interrupted
            if interrupted:
                raise KeyboardInterrupt
            interrupted = True
            console.note("Pausing after this step; press Ctrl-C again to leave at once.")
            with contextlib.suppress(IllegalTransition):  # it has ended in this moment
                pause_round(studio, found.id)

        wait_until(studio.settings, console, at_rest, pause)
    return interrupted


def _live(metrics: list[Metric]) -> dict[str, str]:
    """Return the last loss and shares ranked right, which are not measured at every step."""
    names = {"loss": "loss", "train_ranked_right": "right", "validation_ranked_right": "val right"}
    seen: dict[str, str] = {}
    for name, label in names.items():
        value = _last(metrics, name)
        if value is not None:
            seen[label] = f"{value:.3f}" if name == "loss" else f"{value:.0%}"
    return seen


def _last(metrics: list[Metric], name: str) -> float | None:
    return next((v for m in reversed(metrics) if (v := getattr(m, name)) is not None), None)


def _ending(studio: Studio, status: RoundStatus) -> str:
    if status.round.state == "cancelled":
        return f"Round {status.round.number} was cancelled."
    reason = status.round.failure or "No reason is known."
    log = round_log_path(studio.settings, status.round.id)
    return f"Round {status.round.number} failed: {reason} Its log is {log}."


def _values(status: RoundStatus, seconds: float) -> dict[str, Any]:
    return {
        "model": status.round.model,
        "round": status.round.id,
        "number": status.round.number,
        "state": status.round.state,
        "adapter": None if status.adapter_folder is None else str(status.adapter_folder),
        "steps": status.round.step,
        "total_steps": status.round.total_steps,
        "config": status.round.config,
        "figures": {name: _last(status.metrics, name) for name in _FIGURES},
        "seconds": round(seconds, 3),
    }


def _text(values: dict[str, Any]) -> str:
    if values["state"] == "paused":
        return (
            f"Round {values['number']} is paused at step {values['steps']}; go on with "
            f"`inpo-studio align --resume {values['number']}`."
        )
    done = f"Round {values['number']} ({values['round']}) is done after {values['steps']} steps"
    lines = [f"{done}, {values['seconds']:.0f} s.", f"Adapter: {values['adapter']}"]
    lines += [
        f"{name.replace('_', ' ')}: {value:.4g}"
        for name, value in values["figures"].items()
        if value is not None
    ]
    if values["adopted"]:
        lines.append(f"Adopted; {values['retired_pairs']} unlabelled pairs were retired.")
    return "\n".join(lines)
