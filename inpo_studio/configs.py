"""What a generation and a round are configured by: validated, frozen, torch-free.

Both configurations are stored with what they made, so every field is plain data and unknown
fields are refused.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Objective = Literal["inpo", "diffusion_dpo", "ipo"]
NoiseSource = Literal["inverted", "forward"]
NoiseSetting = Literal["auto", "inverted", "forward"]
NoiseSharing = Literal["midpoint", "shared", "own"]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class GenerationConfig(_Config):
    """How pictures are made from a prompt and a seed (DDIM, classifier-free guidance)."""

    guidance: float = Field(3.0, ge=0.0, le=30.0)
    """Classifier-free guidance scale; 1 or less samples without guidance."""
    steps: int = Field(20, ge=1, le=1000)
    """DDIM sampling steps."""
    width: int | None = Field(None, ge=16)
    """Pixels; None is the model's own size."""
    height: int | None = Field(None, ge=16)
    """Pixels; None is the model's own size."""
    negative_prompt: str = ""
    """What guidance moves away from; empty is the unconditional prediction."""
    batch_size: int = Field(8, ge=1)
    """Pictures denoised together; does not change a picture beyond rounding."""


class RoundConfig(_Config):
    """How one alignment round trains its adapter."""

    objective: Objective = "inpo"
    steps: int = Field(80, ge=1)
    """Optimiser steps."""
    beta: float = Field(2000.0, gt=0)
    """Preference strength: the factor on the margin of mean squared noise errors."""
    learning_rate: float = Field(1e-3, gt=0)
    warmup_steps: int = Field(10, ge=0)
    rank: int = Field(8, ge=1)
    alpha: float = Field(8.0, gt=0)
    """LoRA alpha; the adapter's scale is alpha / rank."""
    batch_pairs: int = Field(8, ge=1)
    """Pairs per optimiser step."""
    micro_batch_pairs: int = Field(8, ge=1)
    """Pairs per forward pass; smaller uses less memory and gives the same result."""
    levels: int = Field(10, ge=1, le=1000)
    """Levels on the inversion grid."""
    lowest_timestep: int = Field(300, ge=0)
    """Steps train at timesteps from here; low ones are about grain, high ones about layout."""
    highest_timestep: int = Field(999, ge=0)
    """Steps train at timesteps up to here, itself included."""
    noise: NoiseSetting = "auto"
    """Where x_t comes from: DDIM inversion by the reference, or forward noise; `auto` is what
    the objective was published with."""
    noise_sharing: NoiseSharing = "midpoint"
    """`own`: each picture keeps its inverted noise. `shared`: both take one symmetric mixture.
    `midpoint`: that mixture on the point between them, so that they share x_t itself. Pictures
    with forward noise always share the noise."""
    noise_mixing: float = Field(0.5, ge=0.0, le=1.0)
    """Share kappa of fresh noise mixed into the inverted one; 0 is inversion alone."""
    prompt_dropout: float = Field(0.0, ge=0.0, le=1.0)
    weight_decay: float = Field(0.01, ge=0.0)
    gradient_clip: float = Field(1.0, gt=0)
    weight_averaging: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay of the running average of adapter weights; 0 keeps the last weights."""
    validate_every: int = Field(10, ge=1)
    """Optimiser steps between measurements on train and validation pairs."""
    checkpoint_every: int = Field(20, ge=1)
    """Optimiser steps between resumable checkpoints."""
    seed: int = Field(0, ge=0)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the UNet; adapter, optimiser and loss are always float32."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0 is all physical cores this process may use."""

    @property
    def noise_source(self) -> NoiseSource:
        """`noise`, with `auto` resolved: forward for Diffusion-DPO, inverted for the others."""
        if self.noise != "auto":
            return self.noise
        return "forward" if self.objective == "diffusion_dpo" else "inverted"

    @model_validator(mode="after")
    def _timesteps_ascend(self) -> RoundConfig:
        if self.lowest_timestep > self.highest_timestep:
            raise ValueError(
                f"lowest_timestep ({self.lowest_timestep}) must not exceed highest_timestep "
                f"({self.highest_timestep})."
            )
        return self

    @model_validator(mode="after")
    def _micro_batch_fits(self) -> RoundConfig:
        if self.batch_pairs % self.micro_batch_pairs:
            raise ValueError(
                f"micro_batch_pairs ({self.micro_batch_pairs}) must divide "
                f"batch_pairs ({self.batch_pairs})."
            )
        return self
