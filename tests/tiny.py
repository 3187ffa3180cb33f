"""Pipelines with small random weights, in the layouts of real ones, made on the spot.

    python -m tests.tiny sd15 FOLDER

Nothing is downloaded: even the tokenizer is built here, from letters.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal, get_args

Kind = Literal["sd15", "sd2v", "sdxl"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_TOKENS = 20
_TEXT_WIDTH = 32
_POOLED_WIDTH = 24
_TIME_ID_WIDTH = 8


def build_tiny(kind: Kind, folder: Path) -> Path:
    """Write a pipeline of `kind` into `folder` and return it: latents 4x8x8, pictures 64x64.

    sd15 predicts noise; sd2v is the SD 2 layout with v-prediction; sdxl has two text encoders.
    """
    import torch

    folder = Path(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(KINDS.index(kind))
        _vae(kind).save_pretrained(folder / "vae")
        _unet(kind).save_pretrained(folder / "unet")
        pad = {"text_encoder": "<|endoftext|>", "text_encoder_2": "!"}
        for name in ("text_encoder", "text_encoder_2")[: 2 if kind == "sdxl" else 1]:
            tokenizer = _tokenizer(pad[name])
            tokenizer.save_pretrained(folder / name.replace("text_encoder", "tokenizer"))
            _text_encoder(tokenizer, name == "text_encoder_2").save_pretrained(folder / name)
    _scheduler(kind).save_pretrained(folder / "scheduler")
    (folder / "model_index.json").write_text(json.dumps(_index(kind), indent=2))
    return folder


def _vae(kind: Kind) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.13025 if kind == "sdxl" else 0.18215,
    )


def _unet(kind: Kind) -> Any:
    from diffusers import UNet2DConditionModel

    options: dict[str, Any] = {"cross_attention_dim": _TEXT_WIDTH}
    if kind == "sd2v":
        options |= {"use_linear_projection": True, "attention_head_dim": (2, 4)}
    if kind == "sdxl":
        options |= {
            "cross_attention_dim": _TEXT_WIDTH + _POOLED_WIDTH,
            "use_linear_projection": True,
            "attention_head_dim": (2, 4),
            "transformer_layers_per_block": (1, 2),
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": _TIME_ID_WIDTH,
            "projection_class_embeddings_input_dim": 6 * _TIME_ID_WIDTH + _POOLED_WIDTH,
        }
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        **options,
    )


def _tokenizer(pad_token: str) -> Any:
    from transformers import CLIPTokenizer

    letters = [chr(code) for code in range(ord("!"), ord("~") + 1)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters)]
    return CLIPTokenizer(
        vocab={word: index for index, word in enumerate(words)},
        merges=[],
        pad_token=pad_token,
        model_max_length=_TOKENS,
    )


def _text_encoder(tokenizer: Any, projected: bool) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    # Single files tell the two encoders apart by width, and the second is as wide as its output.
    width = _POOLED_WIDTH if projected else _TEXT_WIDTH
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=_TOKENS,
        projection_dim=_POOLED_WIDTH,
        hidden_act="gelu" if projected else "quick_gelu",
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config)


def _scheduler(kind: Kind) -> Any:
    """The scheduler each real model ships; sampling reads its configuration only."""
    from diffusers import DDIMScheduler, EulerDiscreteScheduler, PNDMScheduler

    shared = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
    }
    if kind == "sd15":
        return PNDMScheduler(skip_prk_steps=True, set_alpha_to_one=False, **shared)
    if kind == "sdxl":
        return EulerDiscreteScheduler(timestep_spacing="leading", **shared)
    return DDIMScheduler(
        prediction_type="v_prediction", set_alpha_to_one=False, clip_sample=False, **shared
    )


def _index(kind: Kind) -> dict[str, Any]:
    schedulers = {
        "sd15": "PNDMScheduler",
        "sd2v": "DDIMScheduler",
        "sdxl": "EulerDiscreteScheduler",
    }
    index: dict[str, Any] = {
        "_class_name": "StableDiffusionPipeline",
        "scheduler": ["diffusers", schedulers[kind]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if kind == "sdxl":
        return index | {
            "_class_name": "StableDiffusionXLPipeline",
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
            "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "force_zeros_for_empty_prompt": True,
        }
    return index | {"safety_checker": [None, None], "feature_extractor": [None, None]}


if __name__ == "__main__":
    print(build_tiny(sys.argv[1], Path(sys.argv[2])))  # type: ignore[arg-type]
