"""Keeping pairs ready: the worker asks itself for more before they run out. Torch-free."""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from inpo_studio.configs import GenerationConfig
from inpo_studio.engine import SPARE, Engine
from inpo_studio.jobs.context import stable_id
from inpo_studio.settings import Settings
from inpo_studio.studio.label.pairs import policy_adapter
from storage.engines import Database
from storage.pairs import count_ready
from storage.schema import Pair, Prompt

FIRST = 8
"""Pairs of the first job in an empty workspace; they are made one by one, so that labelling can
begin at once."""
AT_ONCE = 24
"""Pairs of one job: between two of them other work gets its turn."""
PROMPTS_AT_ONCE = 12
RETRY_AFTER_S = 60.0
"""A job that failed is tried again after so long, and after twice as long each further time: what
it failed of, like a full disk, may have passed."""
LONGEST_RETRY_S = 15 * 60.0

log = logging.getLogger("inpo_studio.jobs.supply")


@dataclass(frozen=True)
class Lack:
    """Pairs that are missing, and what to make them of."""

    missing: int
    adapter_id: str | None
    made: int
    """Pairs the present policy has made so far."""
    prompts: int
    prompt_ids: list[str]
    """The next prompts to draw: fewest pairs first, own ones before starters."""


def find_lack(session: Session, settings: Settings) -> Lack | None:
    """Say what is missing for `settings.keep_ready` unlabelled pairs; None if nothing can be."""
    model = settings.model
    adapter_id = policy_adapter(session, model)
    missing = settings.keep_ready - count_ready(session, model, adapter_id)
    if missing <= 0:
        return None
    made, prompts = _so_far(session, model, adapter_id)
    chosen = [prompt_id for prompt_id, _ in prompts[:PROMPTS_AT_ONCE]]
    return Lack(missing, adapter_id, made, len(prompts), chosen) if chosen else None


@dataclass
class _Asked:
    """The job that was asked for last, and when another may follow should it have failed."""

    lack: tuple[object, ...]
    job_id: str
    attempt: int
    wait_s: float
    due: float | None = None
    """Set once it is seen to have ended."""


class Supply:
    """Sees to it that at least `settings.keep_ready` unlabelled pairs of the policy are there."""

    def __init__(self, settings: Settings, database: Database, engine: Engine) -> None:
        """Remember where to look; nothing is read yet."""
        self._settings = settings
        self._database = database
        self._engine = engine
        self._last: _Asked | None = None

    def top_up(self) -> str | None:
        """Ask for more pairs if too few are ready and none are being made; returns the job's id.

        A job that failed is repeated after a while, which gets longer each time; at once where the
        worker is started again or there are new prompts.
        """
        if self._settings.keep_ready <= 0 or self._engine.unfinished("pairs"):
            return None
        with self._database.read() as session:
            lack = find_lack(session, self._settings)
        if lack is None:
            return None
        job_id = self._unused(
            "supply", self._settings.model, lack.adapter_id or "", lack.made, lack.prompts
        )
        if job_id is None:
            return None
        count = min(AT_ONCE if lack.made else FIRST, lack.missing)
        generation = GenerationConfig() if lack.made else GenerationConfig(batch_size=2)
        self._engine.enqueue(
            "pairs",
            {
                "prompt_ids": lack.prompt_ids[:count],
                "count": count,
                "seed": secrets.randbits(32),
                "generation": generation.model_dump(),
                "model": self._settings.model,
                "adapter_id": lack.adapter_id,
                "variation": self._settings.variation,
            },
            job_id=job_id,
            priority=SPARE,
        )
        log.info("%d pairs are missing; %d are asked for", lack.missing, count)
        return job_id

    def _unused(self, *lack: object) -> str | None:
        """An id that two workers that look at one moment share; None where it is too early."""
        last = self._last if self._last is not None and self._last.lack == lack else None
        if last is not None and not self._may_follow(last):
            return None
        attempt = 0 if last is None else last.attempt + 1
        while self._engine.find(job_id := stable_id(*lack, attempt)) is not None:
            attempt += 1
        wait_s = RETRY_AFTER_S if last is None else min(2 * last.wait_s, LONGEST_RETRY_S)
        self._last = _Asked(lack, job_id, attempt, wait_s)
        return job_id

    def _may_follow(self, last: _Asked) -> bool:
        """Whether a job that has ended and left the same lack has failed, and long enough ago."""
        now = time.monotonic()
        if last.due is None:
            last.due = now + last.wait_s
        if now < last.due:
            return False
        found = self._engine.find(last.job_id)
        return found is None or found.state == "failed"


def _so_far(
    session: Session, model: str, adapter_id: str | None
) -> tuple[int, list[tuple[str, int]]]:
    """How many pairs the policy has made, and the prompts with fewest pairs first, own ones before.

    The counts of pairs go with the prompts' ids.
    """
    made = (
        select(Pair.prompt_id, func.count().label("pairs"))
        .where(Pair.model == model, Pair.adapter_id.is_not_distinct_from(adapter_id))
        .group_by(Pair.prompt_id)
        .subquery()
    )
    pairs = func.coalesce(made.c.pairs, 0)
    query = (
        select(Prompt.id, pairs)
        .outerjoin(made, made.c.prompt_id == Prompt.id)
        .where(Prompt.split != "held_out")
        .order_by(pairs, Prompt.source == "starter", Prompt.position)
    )
    rows = [(prompt_id, count) for prompt_id, count in session.execute(query)]
    return sum(count for _, count in rows), rows
