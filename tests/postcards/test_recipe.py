"""The recipe: any text tokenises, a stage that was stopped goes on to the same bytes."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from inpo_studio import postcards
from inpo_studio.postcards import checkpointing
from inpo_studio.postcards.recipe import IMAGE_SIZE, MAX_TOKENS, Recipe, remember
from inpo_studio.postcards.scenes import caption, held_out, random_scene, render

TOY = Recipe(
    scenes=24,
    validation_scenes=4,
    vocabulary=600,
    vae_widths=(8, 8, 16, 16),
    vae_channels=4,
    vae_steps=4,
    vae_whole_steps=1,
    vae_batch=4,
    decoder_steps=4,
    unet_widths=(32, 32, 32),
    text_width=32,
    text_layers=1,
    unet_steps=4,
    unet_batch=4,
    unet_preview_every=100,
    finish_steps=4,
    scorer_width=32,
    scorer_layers=1,
    scorer_steps=4,
    scorer_batch=8,
    checkpoint_every=2,
)


@pytest.fixture(scope="module")
def tokenizer():
    from inpo_studio.postcards.tokenizer import make_tokenizer

    return make_tokenizer(seed=0, vocabulary=800, captions=2_000)


def _render_toy_set(out: Path) -> None:
    """Write the render set without worker processes: a few pictures, in the recipe's layout."""
    folder = out / "renders"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(5)
    for name, count in (("train", TOY.scenes), ("validation", TOY.validation_scenes)):
        scenes = [random_scene(rng) for _ in range(count)]
        lines = [json.dumps(dataclasses.asdict(scene)) for scene in scenes]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        pictures = [np.asarray(render(scene, IMAGE_SIZE)) for scene in scenes]
        np.save(folder / f"{name}.npy", np.stack(pictures))


@pytest.mark.parametrize(
    "text",
    [
        "a red house by the sea",
        "Zwölf Boxkämpfer",
        "猫と🎈",
        "",
        "a\tb\n\nc",
        "<|startoftext|>",
        "\x00",
    ],
)
def test_any_text_tokenises_within_the_length(tokenizer, text: str) -> None:
    ids = tokenizer(text, padding="max_length", truncation=True).input_ids
    assert len(ids) == MAX_TOKENS
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.eos_token_id in ids
    assert max(ids) < len(tokenizer)


