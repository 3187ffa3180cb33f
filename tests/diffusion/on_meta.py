"""A UNet without numbers: what training would keep, counted by running it on the meta device.

Mixed precision is spelled out here as CUDA's autocast does it: normalisations in float32, linear
layers, convolutions and attention in half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _FusedAttention(torch.autograd.Function):
    """Keeps what a fused kernel keeps: q, k, v, the output and a number a row."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        rows = torch.empty(query.shape[:-1], dtype=torch.float32, device=query.device)
        ctx.save_for_backward(query, key, value, out, rows)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        query, key, value, _, _ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


def build_unet(config: dict[str, Any], half: bool, rank: int = 8) -> nn.Module:
    """A frozen UNet with a trainable float32 adapter, on the meta device."""
    from diffusers import UNet2DConditionModel
    from peft import LoraConfig, inject_adapter_in_model

    from inpo_studio.diffusion.adapters import TARGET_MODULES

    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
        unet.to(torch.bfloat16 if half else torch.float32)
        unet.requires_grad_(False).eval()
        adapted = list(TARGET_MODULES["attention_and_convolutions"])
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=adapted), unet)
    for name, parameter in unet.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
            parameter.requires_grad_(True)
    return unet


def kept_bytes(unet: nn.Module, config: dict[str, Any], half: bool) -> int:
    """Bytes that a forward pass of one picture keeps for the backward pass, without weights."""
    own = {parameter.untyped_storage()._cdata for parameter in unet.parameters()}
    kept: dict[int, Any] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    with _autocast(half), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # Held to the end: storages that are freed on the way would be counted as one.
        result = unet(*_inputs(config, half), return_dict=False)
    assert result
    return sum(storage.nbytes() for storage in kept.values())


def _inputs(config: dict[str, Any], half: bool) -> tuple[Any, ...]:
    side, dtype = config["sample_size"], torch.bfloat16 if half else torch.float32
    added = None
    if config.get("addition_embed_type"):
        width = config["projection_class_embeddings_input_dim"]
        pooled = width - 6 * config["addition_time_embed_dim"]
        added = {
            "text_embeds": torch.empty(1, pooled, device="meta"),
            "time_ids": torch.empty(1, 6, device="meta"),
        }
    x_t = torch.empty(1, 4, side, side, device="meta", dtype=dtype)
    text = torch.empty(1, 77, config["cross_attention_dim"], device="meta", dtype=dtype)
    timesteps = torch.empty(1, device="meta", dtype=torch.long)
    return x_t, timesteps, text, None, None, None, None, added


@contextmanager
def _autocast(half: bool) -> Iterator[None]:
    names = ("linear", "conv2d", "group_norm", "layer_norm", "scaled_dot_product_attention")
    before: dict[str, Callable[..., Any]] = {name: getattr(F, name) for name in names}

    def casting(name: str, dtype: torch.dtype) -> Callable[..., Any]:
        def call(*values: Any, **options: Any) -> Any:
            def cast(value: Any) -> Any:
                return value.to(dtype) if isinstance(value, Tensor) else value

            options = {key: cast(value) for key, value in options.items()}
            return before[name](*map(cast, values), **options)

        return call

    low = torch.bfloat16 if half else torch.float32
    try:
        for name in ("linear", "conv2d"):
            setattr(F, name, casting(name, low))
        for name in ("group_norm", "layer_norm"):
            setattr(F, name, casting(name, torch.float32))
        F.scaled_dot_product_attention = lambda q, k, v, **_: _FusedAttention.apply(  # type: ignore
            q.to(low), k.to(low), v.to(low)
        )
        yield
    finally:
        for name, function in before.items():
            setattr(F, name, function)
