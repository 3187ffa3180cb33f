"""The denoiser's finish: it learns not to read a picture's brightness out of pure noise.

The schedule never ends in pure noise (alpha_bar is 0.0047 there), so a denoiser finds the mean
of every channel in what it takes for noise; when sampling starts, that mean is chance, and
nights come out grey. A few hundred steps in which the noise at high timesteps also shifts whole
channels (Guttenberg 2023, "Diffusion with Offset Noise") make it ask the caption instead.
"""

from __future__ import annotations

from pathlib import Path

from tqdm import tqdm

from .checkpointing import TrainState
from .recipe import Recipe
from .train_unet import Lesson, publish_averages, start_state


def build_finish(recipe: Recipe, out: Path) -> None:
    """Go on from the main stage's averages and publish the pipeline at `out`/finished."""
    if (out / "finished").exists():
        return
    lesson = Lesson(recipe, out)
    before = start_state(lesson)
    before.load(out / "unet.checkpoint")
    before.use_averages()
    state = TrainState(lesson.networks, recipe.finish_lr, 0.99, muon_lr=recipe.finish_muon_lr)
    folder = out / "finish.checkpoint"
    steps, start = recipe.finish_steps, state.load(folder)
    for step in (bar := tqdm(range(start, steps), "finish", steps, initial=start, mininterval=5)):
        loss = lesson.loss("finish", step, recipe.finish_offset)
        loss.backward()
        state.update(step, steps, warm_up=20)
        if step % 20 == 0:
            bar.set_postfix(loss=f"{float(loss.detach()):.4f}")
        if (step + 1) % recipe.checkpoint_every == 0:
            state.save(folder, step + 1)
    publish_averages(out, out / "finished", state, lesson.tokenizer, "finished.png")
