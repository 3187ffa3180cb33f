"""The training pictures: rendered once, by two processes, into one memory-mapped file."""

from __future__ import annotations

import dataclasses
import json
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from .checkpointing import rng_for, write_text
from .recipe import IMAGE_SIZE, Recipe
from .scenes import Scene, held_out, random_scene, render

_CHUNK = 500
_PROCESSES = 2


def draw_scenes(seed: int, purpose: str, count: int, seen_only: bool) -> list[Scene]:
    """Draw `count` scenes; with `seen_only`, none of the combinations kept from training."""
    scenes = []
    for index in range(count):
        rng = rng_for(seed, purpose, index)
        scene = random_scene(rng)
        while seen_only and held_out(scene):
            scene = random_scene(rng)
        scenes.append(scene)
    return scenes


def _render_chunk(scenes: list[Scene], path: Path) -> None:
    pictures = np.stack([np.asarray(render(scene, IMAGE_SIZE)) for scene in scenes])
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.save(file, pictures)
    part.replace(path)


def _render_all(scenes: list[Scene], folder: Path, name: str) -> None:
    target = folder / f"{name}.npy"
    if target.exists():
        return
    chunks = folder / f"{name}.chunks"
    chunks.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(scenes), _CHUNK)
    paths = [chunks / f"{start:06d}.npy" for start in starts]
    todo = [(s, p) for s, p in zip(starts, paths, strict=True) if not p.exists()]
    # Spawned, not forked: a fork of a process with torch threads may hang.
    with ProcessPoolExecutor(_PROCESSES, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_render_chunk, scenes[s : s + _CHUNK], path) for s, path in todo]
        for job in tqdm(jobs, desc=f"render {name}", mininterval=5):
            job.result()
    part = folder / f"{name}.npy.part"
    shape = (len(scenes), IMAGE_SIZE, IMAGE_SIZE, 3)
    pictures = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
    for start, path in zip(starts, paths, strict=True):
        pictures[start : start + _CHUNK] = np.load(path)
    pictures.flush()
    part.replace(target)
    for path in paths:
        path.unlink()
    chunks.rmdir()


def build_render_set(recipe: Recipe, out: Path) -> None:
    """Render the training and the validation set into `out`/renders, going on where it stopped.

    `train.npy` and `validation.npy` are uint8 (scenes, 128, 128, 3); the `.jsonl` beside each
    holds the scene of every row. The validation set has scenes of all combinations.
    """
    folder = out / "renders"
    folder.mkdir(parents=True, exist_ok=True)
    draw = partial(draw_scenes, recipe.seed)
    for name, scenes in (
        ("validation", draw("validation", recipe.validation_scenes, seen_only=False)),
        ("train", draw("train", recipe.scenes, seen_only=True)),
    ):
        lines = (json.dumps(dataclasses.asdict(scene)) for scene in scenes)
        write_text(folder / f"{name}.jsonl", "\n".join(lines) + "\n")
        _render_all(scenes, folder, name)


def load_render_set(out: Path, name: str) -> tuple[NDArray[np.uint8], list[Scene]]:
    """Open the set `name` ("train" or "validation"): pictures (scenes, 128, 128, 3), scenes."""
    folder = out / "renders"
    pictures = np.load(folder / f"{name}.npy", mmap_mode="r")
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    return pictures, [Scene(**json.loads(line)) for line in lines]