def test_no_text_is_lost_and_case_does_not_matter(tokenizer) -> None:
    for text in ("quick brown fox", "žluťoučký kůň", "猫 🎈"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text
        assert tokenizer(text.upper()).input_ids == ids


def test_every_caption_fits_the_tokenizer_length(tokenizer) -> None:
    rng = np.random.default_rng(1)
    lengths = [len(tokenizer(caption(random_scene(rng), rng)).input_ids) for _ in range(500)]
    assert max(lengths) <= MAX_TOKENS


def test_tokenizer_comes_back_from_disk(tokenizer, tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizer.save_pretrained(tmp_path)
    again = CLIPTokenizer.from_pretrained(tmp_path)
    text = "a Blue sailboat, 猫"
    assert again(text).input_ids == tokenizer(text).input_ids
    assert again.model_max_length == MAX_TOKENS


def test_starter_prompts_are_different_seen_and_repeatable() -> None:
    prompts = postcards.starter_prompts(200, seed=3)
    assert len(set(prompts)) == 200
    assert prompts == postcards.starter_prompts(200, seed=3)
    assert prompts != postcards.starter_prompts(200, seed=4)
    with pytest.raises(ValueError, match="starter prompts"):
        postcards.starter_prompts(-1)


def test_starter_prompts_need_no_torch() -> None:
    code = (
        "import sys; from inpo_studio.postcards import starter_prompts, pipeline_path; "
        "starter_prompts(2); assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_training_scenes_leave_out_the_held_out_combinations() -> None:
    from inpo_studio.postcards.render_set import draw_scenes

    train = draw_scenes(0, "train", 400, seen_only=True)
    assert not any(map(held_out, train))
    assert train == draw_scenes(0, "train", 400, seen_only=True)


def test_an_epoch_visits_every_item_once() -> None:
    visits = [checkpointing.batch_indices(0, "x", step, 4, 10) for step in range(5)]
    assert sorted(np.concatenate(visits)[:10]) == list(range(10))
    assert sorted(np.concatenate(visits)[10:]) == list(range(10))


def test_publish_leaves_nothing_when_filling_fails(tmp_path: Path) -> None:
    def fail(part: Path) -> None:
        (part / "half").write_text("x")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        checkpointing.publish(tmp_path / "stage", fail)
    assert not (tmp_path / "stage").exists()


def test_a_folder_keeps_to_its_recipe(tmp_path: Path) -> None:
    remember(TOY, tmp_path)
    remember(TOY, tmp_path)
    with pytest.raises(ValueError, match="other numbers"):
        remember(dataclasses.replace(TOY, seed=1), tmp_path)


def test_standardised_latents_decode_to_the_same_picture() -> None:
    import torch

    from inpo_studio.postcards.networks import make_vae
    from inpo_studio.postcards.train_vae import standardise

    torch.manual_seed(0)
    vae = make_vae(TOY).eval()
    x = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.no_grad():
        before = vae.encode(x).latent_dist
        decoded = vae.decode(before.mean).sample
        standardise(vae, before.mean)
        after = vae.encode(x).latent_dist
        torch.testing.assert_close(vae.decode(after.mean).sample, decoded, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(after.mean.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mean.std((0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        after.std / before.std,
        after.std[:1, :, :1, :1] / before.std[:1, :, :1, :1] + 0 * after.std,
        atol=1e-4,
        rtol=1e-3,
    )


def test_orthogonalise_brings_singular_values_near_one() -> None:
    import torch

    from inpo_studio.postcards.muon import orthogonalise

    rng = torch.Generator().manual_seed(0)
    for shape in ((2, 8, 30), (2, 30, 8)):
        values = torch.linalg.svdvals(orthogonalise(torch.randn(shape, generator=rng)))
        assert values.min() > 0.5
        assert values.max() < 1.4


class _KilledError(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["vae", "decoder", "unet", "finish", "scorer"])
def test_a_stopped_stage_goes_on_to_the_same_bytes(
    stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from inpo_studio.postcards import (
        train_decoder,
        train_finish,
        train_scorer,
        train_unet,
        train_vae,
    )
    from inpo_studio.postcards.tokenizer import build_tokenizer

    build = {
        "vae": train_vae.build_vae,
        "decoder": train_decoder.build_decoder,
        "unet": train_unet.build_unet,
        "finish": train_finish.build_finish,
        "scorer": train_scorer.build_scorer,
    }[stage]
    monkeypatch.setattr(train_unet, "write_sheet", lambda *_, **__: None)
    save = checkpointing.TrainState.save

    def save_and_die(state: checkpointing.TrainState, folder: Path, step: int) -> None:
        save(state, folder, step)
        raise _KilledError

    results = []
    for name in ("straight", "stopped"):
        out = tmp_path / name
        _render_toy_set(out)
        build_tokenizer(TOY, out)
        if stage in ("decoder", "unet", "finish"):
            train_vae.build_vae(TOY, out)
        if stage in ("unet", "finish"):
            train_vae.build_latents(TOY, out)
        if stage == "finish":
            train_unet.build_unet(TOY, out)
        if name == "stopped":
            with monkeypatch.context() as patch:
                patch.setattr(checkpointing.TrainState, "save", save_and_die)
                with pytest.raises(_KilledError):
                    build(TOY, out)
        build(TOY, out)
        target = out / {"unet": "pipeline", "finish": "finished"}.get(stage, stage)
        results.append(
            {p.relative_to(target): p.read_bytes() for p in target.rglob("*.safetensors")}
        )
    assert results[0]
    assert results[0] == results[1]


def test_shipped_weights_keep_to_their_sizes() -> None:
    from inpo_studio.postcards.package import WEIGHTS, check_sizes

    sizes = check_sizes(WEIGHTS)
    assert sizes["total"] <= 30_000_000
    assert sizes["besides_unet"] <= 7_000_000
    assert not [path for path in WEIGHTS.rglob("*") if path.suffix in {".bin", ".pt", ".ckpt"}]
    configurations = [path.read_text(encoding="utf-8") for path in WEIGHTS.rglob("*.json")]
    assert configurations
    assert not [text for text in configurations if "_name_or_path" in text]


def test_shipped_pipeline_loads_with_plain_diffusers_in_one_dtype() -> None:
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(postcards.pipeline_path())
    pipeline.set_progress_bar_config(disable=True)
    assert isinstance(pipeline.scheduler, DDIMScheduler)
    assert pipeline.safety_checker is None
    parts = (pipeline.unet, pipeline.vae, pipeline.text_encoder)
    assert {part.dtype for part in parts} == {torch.float32}
    assert sum(p.numel() for p in pipeline.unet.parameters()) <= 11_000_000
    prompts = ["a red house in a meadow at noon, clear sky", "Ein 猫, never seen 🎈"]
    rngs = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    pictures = pipeline(prompts, num_inference_steps=3, generator=rngs, output_type="np").images
    assert pictures.shape == (2, IMAGE_SIZE, IMAGE_SIZE, 3)
    assert np.isfinite(pictures).all()
    assert pictures.std() > 0.02


def test_shipped_scorer_prefers_the_true_caption() -> None:
    import torch
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(postcards.scorer_path()).eval()
    processor = CLIPProcessor.from_pretrained(postcards.scorer_path())
    assert model.dtype == torch.float32
    rng = np.random.default_rng(11)
    scenes = [random_scene(rng) for _ in range(16)]
    inputs = processor(
        text=[caption(scene) for scene in scenes],
        images=[render(scene) for scene in scenes],
        return_tensors="pt",
        padding=True,
    )
    with torch.no_grad():
        scores = model(**inputs).logits_per_image
    assert (scores.argmax(1) == torch.arange(16)).float().mean() >= 0.85
