"""The noise schedule: what alpha_bar is, and the four ways between x_0, x_t and noise.

Every function takes alpha_bar_t as float64 (n,), one value per image, or () for all images, and
broadcasts it over latents (n, c, h, w). Square roots are taken in float64 and cast to the latents'
dtype last: 1 - alpha_bar_0 is about 8.5e-4, which half precision holds to 15 % at best when
alpha_bar is rounded first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction"]

_SMALLEST_ALPHA_BAR = 1e-10
"""Below this x_0 cannot be told from x_t: a schedule with zero terminal signal-to-noise ratio."""


class UnsupportedSchedule(ValueError):
    """The scheduler's configuration asks for something this method cannot use."""


@dataclass(frozen=True)
class Schedule:
    """alpha_bar_t for t = 0 .. T-1 (float64, on the CPU), and what the network predicts."""

    alpha_bar: Tensor
    prediction_type: PredictionType = "epsilon"
    final_alpha_bar: float = 1.0
    """alpha_bar of x_0 itself: 1, or alpha_bar[0] where the model's config says so."""

    def __post_init__(self) -> None:
        if self.alpha_bar.dtype != torch.float64 or self.alpha_bar.ndim != 1:
            raise ValueError("Schedule.alpha_bar must be a float64 vector.")

    @property
    def num_timesteps(self) -> int:
        """T, the number of timesteps the model was trained with."""
        return int(self.alpha_bar.shape[0])

    def at(self, timesteps: Tensor | int) -> Tensor:
        """alpha_bar at timesteps: int or (n,) integers -> float64, same shape, on the CPU.

        Raises ValueError for a timestep outside 0 .. T-1: an index of -99 would silently read
        from the far end of the table.
        """
        index = torch.as_tensor(timesteps).to(device="cpu", dtype=torch.int64)
        if bool(((index < 0) | (index >= self.num_timesteps)).any()):
            raise ValueError(f"Timesteps must lie in 0 .. {self.num_timesteps - 1}.")
        return self.alpha_bar[index]


def schedule_from_config(config: Mapping[str, Any]) -> Schedule:
    """The schedule a diffusers scheduler_config.json describes.

    Missing fields take the defaults of diffusers' DDIMScheduler, so a model samples here as it
    does there. Raises UnsupportedSchedule, in one sentence, for zero terminal SNR, an unknown
    beta schedule and predictions other than epsilon and v.
    """
    prediction_type = config.get("prediction_type", "epsilon")
    if prediction_type not in ("epsilon", "v_prediction"):
        raise UnsupportedSchedule(
            f"The model predicts '{prediction_type}'; use one that predicts 'epsilon' or "
            "'v_prediction'."
        )
    alpha_bar = torch.cumprod(1.0 - _betas(config), dim=0)
    if config.get("rescale_betas_zero_snr") or float(alpha_bar[-1]) < _SMALLEST_ALPHA_BAR:
        raise UnsupportedSchedule(
            "The model's noise schedule ends in pure noise (zero terminal SNR), which noise "
            "inversion cannot use; choose a model trained without rescale_betas_zero_snr."
        )
    final = 1.0 if config.get("set_alpha_to_one", True) else float(alpha_bar[0])
    return Schedule(alpha_bar, cast(PredictionType, prediction_type), final)


def _betas(config: Mapping[str, Any]) -> Tensor:
    """beta_t, float64 (T,): the parametrisations of Ho et al. 2020, Rombach et al. 2022 (square
    roots evenly spaced) and Nichol & Dhariwal 2021 (squared cosine)."""
    trained = config.get("trained_betas")
    if trained is not None:
        return torch.tensor(trained, dtype=torch.float64)
    total = int(config.get("num_train_timesteps", 1000))
    start, end = float(config.get("beta_start", 1e-4)), float(config.get("beta_end", 0.02))
    kind = config.get("beta_schedule", "linear")
    if kind == "linear":
        return torch.linspace(start, end, total, dtype=torch.float64)
    if kind == "scaled_linear":
        return torch.linspace(start**0.5, end**0.5, total, dtype=torch.float64) ** 2
    if kind == "squaredcos_cap_v2":
        t = torch.arange(total + 1, dtype=torch.float64) / total
        curve = torch.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        return (1.0 - curve[1:] / curve[:-1]).clamp(max=0.999)
    raise UnsupportedSchedule(
        f"The beta schedule '{kind}' is unknown; use a model with linear, scaled_linear or "
        "squaredcos_cap_v2 betas."
    )


