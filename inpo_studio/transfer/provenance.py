"""Where an adapter comes from: the facts that travel with it, as metadata and as a model card.

Nothing private travels: no annotator, no prompt, no path of this machine.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy.orm import Session

from inpo_studio import __version__
from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.families import Family, ModelConfigs, default_size
from inpo_studio.evaluation.statistics import Tally, win_rate_interval
from inpo_studio.settings import EMBEDDED_MODEL
from inpo_studio.studio.align.imported import Imported, imported_from
from storage.frozen import round_pairs
from storage.rounds import get_round
from storage.schema import Adapter, Round
from storage.trials import list_trials, trial_items
from storage.votes import live_votes

_ARCHITECTURES = {"sd": "stable-diffusion-v1", "sdxl": "stable-diffusion-xl-v1-base"}
_KOHYA_VERSIONS = {"sd": "sd_v1", "sdxl": "sdxl_base_v1-0"}

_CONVOLUTIONS = frozenset(
    {"conv1", "conv2", "conv_shortcut", "downsamplers.0.conv", "upsamplers.0.conv"}
)
_OF_TRAINING = frozenset(
    {"modelspec.usage_hint", "modelspec.tags", "ss_steps", "ss_learning_rate", "ss_seed"}
)
"""What cannot be said of an adapter that was only imported."""


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
    imported: Imported | None
    """The LoRA from elsewhere that the first of these rounds is; None where it was trained."""
    round_id: str
    config: RoundConfig
    step: int
    rank: int
    alpha: float
    modules: tuple[str, ...]
    """The kinds of layers it adapts: ends of modules' names."""
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
        base = self.base.rsplit("/", 1)[-1]
        if self.imported is not None and not self.is_trained:
            return f"{self.imported.name}, for {base}"
        return f"{base} aligned, round {self.rounds[-1]}"

    @property
    def is_trained(self) -> bool:
        """Whether a round was trained at all since the adapter was imported, if it was."""
        return self.imported is None or len(self.rounds) > 1

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
    session: Session,
    round_: Round,
    adapter: Adapter,
    family: Family,
    configs: ModelConfigs,
    modules: Sequence[str],
) -> Provenance:
    """Collect the facts of a round's adapter."""
    base, is_hub_id = shown_model(round_.model)
    frozen = round_pairs(session, round_.id, "train")
    prediction = configs.scheduler.get("prediction_type", "epsilon")
    line = _lineage(session, round_)
    return Provenance(
        base=base,
        base_is_hub_id=is_hub_id,
        family=family,
        prediction=str(prediction),
        size=default_size(configs),
        rounds=tuple(row.number for row in line),
        imported=imported_from(line[0]),
        round_id=round_.id,
        config=RoundConfig.model_validate(round_.config),
        step=adapter.step,
        rank=adapter.rank,
        alpha=adapter.alpha,
        modules=tuple(sorted(modules)),
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
        "objective": found.config.objective if found.is_trained else None,
        "choices": found.choices,
        "imported": None if found.imported is None else _import_facts(found.imported),
        "adapter_sha256": found.sha256,
        "config": found.config.model_dump() if found.is_trained else None,
        "blind_votes": None if found.trial is None else _as_json(found.trial),
    }
    facts = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": f"{architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": found.title,
        "modelspec.resolution": f"{width}x{height}",
        "modelspec.description": _one_line(found),
        "modelspec.date": _date(found.made),
        "modelspec.prediction_type": "v" if is_v else "epsilon",
        "modelspec.usage_hint": "No trigger word; strength 1, or 2 where it shows too little.",
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
    if _CONVOLUTIONS & set(found.modules):
        said = {"conv_dim": str(found.rank), "conv_alpha": f"{found.alpha:g}"}
        facts["ss_network_args"] = json.dumps(said)
    return facts if found.is_trained else {k: v for k, v in facts.items() if k not in _OF_TRAINING}


def _import_facts(found: Imported) -> Mapping[str, str | int]:
    facts = {"name": found.name, "form": found.form, "sha256": found.sha256}
    return {**facts, "text_encoder_layers_left_out": found.left_out}


def _one_line(found: Provenance) -> str:
    if not found.is_trained and found.imported is not None:
        return f"LoRA for {found.base}, imported as {found.imported.name} and not changed since."
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


def _lineage(session: Session, round_: Round) -> list[Round]:
    """The rounds from the first one to this."""
    line = [round_]
    while line[-1].parent_id is not None:
        line.append(get_round(session, line[-1].parent_id))
    return line[::-1]


def _trial(session: Session, round_: Round) -> Tally | None:
    """Votes of the round's last trial against the base model whose result was looked at.

    Of the very weights that are exported, at full strength: an earlier step may have been chosen
    since, and nobody has judged that.
    """
    for trial in reversed(list_trials(session, round_.model, round_.id)):
        if trial.base_round_id is not None or trial.first_look is None or trial.scale != 1.0:
            continue
        drawn = [item.comparison for item in trial_items(session, trial.id)]
        if any(each is not None and each.adapter_id != round_.adapter_id for each in drawn):
            continue
        votes = [vote for vote in live_votes(session, trial.id) if vote.choice != "skip"]
        sided = [vote for vote in votes if vote.choice in ("left", "right")]
        wins = sum(vote.choice == vote.aligned_side for vote in sided)
        if votes:
            return Tally(wins, len(sided) - wins, len(votes) - len(sided))
    return None
