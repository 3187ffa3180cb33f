"""Rounds: start, stop, go on, adopt, and how they stand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy.orm import Session

from inpo_studio.configs import RoundConfig
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from storage import choices, metrics, model_states, pairs, rounds
from storage.adapters import get_adapter
from storage.schema import Adapter, Choice, Metric, Round, RoundRequest

DECIDED = ("left", "right", "tie")
ENDED = ("done", "failed", "cancelled")
AT_REST = (*ENDED, "paused")


@dataclass(frozen=True)
class RoundStatus:
    """A round, its figures by step, and the adapter it made."""

    round: Round
    metrics: list[Metric]
    adapter: Adapter | None
    adapter_folder: Path | None


def default_config(clear_choices: int) -> RoundConfig:
    """Return the configuration a round starts with for this many choices to learn from.

    A round never takes more pairs a step than there are.
    """
    usual = RoundConfig()
    batch = max(1, min(usual.batch_pairs, clear_choices))
    micro = usual.micro_batch_pairs if batch == usual.batch_pairs else batch
    return usual.model_copy(update={"batch_pairs": batch, "micro_batch_pairs": micro})


def start_round(
    studio: Studio,
    *,
    steps: int | None = None,
    objective: str | None = None,
    seed: int | None = None,
) -> Round:
    """Make a round of the present choices and hand it to the worker.

    Its parent is the adopted round. Raises StudioError when there is nothing to learn from.
    """
    model = studio.settings.model
    with studio.database.write() as session:
        clear = _clear_choices(session, model)
        if not clear:
            raise StudioError(
                f"There are no choices to learn from for {model}; record some on training prompts "
                "with `inpo-studio choose` first."
            )
        config = _configured(len(clear), steps, objective, seed)
        parent = model_states.adopted_round(session, model)
        made = rounds.create_round(
            session,
            model=model,
            parent_id=None if parent is None else parent.id,
            config=config.model_dump(),
            seed=config.seed,
            total_steps=config.steps,
            job_id=uuid4().hex,
        )
    _enqueue(studio, made)
    return made


def _clear_choices(session: Session, model: str) -> list[Choice]:
    return [
        choice
        for choice in choices.live_choices(session, model)
        if choice.choice in DECIDED and choice.pair.prompt.split == "train"
    ]


def _configured(
    clear: int, steps: int | None, objective: str | None, seed: int | None
) -> RoundConfig:
    given = {"steps": steps, "objective": objective, "seed": seed}
    chosen = {name: value for name, value in given.items() if value is not None}
    return RoundConfig.model_validate({**default_config(clear).model_dump(), **chosen})


def pause_round(studio: Studio, round_id: str) -> None:
    """Ask a round to stop after its present step, so that it can go on later."""
    _request(studio, round_id, "pause")


def cancel_round(studio: Studio, round_id: str) -> None:
    """Ask a round to stop for good; what it learnt is dropped."""
    _request(studio, round_id, "cancel")


def finish_round(studio: Studio, round_id: str) -> None:
    """Ask a round to end now and keep what it has learnt."""
    _request(studio, round_id, "finish")


def _request(studio: Studio, round_id: str, what: RoundRequest) -> None:
    with studio.database.write() as session:
        rounds.request(session, round_id, what)


def resume_round(studio: Studio, round_id: str) -> Round:
    """Put a paused or failed round back in the queue; it goes on from its last checkpoint."""
    with studio.database.write() as session:
        found = rounds.resume(session, round_id, job_id=uuid4().hex)
    _enqueue(studio, found)
    return found


def _enqueue(studio: Studio, found: Round) -> None:
    # A crash before this line is made good by the worker, which queues it under the same id.
    studio.engine.enqueue("round", {"round_id": found.id}, job_id=found.job_id)


def adopt_round(studio: Studio, round_id: str | None) -> int:
    """Make new pairs with this round's adapter from now on; None goes back to the base model.

    In the same transaction unlabelled pairs of the older policy are retired, and those of the
    new one that were retired earlier come back. Returns how many were retired.
    """
    model = studio.settings.model
    with studio.database.write() as session:
        model_states.adopt_round(session, model, round_id)
        policy = None if round_id is None else rounds.get_round(session, round_id).adapter_id
        chosen = {found.pair_id for found in choices.live_choices(session, model)}
        open_pairs = [pair for pair in pairs.list_pairs(session, model) if pair.id not in chosen]
        pairs.restore_pairs(session, [p.id for p in open_pairs if p.adapter_id == policy])
        return pairs.retire_pairs(session, [p.id for p in open_pairs if p.adapter_id != policy])


def find_round(studio: Studio, name: str | None) -> Round:
    """Return a round of the present model by id or number.

    None is the adopted one, else the latest one done. Raises StudioError when there is none.
    """
    model = studio.settings.model
    with studio.database.read() as session:
        mine = rounds.list_rounds(session, model)
        adopted = model_states.adopted_round(session, model)
    if name is not None:
        mine = [found for found in mine if name in (found.id, str(found.number))]
        if not mine:
            raise StudioError(f"There is no round {name} of {model} in this workspace.")
        return mine[0]
    if adopted is not None:
        return adopted
    done = [found for found in mine if found.state == "done"]
    if not done:
        raise StudioError(f"No round of {model} is done yet; run `inpo-studio align` first.")
    return max(done, key=lambda found: found.number)


def round_status(studio: Studio, round_id: str, after_step: int = -1) -> RoundStatus:
    """Return a round with its figures after `after_step`."""
    with studio.database.read() as session:
        found = rounds.get_round(session, round_id)
        figures = metrics.list_metrics(session, round_id, after_step=after_step)
        adapter = None if found.adapter_id is None else get_adapter(session, found.adapter_id)
    folder = None if adapter is None else studio.settings.workspace / adapter.folder
    return RoundStatus(found, figures, adapter, folder)
