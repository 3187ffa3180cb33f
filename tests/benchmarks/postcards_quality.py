"""How good the embedded model is, on prompts and seeds its training never saw.

Run: ``python -m tests.benchmarks.postcards_quality [--count 240] [--sheet FILE]``
Prints one JSON object; about ten minutes on two cores, most of it the classifier's training.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from inpo_studio.configs import GenerationConfig
from inpo_studio.diffusion.latents import decode_latents, encode_images
from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from inpo_studio.diffusion.sampling import sample
from inpo_studio.postcards import scorer_path
from inpo_studio.postcards.scenes import Scene, caption, held_out, random_scene, render
from tests.benchmarks.postcards_classifier import (
    ATTRIBUTES,
    Classifier,
    labels_of,
    render_all,
    train_classifier,
)
from tests.benchmarks.postcards_pixels import CHECKS

GENERATION = GenerationConfig(guidance=3.0, steps=20, batch_size=8)


def held_out_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes whose combination of attributes was kept out of the training set."""
    rng = np.random.default_rng([seed, 99])
    found: list[Scene] = []
    while len(found) < count:
        scene = random_scene(rng)
        if held_out(scene):
            found.append(scene)
    return found


def generate(
    pipeline: Pipeline, prompts: Sequence[str], seeds: Sequence[int], label: str
) -> list[Image.Image]:
    """Pictures of ``prompts`` at ``seeds``, in order."""
    pictures: list[Image.Image] = []
    size = GENERATION.batch_size
    for start in tqdm(range(0, len(prompts), size), desc=label):
        rows = slice(start, start + size)
        pictures += [s.image for s in sample(pipeline, prompts[rows], seeds[rows], GENERATION)]
    return pictures


def attribute_accuracy(
    classifier: Classifier, pictures: Sequence[Image.Image], scenes: Sequence[Scene]
) -> dict[str, float]:
    """Share of pictures whose attribute the classifier reads as the scene says."""
    stacked = torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2)
    read, truth = classifier.read(stacked), labels_of(scenes)
    return {name: float((read[name] == truth[name]).float().mean()) for name in ATTRIBUTES}


