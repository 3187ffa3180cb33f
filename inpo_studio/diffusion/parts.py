"""Reading a model's networks and tokenizers from safetensors files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from inpo_studio.diffusion.checkpoints import (
    checkpoint_configs,
    configuration_folder,
    inspect_checkpoint,
)
from inpo_studio.diffusion.families import (
    Family,
    ModelConfigs,
    UnsupportedModel,
    read_configs,
    recognise,
)
from inpo_studio.diffusion.hub import weight_sets
from inpo_studio.diffusion.layout import networks, variant
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
    variants = {name: _variant(folder / name) for name in networks(family)}
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


def _variant(component: Path) -> str | None:
    """None where full weights are there, 'fp16' where only those are."""
    try:
        return variant(component)
    except FileNotFoundError:
        raise UnsupportedModel(
            f"{component} holds no .safetensors weights, and pickled ones are never loaded; "
            "convert the model with save_pretrained(safe_serialization=True)."
        ) from None


def _files(folder: Path, family: Family, variants: dict[str, str | None]) -> list[Path]:
    """The files a folder's pictures depend on: configurations, weights and tokenizers."""
    files = [folder / "model_index.json", folder / "scheduler" / "scheduler_config.json"]
    for name, kind in variants.items():
        whole, halves = weight_sets(path.name for path in (folder / name).glob("*.safetensors"))
        files += [folder / name / each for each in (whole if kind is None else halves)]
        files.append(folder / name / "config.json")
    for spec in family.text_encoders:
        files += [path for path in (folder / spec.tokenizer_folder).iterdir() if path.is_file()]
    return files


def _checkpoint_parts(file: Path, dtype: torch.dtype) -> Parts:
    """A single-file checkpoint, converted by diffusers from configurations on this machine."""
    checkpoint = inspect_checkpoint(file)
    folder = configuration_folder(file, checkpoint)
    configs = checkpoint_configs(checkpoint, folder)
    family = recognise(configs)
    if family is not checkpoint.family:
        raise UnsupportedModel(
            f"{file.name} is {checkpoint.family.title}, but the configuration in {folder} is of "
            f"{family.title}; put the one that belongs to it there."
        )
    schedule_from_config(configs.scheduler)
    import diffusers

    pipeline_class = getattr(diffusers, family.diffusers_class)
    try:
        with _quiet(), _quiet_diffusers():
            pipe = pipeline_class.from_single_file(
                str(file), config=str(folder), dtype=dtype, local_files_only=True
            )
    except (OSError, ValueError, KeyError, RuntimeError) as problem:
        raise UnsupportedModel(
            f"{file.name} does not fit the configuration in {folder} "
            f"({str(problem).splitlines()[0]}); use the one that belongs to it, or give the model "
            "as a diffusers folder."
        ) from problem
    specs = family.text_encoders
    return Parts(
        family=family,
        configs=configs,
        unet=pipe.unet,
        vae=pipe.vae.to(torch.float32),
        tokenizers=tuple(getattr(pipe, spec.tokenizer_folder) for spec in specs),
        text_encoders=tuple(getattr(pipe, spec.folder) for spec in specs),
        fingerprint=_checkpoint_fingerprint(file, configs),
    )


def _checkpoint_fingerprint(file: Path, configs: ModelConfigs) -> str:
    """Of the weights and of the configurations, which say what the weights mean."""
    said = json.dumps([configs.unet, configs.vae, configs.scheduler, configs.index], sort_keys=True)
    return hashlib.sha256(f"{fingerprint(file)}\n{said}".encode()).hexdigest()


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


@contextmanager
def _quiet_diffusers() -> Iterator[None]:
    """The same for diffusers, and for its warning that an empty list of parts stays in float32."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()
