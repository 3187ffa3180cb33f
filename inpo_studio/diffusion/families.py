"""What differs between the families of pipelines, in one place.

A family is recognised from a pipeline's own configuration files, and every size, channel count
and scale is read from those files too: a small model of the same layout works unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal


class UnsupportedModel(ValueError):
    """A model this studio cannot align; the message says in one sentence why and what to do."""


@dataclass(frozen=True)
class TextEncoderSpec:
    """One text encoder of a family and what is taken from it."""

    folder: str
    tokenizer_folder: str
    hidden_state: Literal["last", "penultimate"]
    """The layer whose states condition the UNet; 'last' includes the final layer norm."""
    projected: bool
    """Whether the encoder ends in a projection, whose pooled output conditions the UNet too."""


@dataclass(frozen=True)
class Family:
    """What must be known of a family beside its configuration files."""

    name: Literal["sd", "sd2", "sdxl"]
    title: str
    diffusers_class: str
    """The diffusers pipeline that runs a model of this family."""
    text_encoders: tuple[TextEncoderSpec, ...]
    size_conditioned: bool
    """Whether the UNet is told the picture's size (time_ids) beside the pooled prompt."""


_FIRST = TextEncoderSpec("text_encoder", "tokenizer", "last", False)

SD = Family("sd", "Stable Diffusion 1", "StableDiffusionPipeline", (_FIRST,), False)
SD2 = Family("sd2", "Stable Diffusion 2", "StableDiffusionPipeline", (_FIRST,), False)
SDXL = Family(
    "sdxl",
    "Stable Diffusion XL",
    "StableDiffusionXLPipeline",
    (
        TextEncoderSpec("text_encoder", "tokenizer", "penultimate", False),
        TextEncoderSpec("text_encoder_2", "tokenizer_2", "penultimate", True),
    ),
    True,
)
FAMILIES = (SD, SD2, SDXL)

_UNUSABLE_SCHEDULERS = ("Flow", "EDM", "LCM", "TCD", "Consistency")
"""Schedulers of models that do not predict DDPM noise: parts of their class names."""


_OTHER_PIPELINES = {
    "Flux": "a Flux model",
    "StableDiffusion3": "a Stable Diffusion 3 model",
    "PixArt": "a PixArt model",
    "Kolors": "a Kolors model",
    "HunyuanDiT": "a Hunyuan-DiT model",
    "Sana": "a Sana model",
    "Lumina": "a Lumina model",
    "AuraFlow": "an AuraFlow model",
    "QwenImage": "a Qwen-Image model",
    "StableCascade": "a Stable Cascade model",
    "Wuerstchen": "a Würstchen model",
    "Kandinsky": "a Kandinsky model",
    "IFPipeline": "a DeepFloyd IF model",
    "LatentConsistency": "distilled for few steps",
    "Inpaint": "made for inpainting",
    "Upscale": "an upscaler",
    "InstructPix2Pix": "made for editing pictures",
    "Depth2Img": "made for editing pictures",
    "Video": "made for films",
}
"""What stands in the class names of pipelines that this studio does not align, in plain words."""
_USE = "use a text-to-image model of the SD 1, SD 2 or SDXL family."


@dataclass(frozen=True)
class ModelConfigs:
    """A pipeline folder's configuration files, parsed."""

    index: Mapping[str, Any]
    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    scheduler: Mapping[str, Any]


def read_configs(folder: Path) -> ModelConfigs:
    """The configuration files of the pipeline in `folder`.

    Raises UnsupportedModel when one is missing or is not JSON.
    """
    return ModelConfigs(
        index=_read_json(folder, "model_index.json"),
        unet=_read_json(folder, "unet/config.json"),
        vae=_read_json(folder, "vae/config.json"),
        scheduler=_read_json(folder, "scheduler/scheduler_config.json"),
    )


def recognise(model: Path | ModelConfigs) -> Family:
    """The family of a pipeline folder or of its configurations.

    Raises UnsupportedModel, in one sentence, for anything that is not a text-to-image latent
    UNet of the SD, SD2 or SDXL layout: inpainting, refiners, distilled and flow models.
    """
    configs = read_configs(model) if isinstance(model, Path) else model
    unet, vae, index = configs.unet, configs.vae, configs.index
    refuse_other_pipelines(index)
    _refuse_other_architectures(configs)
    if unet.get("in_channels") != vae.get("latent_channels"):
        raise UnsupportedModel(
            f"The UNet takes {unet.get('in_channels')} channels but latents have "
            f"{vae.get('latent_channels')}: use a text-to-image model, not one for inpainting "
            "or editing."
        )
    if unet.get("time_cond_proj_dim") is not None:
        raise UnsupportedModel(
            "The model is distilled with its guidance built in; use the model it was made from."
        )
    addition = unet.get("addition_embed_type")
    if addition is None:
        return SD2 if unet.get("use_linear_projection") else SD
    encoders = [spec.folder for spec in SDXL.text_encoders]
    if addition == "text_time" and all((index.get(name) or [None])[0] for name in encoders):
        return SDXL
    raise UnsupportedModel(
        "The model is conditioned in a way only refiners and variants use; use a base SD or "
        "SDXL model."
    )


