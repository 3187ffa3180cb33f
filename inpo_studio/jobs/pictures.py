"""Drawing pictures and keeping them: what a picture was made with goes into its row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save
from sqlalchemy.orm import Session

from inpo_studio.configs import AdapterOn, GenerationConfig
from inpo_studio.jobs.context import JobContext, JobFailed
from inpo_studio.seeds import Variation
from storage.adapters import get_adapter
from storage.files import FileStore
from storage.guiding import adapter_on
from storage.prompts import get_prompt
from storage.rounds import get_round
from storage.schema import Prompt

if TYPE_CHECKING:
    from inpo_studio.diffusion.loading import Pipeline
    from inpo_studio.diffusion.sampling import Sample


@dataclass(frozen=True)
class Painter:
    """A loaded model with one adapter (or none) and the settings pictures are made with."""

    context: JobContext
    pipeline: Pipeline
    generation: GenerationConfig
    adapter_id: str | None = None
    adapter_folder: Path | None = None
    scale: float = 1.0

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the pictures, in pixels."""
        width, height = self.pipeline.size
        return self.generation.width or width, self.generation.height or height

    def paint(self, prompts: Sequence[str], seeds: Sequence[int | Variation]) -> list[Sample]:
        """Draw one picture for each prompt and seed; stops at any denoising step if told to."""
        from inpo_studio.diffusion.sampling import sample

        def on_step(done: int, total: int) -> None:
            self.context.checkpoint()

        pipelines = self.context.pipelines
        with pipelines.using(self.pipeline, self.adapter_id, self.adapter_folder, self.scale):
            return sample(self.pipeline, prompts, seeds, self.generation, on_step=on_step)

    def made_with(self) -> dict[str, Any]:
        """Return the columns of the row of a picture by a plain seed that say how it was made."""
        width, height = self.size
        return {
            "width": width,
            "height": height,
            "model": self.pipeline.model,
            "adapter_id": self.adapter_id,
            "adapter_on": None if self.adapter_id is None else self.generation.adapter_on,
            "guidance": self.generation.guidance,
            "steps": self.generation.steps,
            "negative_prompt": self.generation.negative_prompt,
            "variation_seed": None,
            "variation_strength": None,
        }


def keep(files: FileStore, drawn: Sample) -> dict[str, Any]:
    """Store a picture and its final latents durably; returns their hashes as columns."""
    # With NumPy: the bytes are those of safetensors.torch, and this room stays free of torch.
    latents = save({"latents": np.ascontiguousarray(drawn.latents.numpy(), dtype=np.float32)})
    return {
        "sha256": files.put_image(drawn.image),
        "latents_sha256": files.put_bytes("latents", latents, ".safetensors"),
    }


def adapter_folder(context: JobContext, session: Session, adapter_id: str) -> Path:
    """Return where an adapter's files are; JobFailed where they are missing."""
    adapter = get_adapter(session, adapter_id)
    folder = context.settings.workspace / adapter.folder
    if not folder.is_dir():
        raise JobFailed(f"The adapter's folder {folder} is missing; train its round again.")
    return folder


def drawn_by(
    session: Session, adapter_id: str | None, generation: GenerationConfig
) -> GenerationConfig:
    """How an adapter (None: the base model) draws what is asked for as `generation`."""
    if adapter_id is None:
        return generation
    round_id = get_adapter(session, adapter_id).round_id
    side: AdapterOn = "both"  # an adapter of no round was imported
    if round_id is not None:
        side = adapter_on(session, get_round(session, round_id), generation.adapter_on)
    return generation.model_copy(update={"adapter_on": side})


def read_prompts(session: Session, prompt_ids: Sequence[str]) -> list[Prompt]:
    """Return the prompts with these ids, in this order."""
    if not prompt_ids:
        raise JobFailed("There are no prompts to draw; give at least one.")
    return [get_prompt(session, prompt_id) for prompt_id in prompt_ids]
