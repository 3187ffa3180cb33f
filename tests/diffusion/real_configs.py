"""The configurations of the published models, as far as sizes depend on them."""

from __future__ import annotations

from typing import Any

from inpo_studio.diffusion.families import ModelConfigs

_FOUR = {
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
}
SD15: dict[str, Any] = {
    **_FOUR,
    "sample_size": 64,
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
SD2: dict[str, Any] = {
    **_FOUR,
    "sample_size": 96,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
SDXL: dict[str, Any] = {
    "block_out_channels": [320, 640, 1280],
    "layers_per_block": 2,
    "down_block_types": ["DownBlock2D", *["CrossAttnDownBlock2D"] * 2],
    "up_block_types": [*["CrossAttnUpBlock2D"] * 2, "UpBlock2D"],
    "sample_size": 128,
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "transformer_layers_per_block": [1, 2, 10],
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
UNETS = {"sd15": SD15, "sd2": SD2, "sdxl": SDXL}
VAE: dict[str, Any] = {"block_out_channels": [128, 256, 512, 512], "layers_per_block": 2}
CLIP_L: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "num_hidden_layers": 12,
}
CLIP_BIG_G: dict[str, Any] = {
    **CLIP_L,
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "projection_dim": 1280,
    "architectures": ["CLIPTextModelWithProjection"],
}


def configs(name: str) -> ModelConfigs:
    """All that sizes depend on, of a published model."""
    return ModelConfigs({}, UNETS[name], VAE, {})
