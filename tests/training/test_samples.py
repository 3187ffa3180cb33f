"""Sample pictures: the policy's own, the same again, and nothing of the training moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inpo_studio.configs import GenerationConfig
from inpo_studio.diffusion.adapters import using
from inpo_studio.diffusion.loading import load_pipeline
from inpo_studio.diffusion.sampling import sample
from inpo_studio.training.loop import Trainer
from inpo_studio.training.policy import POLICY
from inpo_studio.training.samples import SamplePlan, SamplePrompt, Sampler
from tests.training.conftest import small_config

PROMPTS = (SamplePrompt("a", "a hill", 4), SamplePrompt("b", "a lake", 9))

NewTrainer = Callable[..., Trainer]


def new_sampler(trainer: Trainer, model: Path, **changes: object) -> Sampler:
    """A sampler of the trainer's UNet, as one that was built before the encoders were released."""
    generation = GenerationConfig.model_validate({"steps": 3, "guidance": 2.0, **changes})
    whole = load_pipeline(str(model), device="cpu", dtype="float32")
    whole.unet = trainer.policy.pipeline.unet
    sampler = Sampler(whole, SamplePlan(PROMPTS, generation))
    whole.release_encoders()
    return sampler


@pytest.mark.parametrize("kind", ["sd15", "sd2v", "sdxl"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"guidance": 1.0},
        {"negative_prompt": "fog"},
        {"batch_size": 1, "width": 32},
        {"adapter_on": "both"},
    ],
)
def test_samples_are_what_the_policy_draws(
    new_trainer: NewTrainer,
    tiny_model: Callable[[str], Path],
    kind: str,
    changes: dict[str, object],
) -> None:
    trainer = new_trainer(small_config(learning_rate=0.1), kind)
    sampler = new_sampler(trainer, tiny_model(kind), **changes)
    first = sampler.draw()
    trainer.run(lambda: None, lambda record: None, lambda: None)
    last = sampler.draw()
    pipeline = load_pipeline(str(tiny_model(kind)), device="cpu", dtype="float32")
    pipeline.unet = trainer.policy.pipeline.unet
    texts, seeds = [p.text for p in PROMPTS], [p.seed for p in PROMPTS]
    for active, drawn in (([], first), ([POLICY], last)):
        with using(pipeline.unet, active):
            expected = sample(pipeline, texts, seeds, sampler.plan.generation)
        assert [p.tobytes() for p in drawn] == [s.image.tobytes() for s in expected]
    assert [p.tobytes() for p in first] != [p.tobytes() for p in last]


@pytest.mark.parametrize("averaging", [0.0, 0.9])
def test_drawing_changes_no_byte_of_the_training(
    new_trainer: NewTrainer, tiny_model: Callable[[str], Path], averaging: float
) -> None:
    config = small_config(steps=5, sample_every=2, weight_averaging=averaging)
    plain, drawn = new_trainer(config), new_trainer(config)
    plain.run(lambda: None, lambda record: None, lambda: None)
    sampler = new_sampler(drawn, tiny_model("sd15"))
    at = []

    def on_sample() -> None:
        torch.manual_seed(drawn.step)
        with drawn.as_kept():
            sampler.draw()
        at.append(drawn.step)

    drawn.run(lambda: None, lambda record: None, lambda: None, on_sample)
    assert at == [0, 2, 4, 5]
    for one, other in zip(plain.parameters, drawn.parameters, strict=True):
        assert torch.equal(one, other)
    for name, tensor in plain.adapter_tensors().items():
        assert torch.equal(tensor, drawn.adapter_tensors()[name])


def test_what_is_shown_is_what_is_kept(new_trainer: NewTrainer) -> None:
    trainer = new_trainer(small_config(weight_averaging=0.9))
    trainer.run(lambda: None, lambda record: None, lambda: None)
    own = [parameter.detach().clone() for parameter in trainer.parameters]
    with trainer.as_kept():
        shown = [parameter.detach().clone() for parameter in trainer.parameters]
    for parameter, average, before, seen in zip(
        trainer.parameters, trainer.average, own, shown, strict=True
    ):
        assert torch.equal(seen, average)
        assert torch.equal(parameter, before)


def test_the_decoder_is_there_only_while_it_decodes(
    new_trainer: NewTrainer, tiny_model: Callable[[str], Path]
) -> None:
    trainer = new_trainer(small_config())
    sampler = new_sampler(trainer, tiny_model("sd15"))
    assert sampler._pipeline.vae is None

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        sampler.draw(stop)
    assert len(sampler.draw()) == len(PROMPTS)
    assert sampler._pipeline.vae is None
    assert not sampler._pipeline.text_encoders


@pytest.mark.parametrize(
    ("request_at", "what", "sampled", "checkpoints"),
    [
        (3, "finish", [0, 2, 3], [2, 3]),
        (3, "pause", [0, 2], [2, 3]),
        (3, "cancel", [0, 2], [2]),
        (9, None, [0, 2, 4], [2, 4]),
    ],
)
def test_when_samples_and_checkpoints_are_due(
    new_trainer: NewTrainer, request_at: int, what: str, sampled: list[int], checkpoints: list[int]
) -> None:
    trainer = new_trainer(small_config(steps=4, sample_every=2, checkpoint_every=2))
    seen: dict[str, list[int]] = {"sampled": [], "saved": []}
    ending = trainer.run(
        lambda: what if trainer.step == request_at else None,  # type: ignore[arg-type, return-value]
        lambda record: None,
        lambda: seen["saved"].append(trainer.step),
        lambda: seen["sampled"].append(trainer.step),
    )
    assert ending == (what or "done")
    assert seen == {"sampled": sampled, "saved": checkpoints}
