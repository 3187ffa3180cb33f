"""The last stage: copy the finished parts into the package, and check that they serve."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from tqdm import tqdm

from .checkpointing import publish
from .recipe import Recipe
from .sheets import write_sheet

WEIGHTS = Path(__file__).resolve().parent / "weights"
MOST_TOTAL = 30_000_000
MOST_BESIDES_UNET = 7_000_000
MOST_UNET_PARAMETERS = 11_000_000


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def check_sizes(weights: Path) -> dict[str, int]:
    """Sum the bytes of the weights under `weights`: UNet, everything else, and in total.

    Raises ValueError when a limit of the package is exceeded.
    """
    unet = _bytes(weights / "pipeline" / "unet")
    total = sum(path.stat().st_size for path in weights.rglob("*") if path.is_file())
    sizes = {"unet": unet, "besides_unet": _bytes(weights) - unet, "total": total}
    for name, most in (
        ("unet", 2 * MOST_UNET_PARAMETERS + 100_000),
        ("besides_unet", MOST_BESIDES_UNET),
        ("total", MOST_TOTAL),
    ):
        if sizes[name] > most:
            raise ValueError(
                f"{name} takes {sizes[name]:,} bytes and may take {most:,}: "
                "narrow the networks in recipe.py."
            )
    return sizes


def forget_places(weights: Path) -> None:
    """Take out of the configurations under `weights` the folder that each was built in."""
    for path in weights.rglob("*.json"):
        facts = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(facts, dict) and facts.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


def _check_pictures(path: Path, sheet: Path) -> None:
    """Load the pipeline as anyone would and look at its pictures with a number or two."""
    pipeline = StableDiffusionPipeline.from_pretrained(path)
    picture = pipeline(
        "a red house by the sea at noon, clear sky",
        num_inference_steps=4,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images
    if not np.isfinite(picture).all() or picture.std() < 0.01:
        raise ValueError(f"The pipeline at {path} paints nothing: train it again.")
    write_sheet(pipeline, sheet)


def build_package(recipe: Recipe, out: Path, weights: Path = WEIGHTS) -> None:
    """Publish `out`/finished and `out`/scorer at `weights`, and the README's sheet beside it.

    Raises ValueError when they are too large or paint nothing; `weights` is then left alone.
    """

    def fill(part: Path) -> None:
        shutil.copytree(out / "finished", part / "pipeline")
        shutil.copytree(out / "scorer", part / "scorer")
        forget_places(part)
        sizes = check_sizes(part)
        tqdm.write("Package: " + ", ".join(f"{k} {v / 1e6:.2f} MB" for k, v in sizes.items()))
        _check_pictures(part / "pipeline", out / "sheets" / "package.png")

    publish(weights, fill)
    shutil.copyfile(out / "sheets" / "package.png", weights.parent / "sheet.png")
