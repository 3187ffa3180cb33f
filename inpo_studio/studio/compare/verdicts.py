"""What blind trials say: to be asked for in earnest, since whoever has seen it has looked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from inpo_studio.evaluation import statistics
from inpo_studio.evaluation.statistics import Tally, Test, Verdict
from inpo_studio.studio import Studio
from inpo_studio.studio.compare.trial_plans import TrialState
from inpo_studio.studio.errors import StudioError
from storage import trials, votes
from storage.rounds import get_round
from storage.schema import Image, Prompt, Trial, Vote

Winner = Literal["aligned", "base", "tie", "both_bad"]
BASE_MODEL = "the base model"


@dataclass(frozen=True)
class TrialResult:
    """What the votes of a trial say so far, and by which test."""

    trial: Trial
    aligned: str
    base: str
    tally: Tally
    """From the aligned side; "both bad" counts as a tie, skips not at all."""
    win_rate: float
    interval: tuple[float, float]
    """95 % interval of the win rate, that of the test's kind."""
    verdict: Verdict
    test: Test
    sentence: str
    complete: bool


@dataclass(frozen=True)
class Past:
    """A trial in the list of all; its result only where it was seen with all votes in."""

    trial: Trial
    aligned: str
    base: str
    votes: int
    target: int
    result: TrialResult | None


@dataclass(frozen=True)
class Revealed:
    """Two pictures that were voted on, with their names."""

    prompt: Prompt
    seed: int
    base: Image
    aligned: Image
    winner: Winner


def result(studio: Studio, trial_id: str) -> TrialResult:
    """Return what the votes say; this is a look, and the first one is remembered.

    Raises StudioError while there is no vote.
    """
    with studio.database.write() as session:
        state = TrialState(session, trial_id)
        if not state.votes:
            raise StudioError("There is no vote yet; cast one first.")
        trials.note_look(session, trial_id, state.votes)
        return _result(session, state)


def history(studio: Studio) -> list[Past]:
    """Return the present model's trials, latest first, without any look at an open one."""
    with studio.database.read() as session:
        return [
            _past(session, TrialState(session, trial.id))
            for trial in reversed(trials.list_trials(session, studio.settings.model))
        ]


def reveal(studio: Studio, trial_id: str) -> list[Revealed]:
    """Return the pictures of a trial with their names and votes, in the order of the votes.

    Raises StudioError before all votes are in and the result was seen: what is to come would
    not be blind any more.
    """
    with studio.database.read() as session:
        state = TrialState(session, trial_id)
        if state.trial.first_look is None or state.votes < state.target:
            raise StudioError("The pictures get their names once all the votes are in.")
        comparisons = {item.position: item.comparison for item in state.items}
        found = []
        for vote in votes.live_votes(session, trial_id):
            drawn, won = comparisons[vote.item_position], winner(vote)
            if drawn is not None and won is not None:
                found.append(
                    Revealed(drawn.prompt, drawn.seed, drawn.base_image, drawn.aligned_image, won)
                )
        return found


def winner(vote: Vote) -> Winner | None:
    """Return which side a vote is for; None for a skip."""
    if vote.choice == "skip":
        return None
    if vote.choice == "tie" or vote.choice == "both_bad":
        return vote.choice
    return "aligned" if vote.choice == vote.aligned_side else "base"


def count_votes(cast: Sequence[Vote]) -> Tally:
    """Count votes from the aligned side; "both bad" is a tie, a skip is no vote."""
    won = [found for vote in cast if (found := winner(vote)) is not None]
    wins, losses = won.count("aligned"), won.count("base")
    return Tally(wins, losses, len(won) - wins - losses)


def side_name(session: Session, round_id: str | None) -> str:
    """Return what a side of a trial is called."""
    return BASE_MODEL if round_id is None else f"Round {get_round(session, round_id).number}"


def _past(session: Session, state: TrialState) -> Past:
    trial = state.trial
    seen = trial.first_look is not None and state.votes >= state.target
    return Past(
        trial,
        side_name(session, trial.round_id),
        side_name(session, trial.base_round_id),
        state.votes,
        state.target,
        _result(session, state) if seen else None,
    )


def _result(session: Session, state: TrialState) -> TrialResult:
    trial = state.trial
    counts = count_votes(votes.live_votes(session, trial.id))
    planned = trial.first_look == trial.planned == counts.total
    test: Test = "exact" if planned else "anytime"
    aligned, base = (side_name(session, name) for name in (trial.round_id, trial.base_round_id))
    interval = statistics.win_rate_interval if planned else statistics.anytime_interval
    return TrialResult(
        trial=trial,
        aligned=aligned,
        base=base,
        tally=counts,
        win_rate=counts.win_rate,
        interval=interval(counts),
        verdict=statistics.verdict(counts) if planned else statistics.anytime_verdict(counts),
        test=test,
        sentence=statistics.sentence(counts, test, aligned, base),
        complete=state.votes >= state.target,
    )
