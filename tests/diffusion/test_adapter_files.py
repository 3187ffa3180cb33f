from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from inpo_studio.diffusion.adapters import (
    activate,
    active,
    adapter_names,
    adapter_parameters,
    attach_adapter,
    load_adapter,
    save_adapter,
    using,
)
from inpo_studio.diffusion.conditioning import encode_prompts
from inpo_studio.diffusion.latents import initial_noise
from inpo_studio.diffusion.loading import Pipeline

from .support import predict, shake


def test_saving_and_loading_keeps_every_bit(pipeline: Pipeline, tmp_path: Path) -> None:
    attach_adapter(pipeline.unet, "a", 4, 8.0, 0)
    shake(pipeline, "a")
    first = save_adapter(pipeline.unet, "a", tmp_path / "one", {"round": "r", "base": "m"})
    second = save_adapter(pipeline.unet, "a", tmp_path / "two", {"base": "m", "round": "r"})
    assert first == second
    for name in ("adapter_model.safetensors", "pytorch_lora_weights.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    load_adapter(pipeline.unet, "b", tmp_path / "one")
    assert active(pipeline.unet) == ([], [])
    assert not any(p.requires_grad for _, p in adapter_parameters(pipeline.unet, "b"))
    with using(pipeline.unet, ["a"]):
        expected = predict(pipeline)
    with using(pipeline.unet, ["b"]):
        assert torch.equal(predict(pipeline), expected)
    load_adapter(pipeline.unet, "c", tmp_path / "one", trainable=True)
    assert all(p.requires_grad for _, p in adapter_parameters(pipeline.unet, "c"))


@pytest.mark.parametrize("alpha", [4.0, 8.0])
def test_plain_diffusers_loads_the_folder_at_the_right_strength(
    kind: str,
    alpha: float,
    pipeline: Pipeline,
    diffusers_pipeline: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    attach_adapter(pipeline.unet, "a", 4, alpha, 0)
    shake(pipeline, "a")
    save_adapter(pipeline.unet, "a", tmp_path)
    activate(pipeline.unet, ["a"])
    conditioning = encode_prompts(pipeline, ["a red house"])
    x_t, timesteps = initial_noise(pipeline, [0]), torch.tensor([501])

    def prediction(unet: Any) -> Tensor:
        return unet(
            x_t, timesteps, conditioning.embeddings, added_cond_kwargs=conditioning.added
        ).sample

    pipe = diffusers_pipeline(kind)
    assert not torch.allclose(prediction(pipe.unet), prediction(pipeline.unet), atol=1e-2)
    pipe.load_lora_weights(tmp_path)
    assert torch.allclose(prediction(pipe.unet), prediction(pipeline.unet), atol=1e-5)


def test_peft_loads_the_folder(
    sd15: Pipeline, diffusers_pipeline: Callable[[str], Any], tmp_path: Path
) -> None:
    from peft import PeftModel

    attach_adapter(sd15.unet, "a", 4, 8.0, 0)
    shake(sd15, "a")
    save_adapter(sd15.unet, "a", tmp_path, {"round": "r"})
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert all(key.startswith("base_model.model.") for key in tensors)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["lora_alpha"] == 8.0
    model = PeftModel.from_pretrained(diffusers_pipeline("sd15").unet, tmp_path)
    activate(sd15.unet, ["a"])
    x_t, embeddings = initial_noise(sd15, [0]), encode_prompts(sd15, ["a"]).embeddings
    theirs = model(x_t, 501, embeddings).sample
    assert torch.allclose(theirs, sd15.unet(x_t, 501, embeddings).sample, atol=1e-5)


def test_damaged_or_foreign_adapters_are_refused(
    sd15: Pipeline, tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    from inpo_studio.diffusion.loading import load_pipeline

    with pytest.raises(ValueError, match="missing or damaged"):
        load_adapter(sd15.unet, "a", tmp_path)
    attach_adapter(sd15.unet, "mine", 2, 2.0, 0)
    save_adapter(sd15.unet, "mine", tmp_path / "mine")
    other = load_pipeline(str(tiny_model("sdxl")), device="cpu")
    with pytest.raises(ValueError, match="another model"):
        load_adapter(other.unet, "a", tmp_path / "mine")
    assert adapter_names(other.unet) == []
    config = tmp_path / "mine" / "adapter_config.json"
    written = config.read_text()
    config.write_text(written.replace("to_q", "nowhere").replace("to_", "nowhere_"))
    with pytest.raises(ValueError, match="another model"):
        load_adapter(sd15.unet, "a", tmp_path / "mine")
    assert adapter_names(sd15.unet) == ["mine"]
    config.write_text(written)
    weights = tmp_path / "mine" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ValueError, match="missing or damaged"):
        load_adapter(sd15.unet, "a", tmp_path / "mine")
