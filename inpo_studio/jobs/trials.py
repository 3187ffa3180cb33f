"""Drawing the pictures of a blind trial, a few items at a time, so that voting can begin soon.

Which side of an item is drawn first is a matter of chance, so that no order of rows, files or
times tells one from the other.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict
from sqlalchemy.orm import Session

from inpo_studio.configs import GenerationConfig
from inpo_studio.jobs.context import JobContext, JobFailed
from inpo_studio.jobs.pictures import Painter, adapter_folder, drawn_by, keep
from inpo_studio.studio.compare.verdicts import side_name
from storage.comparisons import add_comparison
from storage.images import add_image
from storage.rounds import get_round
from storage.schema import Trial, TrialItem
from storage.trials import get_trial, set_item_comparison, trial_items

FIRST = 2
"""Items of the first batch: somebody waits for it."""
TOGETHER = 4


class TrialPayload(BaseModel):
    """What a `trial` job is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    trial_id: str


@dataclass(frozen=True)
class _Sides:
    trial: Trial
    painters: dict[str, Painter]
    """By role: "base" and "aligned"."""


def run(context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Draw every item that has no pictures, also those added meanwhile; returns how many."""
    asked = TrialPayload.model_validate(payload)
    with context.database.read() as session:
        trial = get_trial(session, asked.trial_id)
        adapters = _adapters(session, trial)
    sides = _Sides(trial, _painters(context, trial, adapters))
    made = 0
    while True:
        with context.database.read() as session:
            items = trial_items(session, trial.id)
        missing = [item for item in items if item.comparison_id is None]
        context.progress(len(items) - len(missing), len(items))
        if not missing:
            return {"items": made}
        context.checkpoint()
        if made:
            context.give_way()
        first = len(missing) == len(items)
        batch = missing[: FIRST if first else TOGETHER]
        _make(context, sides, batch)
        made += len(batch)


def _adapters(session: Session, trial: Trial) -> dict[str, str | None]:
    """The adapter of each role, None for the base model; those the trial began with."""
    for item in trial_items(session, trial.id):
        if item.comparison is not None:
            drawn = item.comparison
            return {"base": drawn.base_image.adapter_id, "aligned": drawn.aligned_image.adapter_id}
    found: dict[str, str | None] = {}
    for role, round_id in (("base", trial.base_round_id), ("aligned", trial.round_id)):
        adapter_id = None if round_id is None else get_round(session, round_id).adapter_id
        if round_id is not None and adapter_id is None:
            raise JobFailed(f"{side_name(session, round_id)} has no adapter; compare another.")
        found[role] = adapter_id
    return found


def _painters(
    context: JobContext, trial: Trial, adapters: dict[str, str | None]
) -> dict[str, Painter]:
    with context.database.read() as session:
        folders = {
            role: None if adapter_id is None else adapter_folder(context, session, adapter_id)
            for role, adapter_id in adapters.items()
        }
        asked = GenerationConfig.model_validate(trial.generation)
        generations = {role: drawn_by(session, found, asked) for role, found in adapters.items()}
    pipeline = context.pipelines.get(trial.model)
    scales = {"base": 1.0, "aligned": trial.scale}
    return {
        role: Painter(context, pipeline, generations[role], adapter_id, folders[role], scales[role])
        for role, adapter_id in adapters.items()
    }


def _make(context: JobContext, sides: _Sides, items: Sequence[TrialItem]) -> None:
    """Draw some items, one side and then the other, and write all their rows at once."""
    order = ["base", "aligned"]
    if secrets.randbits(1):
        order.reverse()
    texts, seeds = [item.prompt.text for item in items], [item.seed for item in items]
    kept = {
        role: [keep(context.files, one) for one in sides.painters[role].paint(texts, seeds)]
        for role in order
    }
    with context.database.write() as session:
        found = trial_items(session, sides.trial.id)
        waiting = {item.position for item in found if item.comparison_id is None}
        for place, item in enumerate(items):
            if item.position not in waiting:
                continue  # another worker was faster; what somebody looks at must not change
            images = {
                role: add_image(
                    session,
                    image_id=context.item_id(role, item.position, item.seed),
                    prompt_id=item.prompt_id,
                    seed=item.seed,
                    **kept[role][place],
                    **sides.painters[role].made_with(),
                ).id
                for role in order
            }
            comparison = add_comparison(
                session,
                comparison_id=context.item_id("comparison", item.position, item.seed),
                prompt_id=item.prompt_id,
                seed=item.seed,
                base_image_id=images["base"],
                aligned_image_id=images["aligned"],
                round_id=sides.trial.round_id,
                adapter_id=sides.painters["aligned"].adapter_id,
                scale=sides.trial.scale,
                base_round_id=sides.trial.base_round_id,
            )
            set_item_comparison(session, item.trial_id, item.position, comparison.id)