def pixel_checks(pipeline: Pipeline, count: int) -> dict[str, float]:
    """Share of pairs at one seed for which each plain statistic orders the pictures right."""
    scenes = held_out_scenes(count, seed=2)
    result = {}
    for check in CHECKS:
        pairs = [check.scenes(scene) for scene in scenes]
        prompts = [caption(scene) for pair in pairs for scene in pair]
        seeds = [10_000 + i // 2 for i in range(len(prompts))]
        pictures = [_floats(p) for p in generate(pipeline, prompts, seeds, check.name[:40])]
        right = [check.holds(a, b) for a, b in zip(pictures[::2], pictures[1::2], strict=True)]
        result[check.name] = float(np.mean(right))
    return result


def reconstruction_error(pipeline: Pipeline, count: int) -> float:
    """Mean absolute error of encode and decode on held-out renders, in 1/255."""
    renders = [render(scene) for scene in held_out_scenes(count, seed=3)]
    back = [
        picture
        for start in range(0, count, 8)
        for picture in decode_latents(pipeline, encode_images(pipeline, renders[start : start + 8]))
    ]
    return 255 * float(
        np.mean(
            [np.abs(_floats(a) - _floats(b)).mean() for a, b in zip(renders, back, strict=True)]
        )
    )


def seed_difference(pipeline: Pipeline, count: int) -> dict[str, float]:
    """Mean absolute pixel difference between two seeds of one prompt, in 1/255."""
    prompts = [caption(scene) for scene in held_out_scenes(count, seed=4) for _ in range(2)]
    pictures = generate(pipeline, prompts, list(range(len(prompts))), "two seeds")
    apart = [
        255 * float(np.abs(_floats(a) - _floats(b)).mean())
        for a, b in zip(pictures[::2], pictures[1::2], strict=True)
    ]
    return {"mean": float(np.mean(apart)), "smallest": float(np.min(apart))}


def scorer_accuracy(count: int) -> float:
    """Share of held-out renders whose true caption ranks first among 64."""
    from transformers import CLIPModel, CLIPProcessor

    model = CLIPModel.from_pretrained(scorer_path()).eval()
    processor = CLIPProcessor.from_pretrained(scorer_path())
    rng = np.random.default_rng(5)
    right = []
    for scene in tqdm(held_out_scenes(count, seed=5), desc="scorer"):
        captions = [caption(scene), *other_captions(scene, 63, rng)]
        inputs = processor(text=captions, images=render(scene), return_tensors="pt", padding=True)
        with torch.no_grad():
            right.append(int(model(**inputs).logits_per_image.argmax()) == 0)
    return float(np.mean(right))


def other_captions(scene: Scene, count: int, rng: np.random.Generator) -> list[str]:
    """Captions of scenes that differ in one attribute or more; one attribute half of the time."""
    others: set[str] = set()
    while len(others) < count:
        words = {name: getattr(scene, name) for name in ATTRIBUTES}
        changed = rng.choice(list(ATTRIBUTES), size=int(rng.choice([1, 1, 2, 3])), replace=False)
        for name in changed:
            words[name] = str(rng.choice([w for w in ATTRIBUTES[name] if w != words[name]]))
        others.add(caption(Scene(**words, seed=scene.seed)))
    return sorted(others)


def speed(pipeline: Pipeline) -> dict[str, float]:
    """Seconds a pair (two pictures, 20 steps), median of five after a warm-up."""
    timed = []
    for attempt in range(6):
        started = time.perf_counter()
        sample(
            pipeline,
            ["a red house in a meadow at noon"] * 2,
            [2 * attempt, 2 * attempt + 1],
            GENERATION,
        )
        timed.append(time.perf_counter() - started)
    return {"pair_s": float(np.median(timed[1:]))}


def contact_sheet(pipeline: Pipeline, path: Path, columns: int = 8, rows: int = 6) -> None:
    """A sheet of generated postcards of held-out prompts."""
    scenes = held_out_scenes(columns * rows, seed=6)
    pictures = generate(pipeline, [caption(s) for s in scenes], list(range(len(scenes))), "sheet")
    width, height = pictures[0].size
    gap = 6
    sheet = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(picture, (gap + column * (width + gap), gap + row * (height + gap)))
    sheet.save(path)


def _floats(picture: Image.Image) -> NDArray[np.float64]:
    return np.asarray(picture, dtype=np.float64) / 255


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=240, help="generated pictures to classify")
    parser.add_argument("--pairs", type=int, default=24, help="pairs for each pixel check")
    parser.add_argument("--renders", type=int, default=16000, help="renders for the classifier")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--classifier", type=Path, help="keep the trained classifier here")
    parser.add_argument("--pipeline", default="postcards")
    parser.add_argument("--sheet", type=Path, help="also write a sheet of 48 pictures here")
    parser.add_argument("--no-scorer", action="store_true")
    arguments = parser.parse_args()
    classifier = Classifier()
    if arguments.classifier and arguments.classifier.exists():
        classifier.load_state_dict(torch.load(arguments.classifier, weights_only=True))
    else:
        classifier = train_classifier(arguments.renders, arguments.epochs)
        if arguments.classifier:
            torch.save(classifier.state_dict(), arguments.classifier)
    checked = held_out_scenes(1000, seed=1)
    tensor = render_all(checked)
    read, truth = classifier.read(tensor), labels_of(checked)
    report: dict[str, Any] = {
        "classifier_on_renders": {
            name: float((read[name] == truth[name]).float().mean()) for name in ATTRIBUTES
        }
    }
    started = time.perf_counter()
    pipeline = load_pipeline(arguments.pipeline)
    report["load_s"] = time.perf_counter() - started
    scenes = held_out_scenes(arguments.count, seed=0)
    rng = np.random.default_rng(0)
    pictures = generate(
        pipeline, [caption(s, rng) for s in scenes], list(range(len(scenes))), "held-out prompts"
    )
    report["attributes"] = attribute_accuracy(classifier, pictures, scenes)
    report["pixel_checks"] = pixel_checks(pipeline, arguments.pairs)
    report["reconstruction_error_255"] = reconstruction_error(pipeline, 64)
    report["two_seeds_255"] = seed_difference(pipeline, 24)
    report["speed"] = speed(pipeline)
    if not arguments.no_scorer:
        report["scorer_true_caption_first"] = scorer_accuracy(300)
    if arguments.sheet:
        contact_sheet(pipeline, arguments.sheet)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
