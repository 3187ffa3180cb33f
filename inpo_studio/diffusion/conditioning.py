"""Prompts as the UNet takes them, and the UNet's prediction as noise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from inpo_studio.diffusion.families import TextEncoderSpec
from inpo_studio.diffusion.loading import Pipeline, autocast, resident
from inpo_studio.inpo.schedule import noise_from_prediction

_PROMPTS_AT_ONCE = 32
"""Prompts encoded together: bounds the memory of the text encoders' activations."""


@dataclass(frozen=True)
class Conditioning:
    """What the UNet is told beside x_t and t, for n images."""

    embeddings: Tensor
    """(n, tokens, dim) token states of the text encoders."""
    added: dict[str, Tensor] = field(default_factory=dict)
    """Further inputs by diffusers' name, (n, ...) each: none, or text_embeds and time_ids."""

    def __len__(self) -> int:
        return int(self.embeddings.shape[0])

    def take(self, indices: Tensor | Sequence[int]) -> Conditioning:
        """The rows `indices`, in their order, with repeats."""
        index = torch.as_tensor(indices, device=self.embeddings.device)
        return Conditioning(
            self.embeddings[index], {key: value[index] for key, value in self.added.items()}
        )

    def to(self, device: torch.device | str) -> Conditioning:
        """The same on another device."""
        return Conditioning(
            self.embeddings.to(device), {key: value.to(device) for key, value in self.added.items()}
        )

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """All rows of `parts`, one after another."""
        return Conditioning(
            torch.cat([part.embeddings for part in parts]),
            {key: torch.cat([part.added[key] for part in parts]) for key in parts[0].added},
        )


@torch.no_grad()
def encode_prompts(
    pipeline: Pipeline, prompts: Sequence[str], size: tuple[int, int] | None = None
) -> Conditioning:
    """Conditioning of `prompts` on the pipeline's device, as diffusers' pipelines encode them.

    size: width and height in pixels of the pictures, for families that are told it; None is the
    model's own. An empty text is encoded like any other; see `empty_conditioning`. Raises
    RuntimeError once the text encoders are released.
    """
    if not pipeline.text_encoders:
        raise RuntimeError("The text encoders were released; load the pipeline again.")
    if not prompts:
        raise ValueError("There are no prompts to encode; give at least one.")
    chunks = range(0, len(prompts), _PROMPTS_AT_ONCE)
    return Conditioning.cat(
        [_encode(pipeline, list(prompts[i : i + _PROMPTS_AT_ONCE]), size) for i in chunks]
    )


def empty_conditioning(
    pipeline: Pipeline, n: int, size: tuple[int, int] | None = None
) -> Conditioning:
    """Conditioning of n images on nothing: what guidance moves away from.

    Where the model says force_zeros_for_empty_prompt that is zeros, elsewhere the encoded "".
    """
    empty = encode_prompts(pipeline, [""], size)
    if pipeline.force_zeros_for_empty_prompt:
        zeros = {
            key: value if key == "time_ids" else torch.zeros_like(value)
            for key, value in empty.added.items()
        }
        empty = Conditioning(torch.zeros_like(empty.embeddings), zeros)
    return empty.take([0] * n)


def predict_noise(
    pipeline: Pipeline,
    x_t: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
    unet: Callable[..., Any] | None = None,
) -> Tensor:
    """epsilon(x_t, t, c): (n, c, h, w) float32, whatever the network predicts and computes in.

    x_t (n, c, h, w); timesteps (n,) integers, one per image, best left on the CPU; `conditioning`
    of n images on the pipeline's device. Uses the active adapters; gradients flow unless disabled.
    `unet` is called in place of the pipeline's own: the same one, compiled.
    """
    if not len(timesteps) == len(conditioning) == len(x_t):
        raise ValueError(
            f"{len(x_t)} images came with {len(timesteps)} timesteps and {len(conditioning)} "
            "conditionings; give one of each per image."
        )
    alpha_bar_t = pipeline.schedule.at(timesteps)
    dtype = pipeline.unet.dtype
    with autocast(pipeline):
        prediction = (unet or pipeline.unet)(
            x_t.to(dtype),
            timesteps.to(x_t.device),
            conditioning.embeddings.to(dtype),
            # Left in float32: bfloat16 would round the pixels of time_ids before they are embedded.
            added_cond_kwargs=conditioning.added,
            return_dict=False,
        )[0]
    return noise_from_prediction(
        prediction.float(), x_t.float(), alpha_bar_t, pipeline.schedule.prediction_type
    )


def _encode(pipeline: Pipeline, prompts: list[str], size: tuple[int, int] | None) -> Conditioning:
    states, pooled = [], None
    family = pipeline.family
    parts = zip(family.text_encoders, pipeline.tokenizers, pipeline.text_encoders, strict=True)
    for spec, tokenizer, encoder in parts:
        state, projected = _encode_with(spec, tokenizer, encoder, prompts, pipeline.device)
        states.append(state)
        pooled = projected if projected is not None else pooled
    embeddings = torch.cat(states, dim=-1)
    if not family.size_conditioned:
        return Conditioning(embeddings)
    assert pooled is not None, "a size-conditioned family has a projected text encoder"
    width, height = size or pipeline.size
    # Original size, crop corner and target size: an uncropped picture of the size being made.
    time_ids = torch.tensor([[height, width, 0, 0, height, width]] * len(prompts))
    time_ids = time_ids.to(device=pipeline.device, dtype=torch.float32)
    return Conditioning(embeddings, {"text_embeds": pooled, "time_ids": time_ids})


def _encode_with(
    spec: TextEncoderSpec,
    tokenizer: object,
    encoder: torch.nn.Module,
    prompts: list[str],
    device: torch.device,
) -> tuple[Tensor, Tensor | None]:
    """One encoder's token states (n, tokens, dim) and, if it projects, its pooled (n, dim)."""
    tokens = tokenizer(  # type: ignore[operator]
        prompts,
        padding="max_length",
        max_length=tokenizer.model_max_length,  # type: ignore[attr-defined]
        truncation=True,
        return_tensors="pt",
    )
    mask = None
    if getattr(encoder.config, "use_attention_mask", False):
        mask = tokens.attention_mask.to(device)
    with resident(encoder, device):
        output = encoder(
            tokens.input_ids.to(device), attention_mask=mask, output_hidden_states=True
        )
    last = spec.hidden_state == "last"
    state = output.last_hidden_state if last else output.hidden_states[-2]
    return state, output.text_embeds if spec.projected else None
