"""The denoiser and the text encoder, trained together on cached latents."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate
from tqdm import tqdm
from transformers import CLIPTextModel, CLIPTokenizer

from .checkpointing import (
    TrainState,
    batch_indices,
    declare_float32,
    publish,
    rng_for,
    torch_rng_for,
)
from .networks import device, make_scheduler, make_text_encoder, make_unet
from .recipe import Recipe
from .render_set import load_render_set
from .scenes import Scene, caption
from .sheets import write_sheet


def min_snr_weight(alpha_bar: Tensor, ceiling: float = 5.0) -> Tensor:
    """Weight of an error in noise at each level: min(SNR, 5)/SNR (Hang et al. 2023, eq. 7).

    Keeps shape; SNR = alpha_bar / (1 - alpha_bar).
    """
    snr = alpha_bar / (1 - alpha_bar)
    return snr.clamp(max=ceiling) / snr


def _captions(
    scenes: list[Scene], recipe: Recipe, step: int, picked: NDArray[np.int64]
) -> list[str]:
    """A fresh paraphrase for every visit, and now and then the empty prompt (for guidance)."""
    rng = rng_for(recipe.seed, "captions", step)
    texts = [caption(scenes[index], rng) for index in picked]
    empty = rng.random(len(texts)) < recipe.unet_empty
    return ["" if blank else text for text, blank in zip(texts, empty, strict=True)]


def _loss(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    x_0: Tensor,
    token_ids: Tensor,
    alpha_bars: Tensor,
    rng: torch.Generator,
    offset: float,
) -> Tensor:
    """Weighted error of the predicted noise: latents (b, c, h, w), token_ids (b, tokens).

    With `offset` above 0 half the timesteps are 600 or more, and there the noise also shifts
    whole channels, and their 4x4 blocks, by up to that many deviations.
    """
    place = x_0.device
    timesteps = torch.randint(0, len(alpha_bars), (len(x_0),), generator=rng)
    noise = torch.randn(x_0.shape, generator=rng)
    if offset > 0:
        timesteps[::2] = torch.randint(600, len(alpha_bars), timesteps[::2].shape, generator=rng)
        strength = offset * ((timesteps - 500) / 400).clamp(0, 1)[:, None, None, None]
        noise = noise + strength * torch.randn(*x_0.shape[:2], 1, 1, generator=rng)
        blocks = torch.randn(*x_0.shape[:2], 4, 4, generator=rng)
        noise = noise + 0.6 * strength * interpolate(blocks, size=x_0.shape[2:])
    noise = noise.to(place)
    alpha_bar = alpha_bars[timesteps].to(place)
    level = alpha_bar[:, None, None, None]
    x_t = level.sqrt() * x_0 + (1 - level).sqrt() * noise
    with torch.autocast(place.type, torch.bfloat16):
        conditioning = text_encoder(token_ids.to(place)).last_hidden_state
        predicted = unet(x_t, timesteps.to(place), conditioning, return_dict=False)[0]
    errors = (predicted.float() - noise).square().mean((1, 2, 3))
    loss: Tensor = (errors * min_snr_weight(alpha_bar)).mean()
    return loss


def make_pipeline(
    out: Path, unet: UNet2DConditionModel, text_encoder: CLIPTextModel, tokenizer: CLIPTokenizer
) -> StableDiffusionPipeline:
    """Put the parts together as plain diffusers wants them, without a safety checker."""
    finished = out / "decoder"
    return StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(finished if finished.exists() else out / "vae"),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def publish_averages(
    out: Path,
    target: Path,
    state: TrainState,
    tokenizer: CLIPTokenizer,
    sheet_name: str,
    rows: int = 6,
) -> None:
    """Publish the averaged networks as a loadable float16 pipeline at `target`, with a sheet."""
    state.use_averages()
    unet, text_encoder = (copy.deepcopy(state.networks[name]) for name in ("unet", "text_encoder"))
    state.use_averages()
    pipeline = make_pipeline(out, unet, text_encoder, tokenizer).to(torch.float16)

    def fill(part: Path) -> None:
        pipeline.save_pretrained(part, safe_serialization=True)
        declare_float32(part / "text_encoder")

    publish(target, fill)
    pipeline.to(torch.float32)
    write_sheet(pipeline, out / "sheets" / sheet_name, rows=rows)


class Lesson:
    """What both stages of the denoiser's training share: networks, pictures and one loss."""

    def __init__(self, recipe: Recipe, out: Path) -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.place = recipe, device()
        self.tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
        unet = make_unet(recipe).to(self.place)
        text_encoder = make_text_encoder(recipe, self.tokenizer).to(self.place)
        self.networks: dict[str, nn.Module] = {"unet": unet, "text_encoder": text_encoder}
        _, self.scenes = load_render_set(out, "train")
        self.latents = np.load(out / "latents.npy")
        self.alpha_bars = make_scheduler().alphas_cumprod

    def loss(self, purpose: str, step: int, offset: float = 0.0) -> Tensor:
        """The loss of the batch that belongs to `purpose` and `step`."""
        recipe = self.recipe
        picked = batch_indices(recipe.seed, purpose, step, recipe.unet_batch, len(self.scenes))
        texts = _captions(self.scenes, recipe, step, picked)
        tokens = self.tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt")
        x_0 = torch.from_numpy(self.latents[picked]).float().to(self.place)
        rng = torch_rng_for(recipe.seed, purpose, step)
        unet, text_encoder = self.networks["unet"], self.networks["text_encoder"]
        return _loss(unet, text_encoder, x_0, tokens.input_ids, self.alpha_bars, rng, offset)


def start_state(lesson: Lesson) -> TrainState:
    """Networks and optimisers of the main stage, before its first step."""
    recipe = lesson.recipe
    return TrainState(lesson.networks, recipe.unet_lr, decay=0.999, muon_lr=recipe.unet_muon_lr)


def build_unet(recipe: Recipe, out: Path) -> None:
    """Train denoiser and text encoder and publish the pipeline at `out`/pipeline.

    On the way loadable pipelines come out at `out`/preview and sheets in `out`/sheets.
    """
    if (out / "pipeline").exists():
        return
    lesson = Lesson(recipe, out)
    state = start_state(lesson)
    folder = out / "unet.checkpoint"
    steps, start = recipe.unet_steps, state.load(folder)
    smooth = 0.0
    for step in (bar := tqdm(range(start, steps), "unet", steps, initial=start, mininterval=5)):
        loss = lesson.loss("unet", step)
        loss.backward()
        state.update(step, steps, warm_up=100)
        if step % 20 == 0:
            now = float(loss.detach())
            smooth = now if smooth == 0 else 0.95 * smooth + 0.05 * now
            bar.set_postfix(loss=f"{smooth:.4f}")
        done = step + 1
        if done % recipe.checkpoint_every == 0 or done == steps:
            state.save(folder, done)
        if done % recipe.unet_preview_every == 0 and done < steps:
            name = f"step-{done:06d}.png"
            publish_averages(out, out / "preview", state, lesson.tokenizer, name, rows=2)
    publish_averages(out, out / "pipeline", state, lesson.tokenizer, "unet.png")
