"""kill -9 in a real round: it goes on to its end and gives the bytes of an undisturbed one."""

from __future__ import annotations

import os
import random
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from inpo_studio.configs import RoundConfig
from inpo_studio.engine import Engine
from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.rounds import RoundStatus, round_status
from inpo_studio.supervisor import Supervisor
from storage.choices import record_choice
from storage.images import add_image
from storage.pairs import add_pair
from storage.prompts import add_prompts
from storage.rounds import create_round
from tests.jobs.support import wait_for

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL"),
]

CONFIG = RoundConfig.model_validate(
    {
        "steps": 40,
        "rank": 2,
        "alpha": 2.0,
        "batch_pairs": 4,
        "micro_batch_pairs": 2,
        "levels": 5,
        "checkpoint_every": 3,
        "validate_every": 10,
        "weight_averaging": 0.9,
        "threads": 1,
        "dtype": "float32",
    }
)
PAIRS = 12


def labelled_workspace(folder: Path, model: str) -> Settings:
    """A workspace with chosen pairs of random pictures and a queued round of them."""
    import torch
    from PIL import Image
    from safetensors.torch import save

    settings = Settings(workspace=folder, model=model, device="cpu", threads=1)
    studio = open_studio(settings)
    generator = torch.Generator().manual_seed(0)
    with studio.database.write() as session:
        prompts = add_prompts(session, [f"a hill {i}" for i in range(PAIRS)], source="own")
        for index, prompt in enumerate(prompts):
            images = []
            for side in range(2):
                latents = torch.randn((4, 8, 8), generator=generator)
                picture = Image.new("RGB", (64, 64), (20 * index, 90 * side, 7))
                images.append(
                    add_image(
                        session,
                        image_id=f"image-{index}-{side}",
                        prompt_id=prompt.id,
                        seed=side,
                        sha256=studio.files.put_image(picture),
                        latents_sha256=studio.files.put_bytes(
                            "latents", save({"latents": latents}), ".safetensors"
                        ),
                        width=64,
                        height=64,
                        model=model,
                        adapter_id=None,
                        guidance=3.0,
                        steps=2,
                    )
                )
            pair = add_pair(
                session,
                prompt_id=prompt.id,
                first_image_id=images[0].id,
                second_image_id=images[1].id,
            )
            record_choice(
                session,
                key=pair.id,
                pair_id=pair.id,
                choice=("left", "right", "tie")[index % 3],  # type: ignore[arg-type]
                left_image_id=images[0].id,
                right_image_id=images[1].id,
                annotator="me",
            )
        made = create_round(
            session,
            model=model,
            config=CONFIG.model_dump(),
            seed=3,
            total_steps=CONFIG.steps,
            job_id="round-job",
            round_id="the-round",
        )
        assert made.number == 1
    studio.close()
    return settings


def process_named(parent: int, part: str) -> psutil.Process | None:
    """A living descendant of ``parent`` whose command line holds ``part``."""
    try:
        for child in psutil.Process(parent).children(recursive=True):
            if part in " ".join(child.cmdline()) and child.status() != psutil.STATUS_ZOMBIE:
                return child
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return None


def kill_at(studio: Studio, supervisor: Supervisor, victim: str, step: int) -> None:
    """kill -9 the trainer or the worker once the round has got to ``step``."""
    wait_for(lambda: _status(studio).round.step >= step, 300, f"step {step}")
    worker = supervisor.pid
    assert worker is not None
    if victim == "worker":
        os.kill(worker, signal.SIGKILL)
        return
    trainer = process_named(worker, "inpo_studio.training.round")
    assert trainer is not None, "the trainer had ended before it could be killed"
    trainer.kill()


def run_round(settings: Settings, victims: list[str]) -> RoundStatus:
    """Run the workspace's round under the supervisor, killing ``victims`` on the way."""
    studio = open_studio(settings)
    try:
        Engine(settings).enqueue("round", {"round_id": "the-round"}, job_id="round-job")
        with Supervisor(settings) as supervisor:
            for number, victim in enumerate(victims):
                kill_at(studio, supervisor, victim, 6 + 10 * number + random.randint(0, 5))
            wait_for(lambda: _status(studio).round.state in ("done", "failed"), 600, "the end")
        return _status(studio)
    finally:
        studio.close()


def _status(studio: Studio) -> RoundStatus:
    return round_status(studio, "the-round")


def test_a_killed_round_ends_in_the_same_bytes(
    tmp_path: Path, tiny_model: Callable[[str], Path]
) -> None:
    model = str(tiny_model("sd15"))
    settings = labelled_workspace(tmp_path / "undisturbed", model)
    copied = tmp_path / "killed"
    shutil.copytree(settings.workspace, copied)
    undisturbed = run_round(settings, [])
    killed = run_round(
        Settings(workspace=copied, model=model, device="cpu", threads=1),
        ["trainer", "worker"],
    )
    for status in (undisturbed, killed):
        assert status.round.state == "done", status.round.failure
        assert [metric.step for metric in status.metrics] == list(range(1, CONFIG.steps + 1))
    assert killed.round.attempt > undisturbed.round.attempt + 1
    assert undisturbed.adapter is not None
    assert killed.adapter is not None
    assert killed.adapter.sha256 == undisturbed.adapter.sha256
    losses = [[metric.loss for metric in status.metrics] for status in (undisturbed, killed)]
    assert losses[0] == losses[1]
