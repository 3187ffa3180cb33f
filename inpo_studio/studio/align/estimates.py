"""How long a round will take, from what earlier ones took on this machine."""

from __future__ import annotations

import math
import platform
import shutil
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from inpo_studio.configs import RoundConfig
from inpo_studio.settings import EMBEDDED_MODEL, Settings
from storage.metrics import list_metrics
from storage.rounds import list_rounds
from storage.schema import Round
from storage.timings import machine_name, read_timings

Source = Literal["earlier rounds", "this model's usual"]


@dataclass(frozen=True)
class Costs:
    """Seconds of a round's parts, each for one of what it grows with."""

    start_s: float
    """From the start of the process to the first picture that is prepared."""
    level_s: float
    """Inverting one picture, for each level of the grid."""
    pair_s: float
    """One pair in one optimiser step, validation included."""
    sample_s: float
    """Drawing one sample picture on the way."""
    end_s: float
    """Drawing the comparisons at the end."""

    def of(self, config: RoundConfig, pictures: int) -> float:
        """Return the seconds of a round that has to invert so many pictures."""
        inverted = pictures if config.needs_inversion else 0
        return (
            self.start_s
            + self.level_s * config.levels * inverted
            + self.pair_s * config.batch_pairs * config.steps
            + self.sample_s * config.sample_prompts * drawings(config)
            + self.end_s
        )


USUAL = {
    # 2026-11-23, two x86-64 cores without GPU: 44 to 48 s for the default round of 64 choices.
    EMBEDDED_MODEL: Costs(start_s=5.0, level_s=0.006, pair_s=0.035, sample_s=0.43, end_s=5.0),
}
"""What a round costs on a CPU where none has run yet."""


def drawings(config: RoundConfig) -> int:
    """Return how often a round draws its samples: before the first step, on the way, at the end."""
    return 1 + math.ceil(config.steps / config.sample_every) if config.sample_every else 0


def estimate(
    session: Session, settings: Settings, config: RoundConfig, pictures: int
) -> tuple[float, Source] | tuple[None, None]:
    """Return the seconds a round will take and what that goes by; None where nothing is known."""
    model = settings.model
    done = [row for row in list_rounds(session, model, "done") if row.step]
    for row in sorted(done, key=lambda row: row.number, reverse=True):
        if bool(row.config.get("compiled")) != config.compiled:
            continue
        costs = _costs_of(session, settings, row)
        if costs is not None:
            return costs.of(config, pictures), "earlier rounds"
    if model in USUAL and _on_cpu(settings.device):
        return USUAL[model].of(config, pictures), "this model's usual"
    return None, None


def _costs_of(session: Session, settings: Settings, row: Round) -> Costs | None:
    """What a round cost, if it ran on this machine; parts it had not are taken as free."""
    folder = settings.workspace / "rounds" / row.id
    noted = read_timings(folder, machine_name(settings.device, settings.threads))
    steps = [m.seconds for m in list_metrics(session, row.id) if m.seconds is not None]
    if "start_s" not in noted or not steps:
        return None
    config = RoundConfig.model_validate(row.config)
    usual = USUAL.get(row.model)
    level_s = usual.level_s if usual is not None else 0.0
    if "picture_s" in noted:
        level_s = noted["picture_s"] / config.levels
    return Costs(
        start_s=noted["start_s"],
        level_s=level_s,
        pair_s=sum(steps) / len(steps) / config.batch_pairs,
        sample_s=noted.get("samples_s", 0.0) / max(1, config.sample_prompts),
        end_s=noted.get("end_s", 0.0),
    )


def _on_cpu(device: str) -> bool:
    """Whether a training will run on the CPU, as far as can be told without torch."""
    if device != "auto":
        return device == "cpu"
    return platform.system() != "Darwin" and shutil.which("nvidia-smi") is None