def add_noise(x_0: Tensor, noise: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise; latents (n, c, h, w)."""
    signal, spread = _coefficients(alpha_bar_t, x_0)
    return signal * x_0 + spread * noise


def implied_noise(x_t: Tensor, x_0: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """tau = (x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t): the noise that makes x_0 x_t."""
    signal, spread = _coefficients(alpha_bar_t, x_t)
    return (x_t - signal * x_0) / spread


def predicted_x_0(x_t: Tensor, noise: Tensor, alpha_bar_t: Tensor) -> Tensor:
    """x_0 = (x_t - sqrt(1 - alpha_bar_t) noise) / sqrt(alpha_bar_t)."""
    signal, spread = _coefficients(alpha_bar_t, x_t)
    return (x_t - spread * noise) / signal


def noise_from_prediction(
    prediction: Tensor, x_t: Tensor, alpha_bar_t: Tensor, prediction_type: PredictionType
) -> Tensor:
    """epsilon from what the network predicts: itself, or from v (Salimans & Ho 2022)
    epsilon = sqrt(alpha_bar_t) v + sqrt(1 - alpha_bar_t) x_t."""
    if prediction_type == "epsilon":
        return prediction
    signal, spread = _coefficients(alpha_bar_t, x_t)
    return signal * prediction + spread * x_t


def ddim_step(x: Tensor, noise: Tensor, alpha_bar_from: Tensor, alpha_bar_to: Tensor) -> Tensor:
    """One deterministic DDIM step (Song et al. 2021, eq. 12 with sigma = 0), towards less noise
    or more: x_0 as predicted, noised to alpha_bar_to with the same noise."""
    return add_noise(predicted_x_0(x, noise, alpha_bar_from), noise, alpha_bar_to)


def sigma(alpha_bar_t: Tensor) -> Tensor:
    """sigma_t = sqrt((1 - alpha_bar_t) / alpha_bar_t): noise against signal, float64 as given."""
    return ((1.0 - alpha_bar_t) / alpha_bar_t).sqrt()


def sigma_weights(schedule: Schedule, timesteps: Tensor, power: float) -> Tensor:
    """A weight for every timestep, (T,) float64: sigma_t^power over its mean at `timesteps`.

    Power 2 is the factor that stands before the error where the reward is put on x_0, and that
    the published code leaves out; at the midpoint of a pair, where the two implied noises are
    (x_0^l - x_0^w) / sigma_t apart, power 1 makes every level pull alike; 0 weighs nothing.
    """
    weights = sigma(schedule.alpha_bar) ** power
    return weights / weights[timesteps].mean()


def _coefficients(alpha_bar_t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), shaped and typed for latents `like`."""
    if alpha_bar_t.dtype != torch.float64:
        raise ValueError("alpha_bar_t must be float64; take it from Schedule.at().")
    if alpha_bar_t.ndim > 1 or (alpha_bar_t.ndim == 1 and alpha_bar_t.shape[0] != like.shape[0]):
        raise ValueError(
            f"alpha_bar_t has shape {tuple(alpha_bar_t.shape)} for {like.shape[0]} images; "
            "give one value per image."
        )
    column = alpha_bar_t.reshape(-1, *[1] * (like.ndim - 1))
    return (
        column.sqrt().to(device=like.device, dtype=like.dtype),
        (1.0 - column).sqrt().to(device=like.device, dtype=like.dtype),
    )
