"""Small single-file checkpoints, made on the spot from the small pipelines."""

from __future__ import annotations

import shutil
from pathlib import Path

from inpo_studio.diffusion.families import read_configs, recognise
from inpo_studio.transfer.single_files import original_tensors
from inpo_studio.transfer.tensors import write_tensors


def build_single_file(pipeline: Path, file: Path, *, configurations: bool = True) -> Path:
    """Write the pipeline folder as one .safetensors file, its configurations beside it."""
    configs = read_configs(pipeline)
    write_tensors(file, dict(original_tensors(pipeline, recognise(configs), configs)), {})
    if configurations:
        copy_configurations(pipeline, file.with_suffix(""))
    return file


def copy_configurations(pipeline: Path, folder: Path) -> None:
    """Everything of a pipeline but its weights."""
    shutil.copytree(pipeline, folder, ignore=shutil.ignore_patterns("*.safetensors"))
