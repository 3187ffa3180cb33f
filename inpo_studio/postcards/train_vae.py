"""The autoencoder: trained on crops, finished on whole pictures, its latents standardised."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from .checkpointing import (
    TrainState,
    batch_indices,
    publish,
    rng_for,
    torch_rng_for,
    write_text,
)
from .networks import device, make_vae
from .recipe import Recipe
from .render_set import load_render_set


def to_tensor(pictures: NDArray[np.uint8]) -> Tensor:
    """Turn uint8 pictures (n, h, w, 3) into floats in [-1, 1], (n, 3, h, w)."""
    return torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2) / 127.5 - 1


def crops(
    pictures: NDArray[np.uint8], recipe: Recipe, purpose: str, step: int, whole: bool
) -> Tensor:
    """The batch of one step: crops, or whole pictures with the same number of pixels.

    Half of them are mirrored. Returns (n, 3, size, size) in [-1, 1].
    """
    size, batch, full = recipe.vae_crop, recipe.vae_batch, pictures.shape[1]
    if whole:
        size, batch = full, max(1, batch * size**2 // full**2)
    rng = rng_for(recipe.seed, purpose, step)
    chosen = []
    for index in batch_indices(recipe.seed, purpose, step, batch, len(pictures)):
        top, left = rng.integers(0, full - size + 1, 2)
        crop = pictures[index, top : top + size, left : left + size]
        chosen.append(crop[:, ::-1] if rng.random() < 0.5 else crop)
    return to_tensor(np.stack(chosen))


def _gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def reconstruction_loss(decoded: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of pixels plus that of the image gradients, which keeps edges crisp."""
    loss = (decoded - target).abs().mean()
    for ours, theirs in zip(_gradient(decoded), _gradient(target), strict=True):
        loss = loss + 0.5 * (ours - theirs).abs().mean()
    return loss


def _train(vae: AutoencoderKL, recipe: Recipe, out: Path) -> None:
    pictures, _ = load_render_set(out, "train")
    place = next(vae.parameters()).device
    state = TrainState({"vae": vae}, recipe.vae_lr, decay=0.998, muon_lr=recipe.vae_muon_lr)
    folder = out / "vae.checkpoint"
    start = state.load(folder)
    steps = recipe.vae_steps
    for step in (bar := tqdm(range(start, steps), "vae", steps, initial=start, mininterval=5)):
        whole = step >= steps - recipe.vae_whole_steps
        x = crops(pictures, recipe, "vae", step, whole).to(place)
        rng = torch_rng_for(recipe.seed, "vae", step)
        with torch.autocast(place.type, torch.bfloat16):
            posterior = vae.encode(x).latent_dist
            noise = torch.randn(posterior.mean.shape, generator=rng).to(place)
            decoded = vae.decode(posterior.mean + posterior.std * noise).sample.float()
        mean, var = posterior.mean.float(), posterior.var.float()
        kl = 0.5 * (mean.square() + var - 1 - posterior.logvar.float())
        loss = reconstruction_loss(decoded, x) + recipe.vae_kl * kl.mean()
        loss.backward()
        state.update(step, steps, warm_up=50)
        if step % 20 == 0:
            error = float((decoded.detach() - x).abs().mean()) * 127.5
            bar.set_postfix(error=f"{error:.2f}/255", kl=f"{float(kl.detach().mean()):.2f}")
        if (step + 1) % recipe.checkpoint_every == 0:
            state.save(folder, step + 1)
    state.use_averages()


@torch.no_grad()
def encode(vae: AutoencoderKL, pictures: NDArray[np.uint8], batch: int = 16) -> Tensor:
    """Encode uint8 pictures into the means of their latents, (n, channels, h/8, w/8), fp32."""
    place = next(vae.parameters()).device
    means = []
    for start in tqdm(range(0, len(pictures), batch), "encode", mininterval=5, leave=False):
        x = to_tensor(pictures[start : start + batch]).to(place)
        with torch.autocast(place.type, torch.bfloat16):
            means.append(vae.encode(x).latent_dist.mean.float().cpu())
    return torch.cat(means)


@torch.no_grad()
def standardise(vae: AutoencoderKL, latents: Tensor) -> None:
    """Fold "minus the mean, over the deviation" of each channel into the 1x1 convolutions.

    After it the latents of `latents`' pictures, (n, channels, h, w), have mean 0 and deviation 1
    in every channel with a scaling factor of 1, and the decoded pictures are what they were.
    """
    place = next(vae.parameters()).device
    mean = latents.mean((0, 2, 3)).to(place)
    std = latents.std((0, 2, 3)).to(place)
    channels = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:channels] /= std[:, None, None, None]
    quant.bias[:channels] = (quant.bias[:channels] - mean) / std
    quant.bias[channels:] -= 2 * std.log()
    post.bias += post.weight[:, :, 0, 0] @ mean
    post.weight *= std[None, :, None, None]


@torch.no_grad()
def reconstruction_error(vae: AutoencoderKL, pictures: NDArray[np.uint8]) -> float:
    """Mean absolute error of decoded means against uint8 pictures, in 255ths, without autocast."""
    place = next(vae.parameters()).device
    total = 0.0
    for start in range(0, len(pictures), 16):
        x = to_tensor(pictures[start : start + 16]).to(place)
        decoded = vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1)
        total += float((decoded - x).abs().mean((1, 2, 3)).sum()) * 127.5
    return total / len(pictures)


def build_vae(recipe: Recipe, out: Path) -> None:
    """Train the autoencoder and publish it at `out`/vae, unless it is there.

    `error.json` beside the weights holds its reconstruction error on the validation set.
    """
    if (out / "vae").exists():
        return
    torch.manual_seed(recipe.seed)
    vae = make_vae(recipe).to(device())
    _train(vae, recipe, out)
    vae.eval()
    pictures, _ = load_render_set(out, "train")
    standardise(vae, encode(vae, pictures[:2000]))
    validation, _ = load_render_set(out, "validation")
    error = reconstruction_error(vae, validation)
    tqdm.write(f"VAE: mean absolute error {error:.2f}/255 on {len(validation)} held-out renders")

    def fill(part: Path) -> None:
        vae.save_pretrained(part)
        write_text(part / "error.json", json.dumps({"mean_absolute_error_255": error}))

    publish(out / "vae", fill)


def build_latents(recipe: Recipe, out: Path) -> None:
    """Encode the training set into `out`/latents.npy: float16 (scenes, channels, 16, 16)."""
    path = out / "latents.npy"
    if path.exists():
        return
    vae = AutoencoderKL.from_pretrained(out / "vae").to(device(), memory_format=torch.channels_last)
    pictures, _ = load_render_set(out, "train")
    latents = encode(vae, pictures).half().numpy()
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        np.save(file, latents)
    part.replace(path)
