"""Making pairs while a round trains: one at a time, and only where both fit in memory."""

from __future__ import annotations

import logging
import time

import psutil

from inpo_studio.configs import GenerationConfig
from inpo_studio.diffusion.checkpoints import local_folder
from inpo_studio.diffusion.families import read_configs
from inpo_studio.diffusion.memory import ModelNeeds, read_text_configs
from inpo_studio.jobs.context import JobContext
from inpo_studio.jobs.pairs import make_pair
from inpo_studio.jobs.supply import find_lack
from storage.errors import Transient

LOOK_EVERY_S = 2.0
ROOM_BYTES = 4 * 2**30
"""Memory that must be free before a model is kept loaded beside a training, where no estimate says
better: without a card of its own, and for a model whose configuration is not at hand."""

RANK = 16
"""A rank that the adapters drawn with are taken to have: they weigh little."""

log = logging.getLogger("inpo_studio.jobs.beside")


class Beside:
    """Keeps pairs coming in the pauses of the thread that watches a training."""

    def __init__(self, context: JobContext) -> None:
        """Do nothing at all where the worker makes pairs only when asked."""
        self._context = context
        self._going = context.keeps_ready and context.settings.keep_ready > 0
        self._looked_at = 0.0

    def make_one(self) -> str | None:
        """Make a pair if one is missing; returns its id. A failure ends it, never the round."""
        now = time.monotonic()
        if not self._going or now - self._looked_at < LOOK_EVERY_S:
            return None
        context = self._context
        try:
            with context.database.read() as session:
                lack = find_lack(session, context.settings)
            if lack is not None and self._has_room():
                generation = GenerationConfig(batch_size=2)
                made = make_pair(context, lack.prompt_ids[0], lack.adapter_id, generation)
                self._looked_at = 0.0 if lack.missing > 1 else now
                return made
        except Transient as error:
            log.info("no pair is made now: %s", error)
        except Exception:
            log.exception("no more pairs are made beside this round")
            self._going = False
        self._looked_at = now
        return None

    def _has_room(self) -> bool:
        """Whether this worker's model fits beside the training; on a card it leaves where not."""
        context, pipelines = self._context, self._context.pipelines
        settings = context.settings
        loaded = pipelines.holds(settings.model)
        if free_bytes(settings.device) >= room_bytes(settings.model, settings.device, loaded):
            return True
        if loaded and on_card(settings.device):
            log.info("the model makes room for the training")
            pipelines.release()
        return False


def room_bytes(model: str, device: str, loaded: bool) -> int:
    """Memory that must be free to draw a pair beside a training, from the model's configuration.

    What a pair takes for a moment is counted twice: the training draws too, its sample pictures.
    """
    folder = local_folder(model) if on_card(device) else None
    if folder is None:
        return ROOM_BYTES
    needs = ModelNeeds.of(read_configs(folder), read_text_configs(folder))
    drawing = needs.drawing("bfloat16", 2, RANK)
    return 2 * drawing.working if loaded else drawing.total + drawing.working


def on_card(device: str) -> bool:
    """Whether a device is a CUDA card, with a memory of its own."""
    import torch

    return device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())


def free_bytes(device: str) -> int:
    """Memory a worker may still take on a device: of the GPU, else of the machine."""
    import torch

    if on_card(device):
        free: int = torch.cuda.mem_get_info(None if device == "auto" else device)[0]
        return free
    return int(psutil.virtual_memory().available)
