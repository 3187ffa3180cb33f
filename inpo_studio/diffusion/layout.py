"""What lies in a pipeline's folder: whether all of it is there, and how large it is. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path

from inpo_studio.diffusion.families import Family, UnsupportedModel, read_configs, recognise
from inpo_studio.diffusion.hub import snapshot_folder, wanted_files, weight_sets

HALF_PRECISION = "fp16"


def networks(family: Family) -> list[str]:
    """The folders of a family's networks within a pipeline's."""
    return ["unet", "vae", *(spec.folder for spec in family.text_encoders)]


def variant(component: Path) -> str | None:
    """None where a network's full weights are there, 'fp16' where only those are.

    Raises FileNotFoundError where neither is.
    """
    whole, halves = weight_sets(path.name for path in component.glob("*.safetensors"))
    if whole:
        return None
    if halves:
        return HALF_PRECISION
    raise FileNotFoundError(component)


def missing(folder: Path) -> list[str]:
    """What of a pipeline is not in its folder: names of networks and tokenizers.

    Raises UnsupportedModel where the folder holds no pipeline of a family here.
    """
    family = recognise(read_configs(folder))
    lacking = [name for name in networks(family) if not _complete(folder / name)]
    tokenizers = {spec.tokenizer_folder for spec in family.text_encoders}
    return lacking + sorted(name for name in tokenizers if not _tokenizer_there(folder / name))


def whole_snapshot(repository: str) -> Path | None:
    """The folder of a repository in the Hub's cache if all of the pipeline is there.

    A download that was stopped leaves a folder that is not. Raises UnsupportedModel for a model of
    no family here.
    """
    folder = snapshot_folder(repository)
    if folder is None or not (folder / "unet" / "config.json").is_file():
        return None
    return None if missing(folder) else folder


def configurations_there(folder: Path) -> bool:
    """Whether a folder holds the configurations and tokenizers of a pipeline, weights or not."""
    try:
        family = recognise(read_configs(folder))
    except UnsupportedModel:
        return False
    return all(
        _tokenizer_there(folder / spec.tokenizer_folder)
        and (folder / spec.folder / "config.json").is_file()
        for spec in family.text_encoders
    )


def bytes_on_disk(source: Path) -> int:
    """Bytes that a model takes: of its single file, or of those files of its folder it needs."""
    if source.is_file():
        return source.stat().st_size
    names = [p.relative_to(source).as_posix() for p in source.glob("*/*") if p.is_file()]
    return sum((source / name).stat().st_size for name in wanted_files(names, half=False))


def _complete(component: Path) -> bool:
    """Whether a network's configuration and one whole set of weights are there."""
    names = [path.name for path in component.glob("*") if path.is_file()]
    weights = {name for one in weight_sets(names) for name in one}
    if "config.json" not in names or not weights:
        return False
    if not any("-of-" in name for name in weights):
        return True
    indices = [name for name in names if ".safetensors.index." in name]
    return any(_shards(component / name) <= weights for name in indices)


def _shards(index: Path) -> set[str]:
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError):
        return {""}  # which no folder has


def _tokenizer_there(folder: Path) -> bool:
    names = {path.name for path in folder.glob("*")}
    return "tokenizer.json" in names or {"vocab.json", "merges.txt"} <= names
