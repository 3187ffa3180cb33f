"""A pipeline folder's networks as one file in the original layout, tensor by tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from inpo_studio.diffusion.families import Family, ModelConfigs
from inpo_studio.diffusion.hub import wanted_files
from inpo_studio.transfer.original import (
    CLIP_PREFIX,
    OPEN_CLIP_PREFIX,
    SDXL_CLIP_PREFIX,
    SDXL_OPEN_CLIP_PREFIX,
    UNET_PREFIX,
    VAE_PREFIX,
    UnetLayout,
    attention,
    open_clip_name,
    vae_name,
)
from inpo_studio.transfer.tensors import Tensor, TensorFile, float_tensor

_UNUSED_LAYER = 23
"""SD 2's text encoder had a last layer that is never used; diffusers leaves it out."""


@dataclass(frozen=True)
class Source:
    """A tensor of a model, and the file it is in."""

    file: TensorFile
    name: str

    @property
    def tensor(self) -> Tensor:
        """The tensor as it is stored."""
        return self.file.stored(self.name)


def original_tensors(
    folder: Path,
    family: Family,
    configs: ModelConfigs,
    unet_tensor: Callable[[Source], Tensor] = lambda source: source.tensor,
) -> Iterator[tuple[str, Tensor]]:
    """A pipeline folder's networks under their original names; the UNet's through `unet_tensor`.

    Raises StudioError for a part that the original layout does not have.
    """
    layout = UnetLayout.of(configs.unet)
    for source in component(folder, "unet"):
        yield UNET_PREFIX + layout.name(source.name), unet_tensor(source)
    blocks = len(configs.vae["block_out_channels"])
    for source in component(folder, "vae"):
        yield VAE_PREFIX + vae_name(source.name, blocks), _vae_tensor(source)
    for name, prefix, is_open_clip in _text_encoders(family):
        parts = {_text_part(source.name): source for source in component(folder, name)}
        yield from _open_clip(parts, prefix) if is_open_clip else _clip(parts, prefix)


def _text_encoders(family: Family) -> list[tuple[str, str, bool]]:
    """Folder, prefix in a single file, and whether it is in OpenCLIP's form there."""
    if family.name == "sd":
        return [("text_encoder", CLIP_PREFIX, False)]
    if family.name == "sd2":
        return [("text_encoder", OPEN_CLIP_PREFIX, True)]
    return [
        ("text_encoder", SDXL_CLIP_PREFIX, False),
        ("text_encoder_2", SDXL_OPEN_CLIP_PREFIX, True),
    ]


def component(folder: Path, name: str) -> Iterator[Source]:
    """All tensors of a pipeline's part, from one file or several."""
    names = [f"{name}/{path.name}" for path in (folder / name).iterdir()]
    for file_name in wanted_files(names, half=False):
        if file_name.endswith(".safetensors"):
            file = TensorFile(folder / file_name)
            yield from (Source(file, tensor) for tensor in file)


def _vae_tensor(source: Source) -> Tensor:
    """Attention is made of 1x1 convolutions in the original."""
    tensor = source.tensor
    if ".attentions." in source.name and len(tensor.shape) == 2:
        return Tensor(tensor.dtype, (*tensor.shape, 1, 1), tensor.data)
    return tensor


def _text_part(name: str) -> str:
    """A text encoder's tensor without the prefix that depends on the library's version."""
    return name.removeprefix("text_model.")


def _clip(parts: Mapping[str, Source], prefix: str) -> Iterator[tuple[str, Tensor]]:
    for part, source in parts.items():
        yield f"{prefix}text_model.{part}", source.tensor


def _open_clip(parts: Mapping[str, Source], prefix: str) -> Iterator[tuple[str, Tensor]]:
    thirds: dict[str, dict[str, Source]] = {}
    made: dict[str, Tensor] = {}
    for part, source in parts.items():
        third = attention(part)
        if third is not None:
            thirds.setdefault(third[0], {})[third[1]] = source
        elif part == "text_projection.weight":
            projection = source.file.floats(source.name)
            made["text_projection"] = float_tensor(projection.T, source.tensor.dtype)
        elif not part.endswith("position_ids"):
            made[open_clip_name(part)] = source.tensor
    made |= {name: _stacked([found[each] for each in "qkv"]) for name, found in thirds.items()}
    last = f"transformer.resblocks.{_UNUSED_LAYER - 1}."
    behind = f"transformer.resblocks.{_UNUSED_LAYER}."
    if prefix == OPEN_CLIP_PREFIX and not any(name.startswith(behind) for name in made):
        # Other programs expect the unused layer to be there.
        copies = {name.replace(last, behind): t for name, t in made.items() if last in name}
        made |= copies
    yield from ((prefix + name, tensor) for name, tensor in made.items())


def _stacked(sources: list[Source]) -> Tensor:
    """Queries, keys and values as one tensor, one below the other."""
    tensors = [source.tensor for source in sources]
    shape = (sum(tensor.shape[0] for tensor in tensors), *tensors[0].shape[1:])
    return Tensor(
        tensors[0].dtype, shape, lambda: b"".join(bytes(tensor.data()) for tensor in tensors)
    )
