"""Trials in plain values for the page. Trials and rounds go by their numbers, never by ids."""

from __future__ import annotations

from typing import Any

from inpo_studio.engine import JobStatus
from inpo_studio.evaluation.statistics import wins_needed
from inpo_studio.studio import Studio
from inpo_studio.studio.compare.trials import PLANNED, TrialProgress, trial_progress
from inpo_studio.studio.compare.verdicts import BASE_MODEL, Past, TrialResult, history, reveal
from inpo_studio.studio.errors import StudioError
from storage.model_states import adopted_round
from storage.prompts import list_prompts
from storage.rounds import list_rounds
from storage.schema import Round, Trial
from storage.transitions import WORKED_ON
from storage.trials import list_trials

Values = dict[str, Any]
PLANS = (10, 20, PLANNED, 50)
_MOST_TEXTS = 60


def find_trial(studio: Studio, number: int) -> Trial:
    """Return a trial of the present model by its number; StudioError if there is none."""
    with studio.database.read() as session:
        for trial in list_trials(session, studio.settings.model):
            if trial.position == number:
                return trial
    raise StudioError("That blind vote is not in this workspace; reload the page.")


def find_round(studio: Studio, number: int) -> Round:
    """Return a round of the present model by its number; StudioError if there is none."""
    with studio.database.read() as session:
        for found in list_rounds(session, studio.settings.model):
            if found.number == number:
                return found
    raise StudioError(f"There is no round {number} of this model; reload the page.")


def own_prompts(studio: Studio) -> list[str]:
    """Return the ids of the held-out prompts that the person wrote."""
    with studio.database.read() as session:
        found = list_prompts(session, split="held_out")
    return [prompt.id for prompt in found if prompt.source != "starter"]


def overview(studio: Studio) -> Values:
    """Describe what can be compared, by which prompts, and the trials so far."""
    model = studio.settings.model
    with studio.database.read() as session:
        rounds = [
            found
            for found in list_rounds(session, model)
            if found.state == "done" and found.adapter_id is not None
        ]
        adopted = adopted_round(session, model)
        prompts = list_prompts(session, split="held_out")
    chosen = None if adopted is None else adopted.id
    return {
        "base": BASE_MODEL,
        "rounds": [
            {"number": found.number, "adopted": found.id == chosen} for found in reversed(rounds)
        ],
        "plans": [{"votes": votes, "needed": wins_needed(votes)} for votes in PLANS],
        "planned": PLANNED,
        "prompts": len(prompts),
        "own": sum(prompt.source != "starter" for prompt in prompts),
        "texts": [prompt.text for prompt in prompts[:_MOST_TEXTS]],
        "trials": [_describe_past(past) for past in history(studio)],
    }


def _describe_past(past: Past) -> Values:
    return {
        "number": past.trial.position,
        "aligned": past.aligned,
        "base": past.base,
        "votes": past.votes,
        "target": past.target,
        "result": None if past.result is None else describe_result(past.result),
    }


def describe_progress(studio: Studio, trial_id: str) -> Values:
    """Describe how far a trial is; nothing tells how the votes went."""
    found = trial_progress(studio, trial_id)
    return {
        "votes": found.votes,
        "target": found.target,
        "complete": found.complete,
        "looked": found.trial.first_look is not None,
        "ready": found.ready,
        "drawn": found.drawn,
        "items": found.items,
        "note": _drawing_note(studio, found, found.job),
        "failed": _failure(found.job),
    }


def _failure(job: JobStatus | None) -> str:
    if job is None or job.state not in ("failed", "cancelled"):
        return ""
    return job.error or "Drawing the pictures was cancelled."


def _drawing_note(studio: Studio, found: TrialProgress, job: JobStatus | None) -> str:
    if found.complete or job is None or _failure(job):
        return ""
    with studio.database.read() as session:
        busy = [r for r in list_rounds(session, studio.settings.model) if r.state in WORKED_ON]
    if busy:
        number = busy[0].number
        return f"Round {number} is training; pictures are drawn when it has ended or is paused."
    return "" if job.state == "running" else "Waiting for the worker to finish what it is at."


def describe_result(result: TrialResult) -> Values:
    """Describe what the votes say."""
    return {
        "aligned": result.aligned,
        "base": result.base,
        "wins": result.tally.wins,
        "losses": result.tally.losses,
        "ties": result.tally.ties,
        "win_rate": result.win_rate,
        "interval": list(result.interval),
        "verdict": result.verdict,
        "test": result.test,
        "sentence": result.sentence,
        "complete": result.complete,
        "planned": result.trial.planned,
        "first_look": result.trial.first_look,
        "scale": result.trial.scale,
        "guidance": result.trial.generation.get("guidance"),
        "steps": result.trial.generation.get("steps"),
    }


def describe_pictures(studio: Studio, trial_id: str) -> list[Values]:
    """Describe the pictures of a complete trial with their names, in the order of the votes."""
    return [
        {
            "prompt": shown.prompt.text,
            "seed": shown.seed,
            "base": shown.base.id,
            "aligned": shown.aligned.id,
            "winner": shown.winner,
        }
        for shown in reveal(studio, trial_id)
    ]
