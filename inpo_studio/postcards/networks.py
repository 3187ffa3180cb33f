"""The networks of the family, untrained: standard diffusers and transformers classes."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from .recipe import IMAGE_SIZE, MAX_TOKENS, Recipe


def device() -> torch.device:
    """The machine's GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def make_vae(recipe: Recipe) -> AutoencoderKL:
    """Make the autoencoder: 8 pixels to a latent, no attention.

    Attention and its 256 positions would differ between training crops and whole pictures.
    """
    levels = len(recipe.vae_widths)
    vae = AutoencoderKL(
        block_out_channels=recipe.vae_widths,
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        layers_per_block=1,
        latent_channels=recipe.vae_channels,
        norm_num_groups=8,
        sample_size=IMAGE_SIZE,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )
    # Log-variances begin at -5: with unit noise on every latent the first steps learn nothing.
    torch.nn.init.constant_(vae.quant_conv.bias[recipe.vae_channels :], -5.0)
    return vae


def make_unet(recipe: Recipe) -> UNet2DConditionModel:
    """Make the denoiser: convolutions at 16x16, with attention to the words at 8x8 and 4x4."""
    heads = tuple(width // 32 for width in recipe.unet_widths)
    return UNet2DConditionModel(
        sample_size=IMAGE_SIZE // 8,
        in_channels=recipe.vae_channels,
        out_channels=recipe.vae_channels,
        block_out_channels=recipe.unet_widths,
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=recipe.text_width,
        # diffusers reads this as the number of heads (its own known misnomer): 32 wide each.
        attention_head_dim=heads,
    )


def _text_settings(tokenizer: CLIPTokenizer, width: int, layers: int) -> dict[str, object]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 32,
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def make_text_encoder(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Make the text encoder, with the tokenizer's own special tokens in its configuration."""
    settings = _text_settings(tokenizer, recipe.text_width, recipe.text_layers)
    return CLIPTextModel(CLIPTextConfig(projection_dim=recipe.text_width, **settings))


def make_scheduler() -> DDIMScheduler:
    """Make the noise schedule: Stable Diffusion's, so that inversion grids carry over."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
    )


def make_scorer(recipe: Recipe, tokenizer: CLIPTokenizer) -> CLIPModel:
    """Make the scorer: a vision transformer of 64 patches and a text tower of two layers."""
    width = recipe.scorer_width
    vision = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_hidden_layers": recipe.scorer_layers,
        "num_attention_heads": width // 32,
        "image_size": IMAGE_SIZE,
        "patch_size": 16,
    }
    text = _text_settings(tokenizer, 64, 2)
    text["projection_dim"] = vision["projection_dim"] = 64
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))
