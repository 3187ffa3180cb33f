"""Reading a model's networks and tokenizers from safetensors files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from inpo_studio.diffusion.families import (
    SD,
    SD2,
    SDXL,
    Family,
    ModelConfigs,
    UnsupportedModel,
    read_configs,
    recognise,
)
from inpo_studio.diffusion.sources import fingerprint
from inpo_studio.inpo.schedule import schedule_from_config


@dataclass(frozen=True)
class Parts:
    """A model's networks on the CPU and what was read beside them."""

    family: Family
    configs: ModelConfigs
    unet: Any
    vae: Any
    tokenizers: tuple[Any, ...]
    text_encoders: tuple[Any, ...]
    fingerprint: str


def read_parts(source: Path, dtype: torch.dtype) -> Parts:
    """The parts of the pipeline folder or .safetensors checkpoint `source`.

    UNet and text encoders come in `dtype`, the VAE always in float32. Raises UnsupportedModel or
    UnsupportedSchedule before any weights are read.
    """
    return _folder_parts(source, dtype) if source.is_dir() else _checkpoint_parts(source, dtype)


def _folder_parts(folder: Path, dtype: torch.dtype) -> Parts:
    """Each part by its own class: importing the pipelines themselves would take seconds more."""
    configs = read_configs(folder)
    family = recognise(configs)
    schedule_from_config(configs.scheduler)
    variants = {name: _variant(folder / name) for name in _networks(family)}
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

    def load(kind: Any, name: str, dtype: torch.dtype) -> Any:
        return kind.from_pretrained(
            folder / name,
            dtype=dtype,
            variant=variants[name],
            use_safetensors=True,
            local_files_only=True,
        )

    with _quiet():
        return Parts(
            family=family,
            configs=configs,
            unet=load(UNet2DConditionModel, "unet", dtype),
            vae=load(AutoencoderKL, "vae", torch.float32),
            tokenizers=tuple(
                CLIPTokenizer.from_pretrained(folder / spec.tokenizer_folder, local_files_only=True)
                for spec in family.text_encoders
            ),
            text_encoders=tuple(
                load(
                    CLIPTextModelWithProjection if spec.projected else CLIPTextModel,
                    spec.folder,
                    dtype,
                )
                for spec in family.text_encoders
            ),
            fingerprint=fingerprint(folder, _files(folder, family, variants)),
        )


def _networks(family: Family) -> list[str]:
    return ["unet", "vae", *(spec.folder for spec in family.text_encoders)]


def _variant(component: Path) -> str | None:
    """None where full weights are there, 'fp16' where only those are."""
    names = [path.name for path in component.glob("*.safetensors")]
    if any(name.count(".") == 1 for name in names):
        return None
    if any(".fp16." in name for name in names):
        return "fp16"
    raise UnsupportedModel(
        f"{component} holds no .safetensors weights, and pickled ones are never loaded; convert "
        "the model with save_pretrained(safe_serialization=True)."
    )


def _files(folder: Path, family: Family, variants: dict[str, str | None]) -> list[Path]:
    """The files a folder's pictures depend on: configurations, weights and tokenizers."""
    files = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    for name, variant in variants.items():
        dots = 1 if variant is None else 2
        weights = (folder / name).glob("*.safetensors")
        files += [path for path in weights if path.name.count(".") == dots]
        files.append(folder / name / "config.json")
    for spec in family.text_encoders:
        files += [path for path in (folder / spec.tokenizer_folder).iterdir() if path.is_file()]
    return files


def _checkpoint_parts(file: Path, dtype: torch.dtype) -> Parts:
    """A single-file checkpoint, converted by diffusers.

    Such a file holds weights alone; diffusers fetches the matching configurations and tokenizers
    from the Hub the first time.
    """
    family = _checkpoint_family(file)
    import diffusers

    pipeline_class = getattr(diffusers, family.diffusers_class)
    try:
        with _quiet():
            pipe = pipeline_class.from_single_file(str(file), dtype=dtype, use_safetensors=True)
    except OSError as problem:
        raise UnsupportedModel(
            f"The configuration that belongs to {file.name} could not be fetched; connect once to "
            "the Hub, or give the model as a diffusers folder."
        ) from problem
    configs = ModelConfigs(
        index={key: value for key, value in pipe.config.items() if not key.startswith("_")},
        unet=dict(pipe.unet.config),
        vae=dict(pipe.vae.config),
        scheduler=dict(pipe.scheduler.config),
    )
    specs = family.text_encoders
    return Parts(
        family=recognise(configs),
        configs=configs,
        unet=pipe.unet,
        vae=pipe.vae.to(torch.float32),
        tokenizers=tuple(getattr(pipe, spec.tokenizer_folder) for spec in specs),
        text_encoders=tuple(getattr(pipe, spec.folder) for spec in specs),
        fingerprint=fingerprint(file),
    )


def _checkpoint_family(file: Path) -> Family:
    """The family of a checkpoint in the original layout, by the names of its tensors."""
    with safe_open(file, framework="pt") as weights:
        names = list(weights.keys())
    if not any(name.startswith("model.diffusion_model.") for name in names):
        raise UnsupportedModel(
            f"{file.name} is not a full checkpoint; a LoRA or a single part cannot be aligned "
            "alone."
        )
    if any(name.startswith("conditioner.embedders.1.") for name in names):
        return SDXL
    return SD2 if any(name.startswith("cond_stage_model.model.") for name in names) else SD


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' loading bars out of the worker's log."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