def refuse_other_pipelines(index: Mapping[str, Any]) -> None:
    """Raise UnsupportedModel where model_index.json alone shows that a model is of no family here.

    Its sentence names what the model is. Looking at one small file spares a download.
    """
    kind = str(index.get("_class_name", ""))
    for part, what in _OTHER_PIPELINES.items():
        if part in kind:
            raise UnsupportedModel(f"The model is {what} ({kind}); {_USE}")
    if index and not _named(index, "unet"):
        raise UnsupportedModel(f"The model ({kind or 'of no known class'}) has no UNet; {_USE}")
    for spec in SDXL.text_encoders:
        found = _named(index, spec.folder)
        if found and not found.startswith("CLIPTextModel"):
            raise UnsupportedModel(f"The model reads its prompts with a {found}, not CLIP; {_USE}")


def _named(index: Mapping[str, Any], component: str) -> str:
    """The class that model_index.json names for a component; empty where it names none."""
    entry = index.get(component)
    return str(entry[1] or "") if isinstance(entry, list) and len(entry) == 2 else ""


def refuse_other_schedules(scheduler: Mapping[str, Any]) -> None:
    """Raise UnsupportedModel where a scheduler's configuration shows that it cannot be inverted.

    What loading a model refuses too, told before its weights are fetched.
    """
    predicted = scheduler.get("prediction_type", "epsilon")
    if predicted not in ("epsilon", "v_prediction"):
        raise UnsupportedModel(
            f"The model predicts '{predicted}'; use one that predicts 'epsilon' or 'v_prediction'."
        )
    if scheduler.get("rescale_betas_zero_snr"):
        raise UnsupportedModel(
            "The model's noise schedule ends in pure noise (zero terminal SNR), which noise "
            "inversion cannot use; choose a model trained without rescale_betas_zero_snr."
        )


def describe(configs: ModelConfigs) -> str:
    """What a model is, in plain words: family, size of pictures, text encoders, prediction.

    Raises UnsupportedModel as `recognise` does.
    """
    family = recognise(configs)
    width, height = default_size(configs)
    encoders = ("one text encoder", "two text encoders")[len(family.text_encoders) - 1]
    symbol = "v" if configs.scheduler.get("prediction_type") == "v_prediction" else "ε"
    return f"{family.title}, {width}×{height}, {encoders}, {symbol}-prediction"


def _refuse_other_architectures(configs: ModelConfigs) -> None:
    """Raise UnsupportedModel for other networks than a 2-D conditional UNet and a KL autoencoder
    under a DDPM-like noise schedule."""
    for part, config, expected in (
        ("denoiser", configs.unet, "UNet2DConditionModel"),
        ("autoencoder", configs.vae, "AutoencoderKL"),
    ):
        found = config.get("_class_name", expected)
        if found != expected:
            raise UnsupportedModel(
                f"The model's {part} is a {found}; use an SD or SDXL model, whose {part} is a "
                f"{expected}."
            )
    scheduler = str(configs.scheduler.get("_class_name", ""))
    if any(part in scheduler for part in _UNUSABLE_SCHEDULERS):
        raise UnsupportedModel(
            f"The model was made for {scheduler}, which DDIM cannot stand in for; use an SD or "
            "SDXL base model."
        )


def vae_scale_factor(vae_config: Mapping[str, Any]) -> int:
    """Pixels along one side of a latent: the autoencoder halves once between blocks."""
    return int(2 ** (len(vae_config["block_out_channels"]) - 1))


def default_size(configs: ModelConfigs) -> tuple[int, int]:
    """Width and height in pixels that the UNet was made for."""
    sample_size = configs.unet.get("sample_size")
    if sample_size is None:
        raise UnsupportedModel("The UNet's configuration names no sample_size; add it there.")
    height, width = (sample_size, sample_size) if isinstance(sample_size, int) else sample_size
    scale = vae_scale_factor(configs.vae)
    return int(width) * scale, int(height) * scale


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise UnsupportedModel(
            f"{path} is missing: give the folder of a diffusers text-to-image pipeline."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as problem:
        raise UnsupportedModel(f"{path} is not valid JSON: download it again.") from problem
    if not isinstance(content, dict):
        raise UnsupportedModel(f"{path} does not hold a configuration: download it again.")
    return content
