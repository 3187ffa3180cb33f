"""Where an adapter comes from: the facts that travel with it, as metadata and as a model card.

Nothing private travels: no annotator, no prompt, no path of this machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.orm import Session

from inpo_studio import __version__
from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.families import Family, ModelConfigs, default_size
from inpo_studio.evaluation.statistics import Tally, win_rate_interval
from inpo_studio.settings import EMBEDDED_MODEL
from storage.frozen import round_pairs
from storage.rounds import get_round
from storage.schema import Adapter, Round
from storage.trials import list_trials
from storage.votes import live_votes

_ARCHITECTURES = {"sd": "stable-diffusion-v1", "sdxl": "stable-diffusion-xl-v1-base"}
_KOHYA_VERSIONS = {"sd": "sd_v1", "sdxl": "sdxl_base_v1-0"}


@dataclass(frozen=True)
class Provenance:
    """What is known of an adapter and of the model it belongs to."""

    base: str
    """Hub id, file or folder name of the model; never a whole path."""
    base_is_hub_id: bool
    family: Family
    prediction: str
    """What the model predicts: epsilon or v_prediction."""
    size: tuple[int, int]
    rounds: tuple[int, ...]
    """Numbers of the rounds it has been through, the first one first."""
    round_id: str
    config: RoundConfig
    step: int
    rank: int
    alpha: float
    sha256: str
    """Of the adapter's weights in the workspace."""
    choices: int
    """Choices the last round learnt from."""
    trial: Tally | None
    """Blind votes against the base model; None before anybody has looked at a result."""
    made: datetime

    @property
    def title(self) -> str:
        """A short name for people."""
        return f"{self.base.rsplit('/', 1)[-1]} aligned, round {self.rounds[-1]}"

    @property
    def blind_votes(self) -> str | None:
        """One sentence on the blind votes, or None."""
        if self.trial is None:
            return None
        low, high = win_rate_interval(self.trial)
        return (
            f"{self.trial.wins} won, {self.trial.losses} lost and {self.trial.ties} tied of "
            f"{self.trial.total} blind votes against the base model on held-out prompts: a win "
            f"rate of {self.trial.win_rate:.0%} (95 % interval {low:.0%} to {high:.0%})."
        )


def provenance(
    session: Session, round_: Round, adapter: Adapter, family: Family, configs: ModelConfigs
) -> Provenance:
    """Collect the facts of a round's adapter."""
    base, is_hub_id = shown_model(round_.model)
    frozen = round_pairs(session, round_.id, "train")
    prediction = configs.scheduler.get("prediction_type", "epsilon")
    return Provenance(
        base=base,
        base_is_hub_id=is_hub_id,
        family=family,
        prediction=str(prediction),
        size=default_size(configs),
        rounds=_lineage(session, round_),
        round_id=round_.id,
        config=RoundConfig.model_validate(round_.config),
        step=adapter.step,
        rank=adapter.rank,
        alpha=adapter.alpha,
        sha256=adapter.sha256,
        choices=len(frozen),
        trial=_trial(session, round_),
        made=round_.ended_at or round_.created_at,
    )


def shown_model(model: str) -> tuple[str, bool]:
    """A model's name without this machine's folders, and whether it is a Hub id."""
    if model == EMBEDDED_MODEL:
        return model, False
    path = Path(model)
    if path.is_absolute() or path.exists():
        return path.stem if path.suffix == ".safetensors" else path.name, False
    return model, True


def metadata(found: Provenance, name: str) -> dict[str, str]:
    """Metadata of a file called `name`: ModelSpec 1.0.1, kohya's ss_ fields, and the studio's own.

    Values are strings, as the format demands.
    """
    architecture = _ARCHITECTURES.get(found.family.name)
    version = _KOHYA_VERSIONS.get(found.family.name)
    is_v = found.prediction == "v_prediction"
    if found.family.name == "sd2":
        architecture = "stable-diffusion-v2-768-v" if is_v else "stable-diffusion-v2-512"
        version = "sd_v2_v" if is_v else "sd_v2"
    width, height = found.size
    ours = {
        "version": __version__,
        "base": found.base,
        "rounds": list(found.rounds),
        "round_id": found.round_id,
        "step": found.step,
        "objective": found.config.objective,
        "choices": found.choices,
        "adapter_sha256": found.sha256,
        "config": found.config.model_dump(),
        "blind_votes": None if found.trial is None else _as_json(found.trial),
    }
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": found.title,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.description": _one_line(found),
        "modelspec.date": _date(found.made),
        "modelspec.prediction_type": "v" if is_v else "epsilon",
        "modelspec.usage_hint": "No trigger word; use at strength 1.",
        "modelspec.tags": "preference, alignment, DDIM-InPO",
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(found.rank),
        "ss_network_alpha": f"{found.alpha:g}",
        "ss_base_model_version": str(version),
        "ss_v2": str(found.family.name == "sd2"),
        "ss_sd_model_name": found.base,
        "ss_output_name": name,
        "ss_steps": str(found.step),
        "ss_learning_rate": f"{found.config.learning_rate:g}",
        "ss_seed": str(found.config.seed),
        "ss_resolution": f"({width}, {height})",
        "ss_training_comment": _one_line(found),
        "inpo_studio": json.dumps(ours, sort_keys=True),
    }


def _one_line(found: Provenance) -> str:
    return (
        f"LoRA for {found.base}, aligned with {found.choices} choices between pictures "
        f"({found.config.objective}, round {found.rounds[-1]}, {found.step} steps)."
    )


def _as_json(trial: Tally) -> Mapping[str, int | float]:
    counts = {"wins": trial.wins, "losses": trial.losses, "ties": trial.ties}
    return {**counts, "win_rate": round(trial.win_rate, 4)}


def _date(moment: datetime) -> str:
    in_utc = moment.astimezone(UTC) if moment.tzinfo else moment
    return in_utc.replace(tzinfo=None, microsecond=0).isoformat()


def _lineage(session: Session, round_: Round) -> tuple[int, ...]:
    numbers = [round_.number]
    while round_.parent_id is not None:
        round_ = get_round(session, round_.parent_id)
        numbers.append(round_.number)
    return tuple(reversed(numbers))


def _trial(session: Session, round_: Round) -> Tally | None:
    """Votes of the round's last trial against the base model whose result was looked at."""
    for trial in reversed(list_trials(session, round_.model, round_.id)):
        if trial.base_round_id is not None or trial.first_look is None:
            continue
        votes = [vote for vote in live_votes(session, trial.id) if vote.choice != "skip"]
        sided = [vote for vote in votes if vote.choice in ("left", "right")]
        wins = sum(vote.choice == vote.aligned_side for vote in sided)
        if votes:
            return Tally(wins, len(sided) - wins, len(votes) - len(sided))
    return None
