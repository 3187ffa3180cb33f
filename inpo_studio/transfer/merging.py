"""A model with its adapter added into the weights: a full model that needs no adapter any more.

The output is a diffusers folder, or one file in the original layout, which is what ComfyUI and
AUTOMATIC1111 read. Tensors pass one by one, so that little memory is needed; the arithmetic is
float32 and the result is stored as precisely as the weight was.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np

from inpo_studio.diffusion.hub import wanted_files
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import AdapterWeights
from inpo_studio.transfer.export_adapter import (
    RoundAdapter,
    check_target,
    model_source,
    read_round_adapter,
)
from inpo_studio.transfer.folders import new_folder
from inpo_studio.transfer.original import UNET_PREFIX, UnetLayout
from inpo_studio.transfer.provenance import metadata
from inpo_studio.transfer.single_files import Source, original_tensors
from inpo_studio.transfer.tensors import Tensor, TensorFile, float_tensor, write_tensors
from storage.schema import Round


def merge(studio: Studio, round_: Round, target: Path, scale: float = 1.0) -> list[Path]:
    """Write the model with a round's adapter merged in at `scale`; returns the files.

    `target` is a new `.safetensors` file, or a new folder where the model is a pipeline folder.
    Raises StudioError, with nothing written.
    """
    check_target(target, None)
    found = read_round_adapter(studio, round_)
    source = model_source(round_.model)
    if target.suffix != ".safetensors":
        if source.is_file():
            raise StudioError(
                f"The model {source.name} is a single file; name a new .safetensors file."
            )
        _merge_folder(source, target, found.weights, scale)
        return sorted(path for path in target.absolute().rglob("*") if path.is_file())
    merged = _Merged(found.weights, scale)
    if source.is_file():
        tensors = _from_file(source, merged, UnetLayout.of(found.configs.unet))
    else:
        family = found.facts.family
        tensors = dict(original_tensors(source, family, found.configs, merged.tensor))
        if family.name == "sdxl" and found.facts.prediction == "v_prediction":
            tensors["v_pred"] = float_tensor(np.zeros(0))  # how other programs tell
    merged.check_all_used()
    write_tensors(target, tensors, _facts(found, target, scale))
    return [target.absolute()]


class _Merged:
    """The adapter's part in each weight, and which parts have found their weight."""

    def __init__(self, adapter: AdapterWeights, scale: float) -> None:
        self.adapter = adapter
        self._scale = np.float32(scale)
        self._left = set(adapter.layers)

    def add(self, source: Source, module: str) -> Tensor:
        """The weight of a UNet's module with the adapter's part; others as they are."""
        if module not in self.adapter.layers:
            return source.tensor
        self._left.discard(module)
        layer = self.adapter.layers[module]
        shape = source.file.shape(source.name)
        if shape[:2] != (layer.up.shape[0], layer.down.shape[1]):
            raise StudioError(f"The adapter's {module} does not fit the model; use its own model.")
        dtype = source.tensor.dtype

        def data() -> bytes | memoryview:
            delta = self.adapter.delta(module).reshape(shape)
            weight = source.file.floats(source.name) + self._scale * delta
            return float_tensor(weight, dtype).data()

        return Tensor(dtype, shape, data)

    def tensor(self, source: Source) -> Tensor:
        """The same for a tensor of a pipeline folder's UNet."""
        return self.add(source, source.name.removesuffix(".weight"))

    def check_all_used(self) -> None:
        """Raise StudioError when a layer of the adapter has found no weight."""
        if self._left:
            raise StudioError(
                f"The model has no weight for the adapter's {sorted(self._left)[0]}; use the model "
                "it was made for."
            )


def _facts(found: RoundAdapter, target: Path, scale: float) -> dict[str, str]:
    """ModelSpec metadata of a merged single file: a model, not a LoRA."""
    facts = metadata(found.facts, target.stem)
    kept = {key: value for key, value in facts.items() if not key.startswith("ss_")}
    kept["modelspec.architecture"] = kept["modelspec.architecture"].removesuffix("/lora")
    kept["modelspec.implementation"] = "https://github.com/Stability-AI/generative-models"
    kept["modelspec.title"] += f", merged at {scale:g}"
    kept.pop("modelspec.usage_hint", None)
    return {**kept, "format": "pt"}


def _from_file(source: Path, merged: _Merged, layout: UnetLayout) -> dict[str, Tensor]:
    """All tensors of a single file, the adapted ones changed."""
    file = TensorFile(source)
    modules = {
        f"{UNET_PREFIX}{layout.name(module)}.weight": module for module in merged.adapter.layers
    }
    return {name: merged.add(Source(file, name), modules.get(name, "")) for name in file}


def _merge_folder(source: Path, target: Path, adapter: AdapterWeights, scale: float) -> None:
    """Copy a pipeline folder, the adapted weights changed."""
    merged = _Merged(adapter, scale)
    names = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
    with new_folder(target) as folder:
        wanted = wanted_files(names, half=False)
        for name in wanted:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name.startswith("unet/") and name.endswith(".safetensors"):
                file = TensorFile(source / name)
                tensors = {each: merged.tensor(Source(file, each)) for each in file}
                write_tensors(folder / name, tensors, file.metadata)
            else:
                shutil.copyfile(source / name, folder / name)
        _leave_out_the_rest(folder / "model_index.json")
        merged.check_all_used()


def _leave_out_the_rest(index: Path) -> None:
    """Say of the parts that are not beside `index`, such as a safety checker, that there are none:
    else diffusers looks for them and does not load the folder."""
    parts = json.loads(index.read_text("utf-8"))
    for name, value in parts.items():
        if isinstance(value, list) and not (index.parent / name).is_dir():
            parts[name] = [None, None]
    index.write_text(json.dumps(parts, indent=2) + "\n", "utf-8")
