"""What a generation and a round are configured by: validated, frozen, torch-free.

Both configurations are stored with what they made, so every field is plain data and unknown
fields are refused.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Objective = Literal["inpo", "diffusion_dpo", "ipo", "robust", "kto", "mapo"]
NoiseSource = Literal["inverted", "forward"]
NoiseSetting = Literal["auto", "inverted", "forward"]
NoiseSharing = Literal["midpoint", "shared", "own"]
Timesteps = Literal["grid", "any"]
Inverter = Literal["reference", "policy"]
Safeguard = Literal["off", "dpop", "sdpo"]
Decay = Literal["none", "linear", "cosine"]
AdaptedLayers = Literal["attention", "attention_and_convolutions"]
AdapterOn = Literal["prompt", "both"]


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
    adapter_on: AdapterOn = "prompt"
    """What an adapter changes: `prompt` the prediction for the prompt alone, so that guidance
    moves away from the base model; `both` also the one it moves away from, as programs that load
    a LoRA file do."""
    batch_size: int = Field(8, ge=1)
    """Pictures denoised together; does not change a picture beyond rounding."""


class RoundConfig(_Config):
    """How one alignment round trains its adapter."""

    objective: Objective = "inpo"
    steps: int = Field(80, ge=1)
    """Optimiser steps."""
    beta: float = Field(100_000.0, gt=0)
    """Preference strength: the factor on the margin of mean squared noise errors."""
    label_noise: float = Field(0.0, ge=0.0, lt=0.5)
    """Share of choices believed to be wrong clicks: smooths the preference, and debiases it where
    the objective is `robust`."""
    winner_safeguard: Safeguard = "off"
    """`dpop` adds a penalty where the winner's error is above the reference's; `sdpo` scales the
    loser's gradient down where it would raise the winner's error. Neither treats winner and loser
    alike, so both also teach what no choice asked for."""
    safeguard_strength: float = Field(0.5, ge=0.0)
    """dpop: the penalty's factor. sdpo: mu, at most 1, the share of the winner's descent kept."""
    frequency_cutoff: float = Field(0.0, ge=0.0)
    """Cycles a picture above which an error counts less: at f by 1 / (1 + (f / cutoff)^2), which
    gives every octave the same say. 0 lets all count alike, as published."""
    sigma_power: float = Field(0.0, ge=-2.0, le=2.0)
    """beta is multiplied by sigma_t to this power, over its mean: 0 weighs every timestep alike,
    2 is the derivation's factor that the published code leaves out."""
    most_displacement: float = Field(0.0, ge=0.0)
    """Root mean square distance of the policy's noise predictions from the reference's, in
    standard deviations of the noise, beyond which a step takes the policy back; 0 sets no
    limit, as published."""
    learning_rate: float = Field(1.5e-3, gt=0)
    warmup_steps: int = Field(10, ge=0)
    learning_rate_decay: Decay = "linear"
    """From the end of the warm-up to the last step: constant, or down towards 0."""
    rank: int = Field(8, ge=1)
    alpha: float = Field(8.0, gt=0)
    """LoRA alpha; the adapter's scale is alpha / rank."""
    adapted_layers: AdaptedLayers = "attention_and_convolutions"
    """The UNet's layers that have LoRA: the projections of every attention, and with
    `attention_and_convolutions` also the convolutions of the ResNet blocks, without which a taste
    about places in the picture is hardly learnt. A round with a parent adapts what that adapts."""
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
    noise_mixing: float = Field(0.0, ge=0.0, le=1.0)
    """Share kappa of fresh noise mixed into the inverted one; 0 is inversion alone."""
    inversion_by: Inverter = "reference"
    """Who inverts: the reference, once and cached, or, as published, the policy at every visit."""
    inversion_eta: float = Field(0.0, ge=0.0, le=1.0)
    """Noise added after each inversion step, in DDIM's eta; 0.1 as published."""
    timesteps: Timesteps = "grid"
    """`grid`: timesteps are levels of the grid. `any`, as published: any timestep, for the x_t of
    the next level above it."""
    prompt_dropout: float = Field(0.0, ge=0.0, le=1.0)
    lora_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Share of the adapter's rank components left out of a pair's forward, drawn per layer."""
    weight_decay: float = Field(0.01, ge=0.0)
    gradient_clip: float = Field(1.0, gt=0)
    weight_averaging: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay of the running average of adapter weights; 0 keeps the last weights."""
    early_stop: int = Field(0, ge=0)
    """Measurements on validation pairs without a lower loss after which the round ends; it keeps
    the weights of the lowest. 0 trains to the end; without validation pairs it does nothing."""
    validate_every: int = Field(10, ge=1)
    """Optimiser steps between measurements on train and validation pairs."""
    checkpoint_every: int = Field(20, ge=1)
    """Optimiser steps between resumable checkpoints."""
    sample_every: int = Field(20, ge=0)
    """Optimiser steps between sample pictures, each with an adapter that can be kept; 0 is none.
    Drawing changes nothing of the training."""
    sample_prompts: int = Field(3, ge=0, le=16)
    """Prompts the sample pictures are drawn of."""
    seed: int = Field(0, ge=0)
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Arithmetic of the UNet; adapter, optimiser and loss are always float32."""
    threads: int = Field(0, ge=0)
    """CPU threads; 0 is every physical core this process may use but one."""
    compiled: bool = False
    """Whether the UNet's training pass goes through torch.compile: the first step takes a minute
    or more longer, those after it may be shorter."""

    @property
    def noise_source(self) -> NoiseSource:
        """`noise`, with `auto` resolved: forward for Diffusion-DPO, inverted for the others."""
        if self.noise != "auto":
            return self.noise
        return "forward" if self.objective == "diffusion_dpo" else "inverted"

    @property
    def needs_inversion(self) -> bool:
        """Whether the reference's inversions are wanted: with fresh noise alone they are not."""
        wanted = self.noise_source == "inverted" and self.inversion_by == "reference"
        return wanted and self.noise_mixing < 1

    @property
    def shares_x_t(self) -> bool:
        """Whether winner and loser are one x_t, so that one forward serves both."""
        return self.noise_source == "inverted" and self.noise_sharing == "midpoint"

    @property
    def reference_repeats(self) -> bool:
        """Whether x_t is the same at every visit of a pair and level, and the reference with it."""
        return self.needs_inversion and self.noise_mixing == 0 and self.timesteps == "grid"

    @classmethod
    def published(cls, **changes: Any) -> RoundConfig:
        """The published method: policy inversion with eta 0.1, any timestep, a noise of its own
        for each picture, a fifth of the prompts dropped. Steps, rank, learning rate and batch stay
        those of this studio (published: 400 steps of 1024 pairs, all weights at 1.02e-5)."""
        method = {
            "noise": "inverted",
            "noise_sharing": "own",
            "noise_mixing": 0.0,
            "inversion_by": "policy",
            "inversion_eta": 0.1,
            "timesteps": "any",
            "levels": 10,
            "lowest_timestep": 0,
            "highest_timestep": 999,
            "prompt_dropout": 0.2,
            "beta": 2000.0,
            "winner_safeguard": "off",
            "learning_rate_decay": "none",
        }
        return cls.model_validate({**method, **changes})

    @model_validator(mode="after")
    def _safeguard_is_a_share(self) -> RoundConfig:
        if self.winner_safeguard == "sdpo" and self.safeguard_strength > 1:
            raise ValueError(
                f"safeguard_strength ({self.safeguard_strength}) must be at most 1 with sdpo."
            )
        return self

    @model_validator(mode="after")
    def _dropout_is_not_compiled(self) -> RoundConfig:
        if self.compiled and self.lora_dropout:
            raise ValueError(
                "lora_dropout draws anew at every pass, which cannot be compiled: set it to 0, or "
                "leave compiled off."
            )
        return self

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
