"""Blind trials: which pictures are voted on, and the votes. Votes are never choices. Torch-free."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy.orm import Session

from inpo_studio.configs import GenerationConfig
from inpo_studio.engine import JobStatus
from inpo_studio.studio import Studio
from inpo_studio.studio.compare.trial_plans import SEED_BITS, TrialState, held_out, spread
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.choices import check_annotator
from storage import trials, votes
from storage.errors import AlreadyChosen, NotFound
from storage.rounds import get_round
from storage.schema import Answer, Side, Trial, TrialItem, Vote

PLANNED = 30
MORE = 10
MOST_PLANNED = 200
STRONGEST = 1.5


@dataclass(frozen=True)
class TrialProgress:
    """How far a trial is; nothing here tells how the votes went."""

    trial: Trial
    votes: int
    """Votes that count: ties and "both bad" too, skips not."""
    target: int
    """Votes after which the trial is complete."""
    ready: int
    """Items that are drawn and wait for a vote."""
    drawn: int
    items: int
    job: JobStatus | None
    """The job that draws; None where all is drawn."""

    @property
    def complete(self) -> bool:
        """Whether all the votes are in."""
        return self.votes >= self.target


def start_trial(
    studio: Studio,
    round_id: str,
    base_round_id: str | None = None,
    *,
    planned: int = PLANNED,
    scale: float = 1.0,
    seed: int | None = None,
    prompt_ids: Sequence[str] | None = None,
    generation: GenerationConfig | None = None,
) -> Trial:
    """Plan a trial of a round against another one (None: the base model) and have it drawn.

    Held-out prompts (all, or those given) are spread evenly, with seeds whose pictures nobody
    has seen. `scale` is the strength of the round's adapter. Raises StudioError where there is
    nothing to compare or to compare by.
    """
    if not 1 <= planned <= MOST_PLANNED:
        raise StudioError(f"Plan from 1 to {MOST_PLANNED} votes, not {planned}.")
    if not 0 < scale <= STRONGEST:
        raise StudioError(f"The strength must be above 0 and at most {STRONGEST}.")
    model = studio.settings.model
    drawn = secrets.randbits(SEED_BITS) if seed is None else seed
    with studio.database.write() as session:
        for name in filter(None, (round_id, base_round_id)):
            row = get_round(session, name)
            if row.state != "done":
                raise StudioError(f"Round {row.number} is {row.state}; compare one that is done.")
        prompts = held_out(session, prompt_ids)
        trial = trials.create_trial(
            session,
            model=model,
            round_id=round_id,
            base_round_id=base_round_id,
            scale=scale,
            generation=(generation or GenerationConfig()).model_dump(),
            items=spread(session, model, prompts, planned, drawn),
        )
    draw_missing(studio, trial.id)
    return trial


def extend_trial(studio: Studio, trial_id: str, more: int = MORE) -> Trial:
    """Add items to a trial that is complete and whose result was seen.

    The verdict is then that of the anytime-valid test.
    """
    if not 1 <= more <= MOST_PLANNED:
        raise StudioError(f"Add from 1 to {MOST_PLANNED} votes, not {more}.")
    with studio.database.write() as session:
        found = TrialState(session, trial_id)
        if found.trial.first_look is None or found.votes < found.target:
            raise StudioError("Votes can be added once those that were planned are in and seen.")
        found.add(session, more)
    draw_missing(studio, trial_id)
    return found.trial


def serve_items(
    studio: Studio, trial_id: str, *, holding: Collection[int] = (), want: int = 8
) -> tuple[list[TrialItem], set[int]]:
    """Return items to vote on beside the positions a page holds, and which of those are open.

    Never more than the votes that are missing, so that no vote is cast beyond the plan.
    """
    with studio.database.read() as session:
        found = TrialState(session, trial_id)
    still = {item.position for item in found.open if item.position in holding}
    room = max(0, min(want, found.target - found.votes - len(still)))
    ready = [item for item in found.open if item.comparison and item.position not in still]
    return ready[:room], still


def cast_vote(
    studio: Studio,
    *,
    key: str,
    trial_id: str,
    item_position: int,
    choice: Answer,
    aligned_side: Side,
    annotator: str,
    milliseconds: int | None = None,
) -> Vote:
    """Record a vote durably; the same key again changes nothing.

    An item has one vote, whoever casts it, so that votes are independent. A skip is no vote:
    another item takes its place. Raises AlreadyChosen where the item has a vote or all votes
    are in.
    """
    with studio.database.write() as session:
        known = votes.find_vote(session, key)
        found = TrialState(session, trial_id)
        if known is None:
            if item_position in found.voted:
                raise AlreadyChosen("These two pictures have a vote already; here are others.")
            if found.votes >= found.target:
                raise AlreadyChosen("All the votes are in; see the result before you add more.")
        vote = votes.record_vote(
            session,
            key=key,
            trial_id=trial_id,
            item_position=item_position,
            choice=choice,
            aligned_side=aligned_side,
            annotator=check_annotator(annotator),
            milliseconds=milliseconds,
        )
        added = 0
        if known is None and choice == "skip":
            added = TrialState(session, trial_id, found.target).fill(session)
    if added:
        draw_missing(studio, trial_id)
    return vote


def undo(studio: Studio, annotator: str, key: str) -> Vote | None:
    """Undo the vote with this key; None if it never came. Undoing it again changes nothing.

    Raises StudioError for a vote whose result has been seen: it would not be blind any more.
    """
    with studio.database.write() as session:
        vote = votes.find_vote(session, key)
        if vote is None:
            return None
        if vote.annotator != check_annotator(annotator):
            raise NotFound("That vote is somebody else's; only they can undo it.")
        if vote.undone_at is None and _was_seen(session, vote):
            raise StudioError("The result with this vote has been seen, so it stays as it is.")
        target = TrialState(session, vote.trial_id).target
        undone = votes.undo_vote(session, vote.id)
        # What took the place of a skip is not needed any more.
        TrialState(session, vote.trial_id, target).trim(session)
        return undone


def _was_seen(session: Session, vote: Vote) -> bool:
    looked = trials.get_trial(session, vote.trial_id).first_look
    if looked is None or vote.choice == "skip":
        return False
    earlier = [v for v in votes.live_votes(session, vote.trial_id) if v.position <= vote.position]
    return sum(v.choice != "skip" for v in earlier) <= looked


def undoable(studio: Studio, trial_id: str, annotator: str, limit: int = 20) -> list[str]:
    """Return the keys of one's last votes, latest last, while nobody has seen the result."""
    with studio.database.read() as session:
        if trials.get_trial(session, trial_id).first_look is not None:
            return []
        return [vote.key for vote in votes.live_votes(session, trial_id, annotator)][-limit:]


