"""The decoder's finish: it learns to paint cleanly from latents that are a little wrong.

The denoiser's latents are never exact. A decoder that only ever saw exact ones turns small
errors into mottled skies; here it sees noise on half of its latents. The encoder stays as it
is, so cached latents stay valid.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn
from tqdm import tqdm

from .checkpointing import TrainState, publish, rng_for, torch_rng_for, write_text
from .networks import device
from .recipe import Recipe
from .render_set import load_render_set
from .train_vae import crops, reconstruction_error, reconstruction_loss


def _train(vae: AutoencoderKL, recipe: Recipe, out: Path) -> None:
    pictures, _ = load_render_set(out, "train")
    place = next(vae.parameters()).device
    networks: dict[str, nn.Module] = {"post": vae.post_quant_conv, "decoder": vae.decoder}
    state = TrainState(networks, recipe.decoder_lr, 0.995, muon_lr=recipe.decoder_muon_lr)
    folder = out / "decoder.checkpoint"
    steps, start = recipe.decoder_steps, state.load(folder)
    for step in (bar := tqdm(range(start, steps), "decoder", steps, initial=start, mininterval=5)):
        rng = rng_for(recipe.seed, "decoder.noise", step)
        x = crops(pictures, recipe, "decoder", step, whole=False).to(place)
        sigma = torch.from_numpy(rng.random(len(x)) * (rng.random(len(x)) < 0.5)).float()
        sigma = (sigma * recipe.decoder_noise)[:, None, None, None].to(place)
        with torch.autocast(place.type, torch.bfloat16):
            with torch.no_grad():
                mean = vae.encode(x).latent_dist.mean
            noise = torch.randn(mean.shape, generator=torch_rng_for(recipe.seed, "decoder", step))
            decoded = vae.decode(mean + sigma * noise.to(place)).sample.float()
        reconstruction_loss(decoded, x).backward()
        state.update(step, steps, warm_up=20)
        if step % 20 == 0:
            error = float((decoded.detach() - x).abs().mean()) * 127.5
            bar.set_postfix(error=f"{error:.2f}/255")
        if (step + 1) % recipe.checkpoint_every == 0:
            state.save(folder, step + 1)
    state.use_averages()


def build_decoder(recipe: Recipe, out: Path) -> None:
    """Train the decoder on and publish the whole autoencoder at `out`/decoder, unless there.

    `error.json` beside the weights holds its reconstruction error on the validation set.
    """
    if (out / "decoder").exists():
        return
    vae = AutoencoderKL.from_pretrained(out / "vae").to(device())
    _train(vae, recipe, out)
    vae.eval()
    validation, _ = load_render_set(out, "validation")
    error = reconstruction_error(vae, validation)
    tqdm.write(f"Decoder: mean absolute error {error:.2f}/255 on held-out renders")

    def fill(part: Path) -> None:
        vae.save_pretrained(part)
        write_text(part / "error.json", json.dumps({"mean_absolute_error_255": error}))

    publish(out / "decoder", fill)
