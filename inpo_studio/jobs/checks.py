"""Whether exported files draw elsewhere what the round's adapter draws here.

Everything is computed in float32, so that what differs is the file and not the arithmetic; small
pictures in a few steps are enough for that, and they fit where a large model hardly does.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from PIL import Image
from sqlalchemy.orm import Session

from inpo_studio.configs import GenerationConfig
from inpo_studio.jobs.context import JobContext, JobFailed
from inpo_studio.jobs.pictures import adapter_folder
from inpo_studio.studio.align.export_checks import CheckItem, CheckPayload, CheckResult, note
from storage.prompts import list_prompts
from storage.rounds import get_round

if TYPE_CHECKING:
    import torch

STEPS = 4
LARGEST_SIDE = 256
"""Pixels; a model for larger pictures draws smaller ones as exactly."""
SEEDS = (11, 12)
SPARE_PROMPTS = ("a red house by a lake", "two boats at sunset")

log = logging.getLogger("inpo_studio.jobs.checks")
Pictures = list[Image.Image]
Result = TypeVar("Result")


@dataclass(frozen=True)
class _Asked:
    """What both sides draw."""

    context: JobContext
    model: str
    adapter: Path
    prompts: tuple[str, ...]

    @property
    def pairs(self) -> tuple[list[str], list[int]]:
        """Prompts and seeds, one of each for a picture."""
        prompts = [prompt for prompt in self.prompts for _ in SEEDS]
        return prompts, [seed for _ in self.prompts for seed in SEEDS]


def run(context: JobContext, payload: dict[str, Any]) -> dict[str, Any]:
    """Check every file; returns the results in their order, and writes them where asked."""
    told = CheckPayload.model_validate(payload)
    with context.database.read() as session:
        row = get_round(session, told.round_id)
        if row.adapter_id is None:
            raise JobFailed(f"Round {row.number} has no adapter; check one that is done.")
        folder = adapter_folder(context, session, row.adapter_id)
        asked = _Asked(context, row.model, folder, _prompts(session))
    context.progress(0, len(told.items) + 1, "Drawing with the studio.")
    context.pipelines.release()  # both sides load a copy of their own, one after the other
    generation, base, aligned = _where_it_fits(context, lambda device: _ours(asked, device))
    results = []
    for done, item in enumerate(told.items):
        context.progress(done + 1, len(told.items) + 1, "Drawing with diffusers.")
        context.checkpoint()
        result = _check(asked, item, generation, base, aligned)
        results.append(result.model_dump())
        log.info("%s of round %s: %s", item.form, told.round_id, result.sentence)
        if item.report:
            found = {"job_id": context.job_id, "result": result.model_dump()}
            note(context.settings.workspace / item.report, found)
    context.progress(len(told.items) + 1, len(told.items) + 1)
    return {"checks": results}


def _prompts(session: Session) -> tuple[str, ...]:
    held_out = [prompt.text for prompt in list_prompts(session, "held_out")]
    return tuple([*held_out, *SPARE_PROMPTS][: len(SPARE_PROMPTS)])


def _where_it_fits(context: JobContext, work: Callable[[torch.device], Result]) -> Result:
    """On the worker's device; on the CPU where that one's memory is too small for float32."""
    import torch

    from inpo_studio.diffusion.devices import choose_device
    from inpo_studio.diffusion.fitting import is_out_of_memory, release_memory
    from inpo_studio.machine import computing_threads

    torch.set_num_threads(computing_threads(context.settings.threads))
    device = choose_device(context.settings.device)
    try:
        return work(device)
    except Exception as error:
        if device.type == "cpu" or not is_out_of_memory(error):
            raise
        log.info("float32 does not fit %s; the check runs on the CPU", device)
    release_memory(device)
    return work(torch.device("cpu"))


def _ours(asked: _Asked, device: torch.device) -> tuple[GenerationConfig, Pictures, Pictures]:
    """The settings of the pictures, and those by base and by the round's adapter."""
    from inpo_studio.diffusion.adapters import load_adapter, using
    from inpo_studio.diffusion.fitting import release_memory
    from inpo_studio.diffusion.loading import load_pipeline
    from inpo_studio.diffusion.sampling import sample

    pipeline = load_pipeline(asked.model, device=str(device), dtype="float32")
    load_adapter(pipeline.unet, "round", asked.adapter)
    width, height = (min(LARGEST_SIDE, side) for side in pipeline.size)
    generation = GenerationConfig(
        steps=STEPS, width=width, height=height, batch_size=1, adapter_on="both"
    )

    def on_step(done: int, total: int) -> None:
        asked.context.checkpoint()

    drawn: list[Pictures] = []
    for names in ([], ["round"]):
        with using(pipeline.unet, names):
            found = sample(pipeline, *asked.pairs, generation, on_step=on_step)
        drawn.append([one.image for one in found])
    del pipeline
    release_memory(device)
    return generation, drawn[0], drawn[1]


def _check(
    asked: _Asked,
    item: CheckItem,
    generation: GenerationConfig,
    base: Pictures,
    aligned: Pictures,
) -> CheckResult:
    path = asked.context.settings.workspace / item.path
    if not path.exists():
        raise JobFailed(f"{path} is not there any more; export it again.")
    failure, theirs = "", aligned

    def draw(device: torch.device) -> Pictures:
        from inpo_studio.diffusion.fitting import release_memory
        from inpo_studio.diffusion.plain import PlainPipeline

        plain = PlainPipeline(asked.model, device)
        plain.load(path, item.form)
        drawn = plain.draw(*asked.pairs, generation)
        del plain
        release_memory(device)
        return drawn

    try:
        theirs = _where_it_fits(asked.context, draw)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        log.exception("%s cannot be loaded", path)
        said = str(error).strip() or type(error).__name__
        failure = said.splitlines()[0]
    return CheckResult(
        form=item.form,
        pictures=len(aligned),
        difference=_difference(aligned, theirs),
        effect=_difference(base, aligned),
        failure=failure,
    )


def _difference(ours: Pictures, theirs: Pictures) -> int:
    """Largest difference of a pixel's channel, of 255."""
    pairs = zip(ours, theirs, strict=True)
    return max(
        int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())
        for one, other in pairs
    )