def trial_progress(studio: Studio, trial_id: str) -> TrialProgress:
    """Return how far a trial is, without anything of its result."""
    with studio.database.read() as session:
        found = TrialState(session, trial_id)
    drawn = [item for item in found.items if item.comparison_id is not None]
    left = max(0, found.target - found.votes)
    return TrialProgress(
        trial=found.trial,
        votes=found.votes,
        target=found.target,
        ready=min(left, sum(item.comparison_id is not None for item in found.open)),
        drawn=len(drawn),
        items=len(found.items),
        job=None if len(drawn) == len(found.items) else _drawing(studio, found)[1],
    )


def draw_missing(studio: Studio, trial_id: str, *, again: bool = False) -> None:
    """Have the items drawn that are not; `again` also after the job for them has failed."""
    with studio.database.read() as session:
        found = TrialState(session, trial_id)
    if all(item.comparison_id is not None for item in found.items):
        return
    job_id, job = _drawing(studio, found)
    if job is None or (again and job.finished):
        following = job_id if job is None else f"{job_id}-{secrets.token_hex(4)}"
        studio.engine.enqueue("trial", {"trial_id": trial_id}, job_id=following)


def _drawing(studio: Studio, found: TrialState) -> tuple[str, JobStatus | None]:
    """The id of the job for the present items, and its latest run."""
    last = found.items[-1]
    job_id = f"trial-{found.trial.id}-{last.position}-{last.seed}"
    runs = [job for job in studio.engine.unfinished("trial") if job.job_id.startswith(job_id)]
    return job_id, runs[-1] if runs else studio.engine.find(job_id)
