"""A LoRA of somebody else's, read from a file or folder: layers under their file's own names."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import DIFFUSERS_FILE, PEFT_CONFIG, PEFT_FILE, Form
from inpo_studio.transfer.lora_names import Part, TensorName, read_name
from inpo_studio.transfer.tensors import Floats, TensorFile

_PICKLED = (".bin", ".ckpt", ".pt", ".pth", ".pkl")
MOST_TENSORS = 50_000
"""A LoRA of every layer of SDXL, text encoders included, has some 8,000."""


@dataclass(frozen=True)
class ForeignLayer:
    """A layer of a LoRA: what is added to a weight is scale * up @ down."""

    down: Floats
    """(rank, inputs), where the places of a convolution's kernel are inputs too"""
    up: Floats
    """(outputs, rank)"""
    scale: float


@dataclass(frozen=True)
class ForeignLora:
    """A LoRA file as it was found."""

    file: Path
    form: Form
    layers: Mapping[str, ForeignLayer]
    """By the name of the layer in the file."""
    text_layers: int
    """Layers of text encoders, which are not read."""


def find_lora(path: Path) -> Path:
    """The LoRA file that `path` names: itself, or the one in a folder.

    Raises StudioError, one sentence, where there is none, several, or a pickled one.
    """
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():
        raise StudioError(f"There is no file {path}; give a .safetensors file or a folder.")
    if path.suffix in _PICKLED:
        raise StudioError(
            f"{path.name} is pickled, so opening it could run code; get the LoRA as .safetensors, "
            "or, where you trust it, convert it with the program that made it."
        )
    if path.suffix != ".safetensors":
        raise StudioError(f"{path.name} is not a .safetensors file; give a LoRA in that form.")
    return path


def _in_folder(folder: Path) -> Path:
    names = [path.name for path in folder.iterdir() if path.is_file()]
    return folder / choose_file(names, str(folder), "name one of them")


def choose_file(names: Iterable[str], place: str, of_several: str) -> str:
    """The LoRA's file among a folder's file names.

    Raises StudioError, one sentence, where there is none or several; `place` is what holds them,
    `of_several` what to do then.
    """
    names = sorted(names)
    for name in (DIFFUSERS_FILE, PEFT_FILE):
        if name in names:
            return name
    found = [name for name in names if name.endswith(".safetensors")]
    if len(found) == 1:
        return found[0]
    if found:
        raise StudioError(f"{place} holds {len(found)} .safetensors files; {of_several}.")
    pickled = next((name for name in names if name.endswith(_PICKLED)), None)
    if pickled is not None:
        raise StudioError(
            f"{place} holds {pickled}, which is pickled, so opening it could run code; get "
            "the LoRA as .safetensors."
        )
    raise StudioError(f"{place} holds no .safetensors file; give the folder of a LoRA.")


def read_lora(file: Path) -> ForeignLora:
    """Read a LoRA in any of the three forms; StudioError says what is wrong with it."""
    stored = TensorFile(file)
    parts: dict[str, dict[Part, str]] = {}
    named: list[TensorName] = []
    text: set[str] = set()
    for count, tensor in enumerate(stored):
        if count >= MOST_TENSORS:
            raise StudioError(f"{file.name} is no LoRA: it holds more than {count} tensors.")
        name = read_name(file.name, tensor)
        named.append(name)
        if name.of_text:
            text.add(name.layer)
        elif name.part in parts.setdefault(name.layer, {}):
            raise StudioError(f"{file.name} holds the layer {name.layer} twice; get it anew.")
        else:
            parts[name.layer][name.part] = tensor
    forms = {name.form for name in named}
    if not forms:
        raise StudioError(f"{file.name} is empty; give the file of a LoRA.")
    form: Form = "kohya" if "kohya" in forms else "peft" if "peft" in forms else "diffusers"
    strengths = _strengths(stored, form)
    layers = {layer: _layer(stored, layer, found, strengths) for layer, found in parts.items()}
    return ForeignLora(file, form, layers, len(text))


def _layer(
    stored: TensorFile, layer: str, found: Mapping[Part, str], strengths: _Strengths
) -> ForeignLayer:
    file = stored.path.name
    if "down" not in found or "up" not in found:
        raise StudioError(f"{file} lacks a part of the layer {layer}; download it again.")
    down, up = (_matrix(stored, found[part]) for part in ("down", "up"))
    rank = down.shape[0]
    if not rank or up.shape[1] != rank:
        raise StudioError(
            f"The two parts of {layer} in {file} do not fit each other; download it again."
        )
    scale = strengths.scale(layer, rank)
    if "alpha" in found:
        alpha = stored.floats(found["alpha"])
        if alpha.size != 1:
            raise StudioError(f"The alpha of {layer} in {file} is no number; download it again.")
        # Zero stands for "as the rank", as in kohya's own reader.
        scale = float(alpha.reshape(())) / rank or 1.0
    if not np.isfinite(scale) or scale <= 0:
        raise StudioError(f"The alpha of {layer} in {file} is not positive; download it again.")
    return ForeignLayer(down, up, scale)


def _matrix(stored: TensorFile, name: str) -> Floats:
    """A matrix; that of a convolution has a column for each place of its kernel."""
    values = stored.floats(name)
    if values.ndim not in (2, 4):
        raise StudioError(f"{stored.path.name} is no LoRA: {name} is no matrix.")
    return values.reshape(values.shape[0], -1)


@dataclass(frozen=True)
class _Strengths:
    """What a file's configuration says of alpha: PEFT's words for it."""

    facts: Mapping[str, Any]

    def scale(self, layer: str, rank: int) -> float:
        """alpha / rank of a layer; without any word on it alpha is the rank, as in diffusers."""
        alpha = self._matching(layer)
        if alpha is None:
            return 1.0
        return alpha / (rank**0.5 if self.facts.get("use_rslora") else rank)

    def _matching(self, layer: str) -> float | None:
        """PEFT matches the ends of names: `to_q` is every to_q."""
        for pattern, alpha in (self.facts.get("alpha_pattern") or {}).items():
            if re.fullmatch(rf"(.*\.)?({pattern})", layer):
                return float(alpha)
        alpha = self.facts.get("lora_alpha")
        return None if alpha is None else float(alpha)


def _strengths(stored: TensorFile, form: Form) -> _Strengths:
    try:
        if form == "peft":
            facts = json.loads(stored.path.with_name(PEFT_CONFIG).read_text("utf-8"))
        else:
            said = json.loads(stored.metadata.get("lora_adapter_metadata", "{}"))
            marked = [name for name in said if name.startswith("unet.")]
            facts = {name.removeprefix("unet."): said[name] for name in marked}
        strengths = _Strengths(facts)
        strengths.scale("", 1)  # whether it can be read at all
    except FileNotFoundError as error:
        raise StudioError(
            f"{PEFT_CONFIG} is missing beside {stored.path.name}, and the strength stands in it; "
            "give the whole folder."
        ) from error
    except (OSError, ValueError, TypeError, AttributeError, re.error) as error:
        raise StudioError(
            f"The configuration of {stored.path.name} is damaged; download it again."
        ) from error
    if facts.get("use_dora"):
        raise StudioError(
            f"{stored.path.name} is a DoRA, which a round cannot go on from; merge it into the "
            "model with the program that made it, and open the merged model."
        )
    return strengths
