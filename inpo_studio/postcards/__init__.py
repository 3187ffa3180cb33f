"""Postcards: a small text-to-image family that the package carries with it.

This module imports neither torch nor diffusers, so that the web process may ask where the
weights lie. The recipe that makes them is `python -m inpo_studio.postcards`.
"""

from __future__ import annotations

from pathlib import Path

_WEIGHTS = Path(__file__).resolve().parent / "weights"

__all__ = ["pipeline_path", "scorer_path", "starter_prompts"]


def _existing(name: str) -> Path:
    path = _WEIGHTS / name
    if not path.is_dir():
        raise FileNotFoundError(
            f"The postcards weights are missing at {path}: reinstall the package, or rebuild them "
            "with `python -m inpo_studio.postcards --out DIR`."
        )
    return path


def pipeline_path() -> Path:
    """Folder of the shipped pipeline, for `StableDiffusionPipeline.from_pretrained`.

    Raises FileNotFoundError when the weights are not installed.
    """
    return _existing("pipeline")


def scorer_path() -> Path:
    """Folder of the shipped scorer, for `CLIPModel.from_pretrained` and `CLIPProcessor`.

    Raises FileNotFoundError when the weights are not installed.
    """
    return _existing("scorer")


def starter_prompts(n: int, seed: int = 0) -> list[str]:
    """Give `n` different prompts that the model knows how to paint, the same for equal `seed`.

    The words come from the grammar of the training captions. Combinations that the training
    never saw are left out, so these prompts show the model at home.
    Raises ValueError when `n` is negative or above 5,000.
    """
    if not 0 <= n <= 5_000:
        raise ValueError(f"{n} starter prompts were asked for: ask for 0 to 5000.")
    import numpy as np

    from .scenes import caption, held_out, random_scene

    rng = np.random.default_rng([seed, 0x9051CA2D])
    prompts: dict[str, None] = {}
    while len(prompts) < n:
        scene = random_scene(rng)
        if not held_out(scene):
            prompts.setdefault(caption(scene))
    return list(prompts)
