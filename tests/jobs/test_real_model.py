"""Pairs and comparisons with a real pipeline of random weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from inpo_studio.jobs.worker import embedded_worker
from inpo_studio.studio import Studio
from storage.adapters import add_adapter
from storage.comparisons import get_comparison
from storage.prompts import add_prompts
from storage.rounds import claim_attempt, create_round
from storage.schema import Image
from tests.jobs.support import GENERATION

pytestmark = pytest.mark.slow


def random_adapter(model: str, folder: Path) -> str:
    """An adapter that changes pictures visibly; returns its hash."""
    import torch

    from inpo_studio.diffusion.adapters import adapter_parameters, attach_adapter, save_adapter
    from inpo_studio.diffusion.loading import load_pipeline

    unet = load_pipeline(model, device="cpu").unet
    attach_adapter(unet, "made", rank=2, alpha=2.0, seed=1)
    with torch.no_grad():
        for _, parameter in adapter_parameters(unet, "made"):
            parameter.normal_(0, 0.5, generator=torch.Generator().manual_seed(2))
    return save_adapter(unet, "made", folder)


def test_pairs_and_comparisons(studio: Studio, tiny_model: Callable[[str], Path]) -> None:
    from safetensors.torch import load_file

    model = str(tiny_model("sd15"))
    sha256 = random_adapter(model, studio.settings.workspace / "adapters" / "one")
    with studio.database.write() as session:
        train = add_prompts(session, ["a hill"], source="own")
        held_out = add_prompts(session, ["a sea"], source="comparison", kind="compare")
        made = create_round(session, model=model, config={}, seed=0)
        attempt = claim_attempt(session, made.id)
        add_adapter(
            session,
            sha256=sha256,
            folder="adapters/one",
            model=model,
            rank=2,
            alpha=2.0,
            step=1,
            round_id=made.id,
            attempt=attempt,
        )
    pairs = {"prompt_ids": [train[0].id], "count": 3, "seed": 0, "model": model}
    compared = {"prompt_ids": [held_out[0].id], "seeds": [4], "round_id": made.id}

    def run(kind: str, payload: dict[str, Any]) -> Any:
        job_id = studio.engine.enqueue(kind, {**payload, "generation": GENERATION.model_dump()})
        status = studio.engine.wait(job_id, timeout_s=200)
        assert status.state == "done", status.error
        return status.result

    with embedded_worker(studio.settings):
        run("pairs", pairs)
        full = run("comparisons", compared)
        none = run("comparisons", {**compared, "scale": 0.0})
    with studio.database.read() as session:
        images = list(session.scalars(select(Image).where(Image.prompt_id == train[0].id)))
        at_full = get_comparison(session, full["comparison_ids"][0])
        at_none = get_comparison(session, none["comparison_ids"][0])
    assert len({image.sha256 for image in images}) == 6
    for image in images:
        path = studio.files.path("latents", image.latents_sha256 or "", ".safetensors")
        assert load_file(path)["latents"].ndim == 3
    assert at_full.base_image_id == at_none.base_image_id
    assert at_full.base_image.sha256 != at_full.aligned_image.sha256
    assert at_none.base_image.sha256 == at_none.aligned_image.sha256
