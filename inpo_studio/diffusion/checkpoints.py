"""Single-file checkpoints: what their tensors' names tell, and where their configurations are.

Such a file holds weights alone. Its tokenizer and configurations are taken from a folder beside
it, else from the Hub's cache, else fetched from the Hub: some two megabytes. Torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from inpo_studio.diffusion.downloads import configuration_files, download
from inpo_studio.diffusion.families import (
    SD,
    SD2,
    SDXL,
    Family,
    ModelConfigs,
    UnsupportedModel,
    read_configs,
)
from inpo_studio.diffusion.hub import snapshot_folder
from inpo_studio.diffusion.layout import configurations_there, whole_snapshot
from inpo_studio.diffusion.sources import EMBEDDED_MODEL, locate

_UNET = "model.diffusion_model."
_CONFIGURATIONS = {
    "sd": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "sd2": "stabilityai/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}
"""Repositories whose configurations and tokenizers belong to a family's single files."""
_OTHERS = {
    "model.diffusion_model.joint_blocks.": "Stable Diffusion 3",
    "model.diffusion_model.double_blocks.": "Flux",
    "double_blocks.": "Flux",
    "conditioner.embedders.0.model.": "an SDXL refiner",
}
"""What stands in the names of models that this studio does not align yet."""


@dataclass(frozen=True)
class Checkpoint:
    """What a single file tells of itself."""

    family: Family
    prediction_type: str | None
    """epsilon or v_prediction; None where the file does not say."""
    zero_terminal_snr: bool


def inspect_checkpoint(file: Path) -> Checkpoint:
    """Recognise a checkpoint in the original layout by the names and shapes of its tensors.

    Only the header is read. Raises UnsupportedModel, in one sentence, for anything else than a
    full SD, SD2 or SDXL text-to-image checkpoint.
    """
    try:
        with safe_open(file, framework="np") as weights:
            names = frozenset(weights.keys())
            facts: dict[str, str] = weights.metadata() or {}
            first = f"{_UNET}input_blocks.0.0.weight"
            channels = weights.get_slice(first).get_shape()[1] if first in names else None
    except (OSError, SafetensorError) as problem:
        raise UnsupportedModel(
            f"{file.name} is not a whole .safetensors file; download it again."
        ) from problem
    for beginning, what in _OTHERS.items():
        if any(name.startswith(beginning) for name in names):
            raise UnsupportedModel(f"{file.name} is {what}; use an SD 1, SD 2 or SDXL base model.")
    if channels is None:
        raise UnsupportedModel(
            f"{file.name} is not a full checkpoint; a LoRA or a single part cannot be aligned "
            "alone, so give the model it belongs to."
        )
    if channels != 4:
        raise UnsupportedModel(
            f"The UNet of {file.name} takes {channels} channels: use a text-to-image model, not "
            "one for inpainting or editing."
        )
    prediction = {"v": "v_prediction", "epsilon": "epsilon"}.get(
        facts.get("modelspec.prediction_type", "")
    )
    return Checkpoint(
        family=_family(names),
        prediction_type="v_prediction" if "v_pred" in names else prediction,
        zero_terminal_snr="ztsnr" in names,
    )


def _family(names: frozenset[str]) -> Family:
    if any(name.startswith("conditioner.embedders.1.") for name in names):
        return SDXL
    return SD2 if any(name.startswith("cond_stage_model.model.") for name in names) else SD


def configuration_folder(file: Path, checkpoint: Checkpoint, *, fetch: bool = True) -> Path:
    """The folder with the pipeline's configurations and tokenizers, in diffusers' layout.

    It is the folder beside the file that has its name without `.safetensors`, else the family's
    from the Hub's cache or, with `fetch`, the Hub. Raises UnsupportedModel when there is none.
    """
    beside = file.with_suffix("")
    if (beside / "model_index.json").is_file():
        return beside
    repository = configuration_repository(file, checkpoint)
    cached = snapshot_folder(repository)
    if cached is not None and configurations_there(cached):
        return cached
    try:
        if not fetch:
            raise UnsupportedModel(f"{repository} is not in the local Hub cache.")
        return download(configuration_files(repository))
    except UnsupportedModel as problem:
        raise UnsupportedModel(
            f"{file.name} holds weights only, and the configuration of {repository} that belongs "
            f"to it is not here and cannot be fetched; connect once to the Hub, or put the "
            f"pipeline's configuration files into a folder {beside.name} beside the file."
        ) from problem


def configuration_repository(file: Path, checkpoint: Checkpoint) -> str:
    """The repository whose configurations and tokenizers belong to a single file.

    Raises UnsupportedModel where the file does not tell enough to choose one.
    """
    beside = file.with_suffix("")
    if checkpoint.family is SD2 and checkpoint.prediction_type is None:
        raise UnsupportedModel(
            f"{file.name} is a Stable Diffusion 2 checkpoint and does not say whether it predicts "
            f"noise or v; put its pipeline's configuration files into a folder {beside.name} "
            "beside it."
        )
    return _CONFIGURATIONS[checkpoint.family.name]


def checkpoint_configs(checkpoint: Checkpoint, folder: Path) -> ModelConfigs:
    """The configurations in `folder`, with what the file says of its schedule."""
    configs = read_configs(folder)
    said: dict[str, Any] = {}
    if checkpoint.prediction_type is not None:
        said["prediction_type"] = checkpoint.prediction_type
    if checkpoint.zero_terminal_snr:
        said["rescale_betas_zero_snr"] = True
    return replace(configs, scheduler={**configs.scheduler, **said})


def model_configs(source: Path) -> ModelConfigs:
    """The configurations of a pipeline folder or a single-file checkpoint.

    Raises UnsupportedModel, in one sentence, where it cannot be used.
    """
    if source.is_dir():
        return read_configs(source)
    checkpoint = inspect_checkpoint(source)
    return checkpoint_configs(checkpoint, configuration_folder(source, checkpoint))


def local_folder(model: str) -> Path | None:
    """Where a model's configurations lie on this machine; None where they are not here.

    Nothing is fetched. Raises UnsupportedModel for a file that cannot be used.
    """
    path = Path(model).expanduser()
    if path.is_file() and path.suffix == ".safetensors":
        checkpoint = inspect_checkpoint(path)
        try:
            return configuration_folder(path, checkpoint, fetch=False)
        except UnsupportedModel:
            return None
    if path.exists() or model == EMBEDDED_MODEL:
        return locate(model)
    return whole_snapshot(model)
