"""The scorer: a small CLIP that tells whether a picture shows what a caption says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from tqdm import tqdm
from transformers import CLIPModel, CLIPTokenizer

from .checkpointing import (
    TrainState,
    batch_indices,
    declare_float32,
    publish,
    rng_for,
    write_text,
)
from .networks import device, make_scorer
from .recipe import IMAGE_SIZE, Recipe
from .render_set import load_render_set
from .scene_words import ATTRIBUTES
from .scenes import Scene, caption

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
PREPROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": IMAGE_SIZE},
    "resample": 3,
    "do_center_crop": True,
    "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": MEAN,
    "image_std": STD,
}


def _pixels(pictures: NDArray[np.uint8], rng: np.random.Generator | None) -> Tensor:
    """Normalise as the saved processor does; with `rng`, shift and flip each picture a little."""
    if rng is not None:
        moved = []
        for picture in pictures:
            down, right = rng.integers(-8, 9, 2)
            padded = np.pad(picture, ((8, 8), (8, 8), (0, 0)), mode="edge")
            picture = padded[8 + down :, 8 + right :][:IMAGE_SIZE, :IMAGE_SIZE]
            moved.append(picture[:, ::-1] if rng.random() < 0.5 else picture)
        pictures = np.stack(moved)
    x = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2) / 255
    return (x - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def changed(scene: Scene, rng: np.random.Generator, most: int = 1) -> Scene:
    """Change one to `most` of the scene's five attributes to other words."""
    names = rng.choice(list(ATTRIBUTES), int(rng.integers(1, most + 1)), replace=False)
    words: dict[str, Any] = {}
    for name in names:
        others = [word for word in ATTRIBUTES[name] if word != getattr(scene, name)]
        words[str(name)] = others[int(rng.integers(len(others)))]
    return dataclasses.replace(scene, **words)


def _embed_texts(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    # Attention is causal and the end token is read, so padding has no say: pad as little as can be.
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    pooled = model.text_model(tokens.input_ids.to(model.device)).pooler_output
    return normalize(model.text_projection(pooled).float(), dim=-1)


def _embed_pixels(model: CLIPModel, pixels: Tensor) -> tuple[Tensor, Tensor]:
    """Embed pictures: unit vectors (n, 64) and the pooled features they come from, (n, width)."""
    pooled = model.vision_model(pixels.to(model.device)).pooler_output
    return normalize(model.visual_projection(pooled).float(), dim=-1), pooled


def _loss(
    model: CLIPModel,
    heads: nn.ModuleDict,
    tokenizer: CLIPTokenizer,
    pixels: Tensor,
    scenes: list[Scene],
    negatives: int,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Contrastive loss with hard negatives, plus an attribute loss that speeds up learning.

    Every picture is compared with all true captions and with `negatives` captions of its own
    that differ in one word. The attribute heads are thrown away after training.
    """
    texts = [caption(scene, rng) for scene in scenes]
    for _ in range(negatives):
        texts += [caption(changed(scene, rng), rng) for scene in scenes]
    count, place = len(scenes), model.device
    with torch.autocast(place.type, torch.bfloat16):
        images, pooled = _embed_pixels(model, pixels)
        captions = _embed_texts(model, tokenizer, texts)
    scale = model.logit_scale.exp().clamp(max=100)
    logits = scale * images @ captions[:count].T
    # Scenes with equal words are no negatives of each other.
    same = [[a.words == b.words and a is not b for b in scenes] for a in scenes]
    logits = logits.masked_fill(torch.tensor(same, device=place), -1e4)
    own = captions[count:].view(negatives, count, -1)
    hard = scale * torch.einsum("nd,knd->nk", images, own)
    target = torch.arange(count, device=place)
    by_image = cross_entropy(torch.cat([logits, hard], dim=1), target)
    by_text = cross_entropy(logits.T, target)
    attributes = pooled.new_zeros((), dtype=torch.float32)
    for name, words in ATTRIBUTES.items():
        labels = [words.index(getattr(scene, name)) for scene in scenes]
        said = heads[name](pooled.float())
        attributes = attributes + cross_entropy(said, torch.tensor(labels, device=place))
    return by_image + 0.5 * by_text + 0.3 * attributes, by_image


@torch.no_grad()
def ranking_accuracy(
    model: CLIPModel, tokenizer: CLIPTokenizer, out: Path, seed: int, captions: int = 64
) -> float:
    """Share of validation renders whose true caption ranks first among `captions` captions.

    The others differ in one or more attributes, half of them in exactly one.
    """
    pictures, scenes = load_render_set(out, "validation")
    right = 0
    for index, scene in enumerate(scenes):
        rng = rng_for(seed, "ranking", index)
        words: dict[tuple[str, ...], Scene] = {scene.words: scene}
        while len(words) < captions:
            most = 1 if len(words) <= captions // 2 - 8 else len(ATTRIBUTES)
            other = changed(scene, rng, most)
            words.setdefault(other.words, other)
        texts = [caption(other) for other in words.values()]
        image, _ = _embed_pixels(model, _pixels(pictures[index : index + 1], None))
        scores = (_embed_texts(model, tokenizer, texts) @ image.T)[:, 0]
        right += int(scores.argmax()) == 0
    return right / len(scenes)


def build_scorer(recipe: Recipe, out: Path) -> None:
    """Train the scorer and publish it in float16 at `out`/scorer, unless it is there."""
    if (out / "scorer").exists():
        return
    torch.manual_seed(recipe.seed)
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    model = make_scorer(recipe, tokenizer).to(device())
    heads = nn.ModuleDict(
        {name: nn.Linear(recipe.scorer_width, len(words)) for name, words in ATTRIBUTES.items()}
    ).to(device())
    pictures, scenes = load_render_set(out, "train")
    networks = {"model": model, "heads": heads}
    state = TrainState(networks, recipe.scorer_lr, decay=0.99, muon_lr=recipe.scorer_muon_lr)
    folder = out / "scorer.checkpoint"
    steps, start = recipe.scorer_steps, state.load(folder)
    for step in (bar := tqdm(range(start, steps), "scorer", steps, initial=start, mininterval=5)):
        picked = batch_indices(recipe.seed, "scorer", step, recipe.scorer_batch, len(scenes))
        rng = rng_for(recipe.seed, "scorer", step)
        pixels = _pixels(pictures[picked], rng)
        batch = [scenes[index] for index in picked]
        loss, shown = _loss(model, heads, tokenizer, pixels, batch, recipe.scorer_negatives, rng)
        loss.backward()
        state.update(step, steps, warm_up=100)
        if step % 20 == 0:
            bar.set_postfix(
                all=f"{float(loss.detach()):.3f}", contrastive=f"{float(shown.detach()):.3f}"
            )
        if (step + 1) % recipe.checkpoint_every == 0:
            state.save(folder, step + 1)
    state.use_averages()
    model.eval()
    accuracy = ranking_accuracy(model, tokenizer, out, recipe.seed)
    tqdm.write(f"Scorer: true caption first among 64 for {accuracy:.1%} of held-out renders")

    def fill(part: Path) -> None:
        model.half().save_pretrained(part)
        declare_float32(part)
        tokenizer.save_pretrained(part)
        write_text(part / "preprocessor_config.json", json.dumps(PREPROCESSOR, indent=2))
        write_text(part / "accuracy.json", json.dumps({"first_of_64": accuracy}))

    publish(out / "scorer", fill)
