"""What a blind trial shows: held-out prompts in turn, with seeds that nobody has seen."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from inpo_studio.seeds import derive_seed
from inpo_studio.studio.errors import StudioError
from storage import trials, votes
from storage.prompts import get_prompt, list_prompts
from storage.schema import Prompt, Vote

SEED_BITS = 32
"""As for pairs: other tools and browsers take no longer seeds."""


def held_out(session: Session, prompt_ids: Sequence[str] | None) -> list[Prompt]:
    """Return the held-out prompts, or those of them with these ids; StudioError without any."""
    if prompt_ids is None:
        found = list_prompts(session, split="held_out")
    else:
        found = [get_prompt(session, prompt_id) for prompt_id in dict.fromkeys(prompt_ids)]
        if any(prompt.split != "held_out" for prompt in found):
            raise StudioError("A blind vote takes held-out prompts only; leave the others out.")
    if not found:
        raise StudioError("There are no held-out prompts to judge by; add some under Compare.")
    return found


def spread(
    session: Session,
    model: str,
    prompts: Sequence[Prompt],
    count: int,
    seed: int,
    before: Counter[str] | None = None,
) -> list[tuple[str, int]]:
    """Take the prompts in turn, in a random order, least used first; each with a fresh seed."""
    chance = random.Random(derive_seed("trial", seed))
    uses = Counter({prompt.id: (before or Counter())[prompt.id] for prompt in prompts})
    used = {prompt.id: trials.used_seeds(session, model, prompt.id) for prompt in prompts}
    items = []
    for _ in range(count):
        fewest = min(uses.values())
        prompt_id = chance.choice([name for name, times in uses.items() if times == fewest])
        uses[prompt_id] += 1
        fresh = chance.getrandbits(SEED_BITS)
        while fresh in used[prompt_id]:
            fresh = chance.getrandbits(SEED_BITS)
        used[prompt_id].add(fresh)
        items.append((prompt_id, fresh))
    return items


class TrialState:
    """A trial as it stands in one transaction."""

    def __init__(self, session: Session, trial_id: str, target: int | None = None) -> None:
        """Read it; skips are set apart from the votes that count."""
        self.trial = trials.get_trial(session, trial_id)
        self.items = trials.trial_items(session, trial_id)
        cast = votes.live_votes(session, trial_id)
        self.voted = {vote.item_position for vote in cast}
        self.open = [item for item in self.items if item.position not in self.voted]
        skips = sum(vote.choice == "skip" for vote in cast)
        self.votes = len(cast) - skips
        planned = self.trial.planned
        # Only what was added after a look goes beyond the plan.
        seen = self.trial.first_look is not None
        added = max(planned, len(self.items) - skips) if seen else planned
        self.target = added if target is None else target

    def fill(self, session: Session) -> int:
        """Add items until the planned votes can be reached again; returns how many."""
        missing = self.target - self.votes - len(self.open)
        if missing > 0:
            self.add(session, missing)
        return max(0, missing)

    def add(self, session: Session, count: int) -> None:
        """Add items on the trial's own prompts."""
        prompts = list({item.prompt_id: item.prompt for item in self.items}.values())
        before = Counter(item.prompt_id for item in self.items)
        seed = secrets.randbits(SEED_BITS)
        fresh = spread(session, self.trial.model, prompts, count, seed, before)
        trials.add_items(session, self.trial.id, fresh)

    def trim(self, session: Session) -> None:
        """Drop items nobody ever voted on, last ones first, until no more are open than needed."""
        surplus = self.votes + len(self.open) - self.target
        ever = set(
            session.scalars(select(Vote.item_position).where(Vote.trial_id == self.trial.id))
        )
        unused = [item for item in self.open if item.position not in ever]
        for item in unused[len(unused) - surplus :] if surplus > 0 else []:
            session.delete(item)
            self.items.remove(item)
            self.open.remove(item)
        session.flush()
