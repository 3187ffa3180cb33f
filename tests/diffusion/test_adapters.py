from __future__ import annotations

import json
import time
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
    copy_adapter,
    load_adapter,
    remove_adapter,
    save_adapter,
    using,
)
from inpo_studio.diffusion.conditioning import encode_prompts, predict_noise
from inpo_studio.diffusion.latents import initial_noise
from inpo_studio.diffusion.loading import Pipeline


def _predict(pipeline: Pipeline) -> Tensor:
    conditioning = encode_prompts(pipeline, ["a red house"])
    return predict_noise(pipeline, initial_noise(pipeline, [0]), torch.tensor([501]), conditioning)


def _shake(pipeline: Pipeline, name: str, seed: int = 0) -> None:
    """Give an adapter random values, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in adapter_parameters(pipeline.unet, name):
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


def _flags(pipeline: Pipeline) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in pipeline.unet.named_parameters()}


def test_a_new_adapter_changes_nothing_and_learns(pipeline: Pipeline) -> None:
    base = _predict(pipeline)
    attach_adapter(pipeline.unet, "policy", 4, 4.0, seed=1)
    assert active(pipeline.unet) == ([], [])
    activate(pipeline.unet, ["policy"])
    assert torch.equal(_predict(pipeline), base)
    _predict(pipeline).square().mean().backward()
    parameters = adapter_parameters(pipeline.unet, "policy")
    assert all(parameter.dtype == torch.float32 for _, parameter in parameters)
    assert any(bool(p.grad.abs().sum() > 0) for key, p in parameters if "lora_B" in key)
    assert {
        key.rsplit(".lora_", 1)[0].split("attn")[1].split(".", 1)[1] for key, _ in parameters
    } == {
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
    }
    trainable = {name for name, flag in _flags(pipeline).items() if flag}
    assert len(trainable) == len(parameters)


def test_the_start_is_a_function_of_the_seed(sd15: Pipeline) -> None:
    state = torch.get_rng_state()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        attach_adapter(sd15.unet, name, 4, 4.0, seed)
    a, b, c = (adapter_parameters(sd15.unet, name) for name in "abc")
    assert all(torch.equal(x, y) for (_, x), (_, y) in zip(a, b, strict=True))
    assert not torch.equal(a[0][1], c[0][1])
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(ValueError, match="already"):
        attach_adapter(sd15.unet, "a", 4, 4.0, 1)


def test_policy_and_reference_on_one_unet(pipeline: Pipeline) -> None:
    """PEFT's own switches would thaw the frozen reference and freeze the policy."""
    base = _predict(pipeline).detach()
    attach_adapter(pipeline.unet, "parent", 4, 8.0, seed=1)
    _shake(pipeline, "parent")
    for _, parameter in adapter_parameters(pipeline.unet, "parent"):
        parameter.requires_grad_(False)
    activate(pipeline.unet, ["parent"])
    reference = _predict(pipeline).detach()
    assert not torch.allclose(reference, base, atol=1e-3)

    attach_adapter(pipeline.unet, "policy", 4, 8.0, seed=2)
    assert active(pipeline.unet) == (["parent"], [1.0])
    copy_adapter(pipeline.unet, "parent", "policy")
    flags = _flags(pipeline)
    assert all(flag == (".policy." in name) for name, flag in flags.items())
    activate(pipeline.unet, ["policy"])
    assert torch.equal(_predict(pipeline), reference)

    _shake(pipeline, "policy", 3)
    moved = _predict(pipeline).detach()
    for _ in range(2):
        with using(pipeline.unet, ["parent"]):
            assert torch.equal(_predict(pipeline), reference)
            with using(pipeline.unet, []):
                assert torch.equal(_predict(pipeline), base)
        assert torch.equal(_predict(pipeline), moved)
    assert _flags(pipeline) == flags


def test_an_error_inside_using_restores(sd15: Pipeline) -> None:
    attach_adapter(sd15.unet, "a", 2, 2.0, 0)

    def interrupted() -> None:
        with using(sd15.unet, ["a"], [0.5]):
            assert active(sd15.unet) == (["a"], [0.5])
            raise InterruptedError

    with pytest.raises(InterruptedError):
        interrupted()
    assert active(sd15.unet) == ([], [])
    with pytest.raises(ValueError, match="no adapter 'b'"):
        activate(sd15.unet, ["b"])
    assert active(sd15.unet) == ([], [])


def test_weights_scale_and_adapters_add(sd15: Pipeline) -> None:
    base = _predict(sd15)
    attach_adapter(sd15.unet, "a", 2, 2.0, 0)
    attach_adapter(sd15.unet, "b", 2, 2.0, 1)
    _shake(sd15, "a")
    with using(sd15.unet, ["a"], [0.0]):
        assert torch.allclose(_predict(sd15), base, atol=1e-6)
    with using(sd15.unet, ["a"]):
        whole = _predict(sd15)
    with using(sd15.unet, ["a", "b"]):
        assert torch.allclose(_predict(sd15), whole, atol=1e-6)
    with using(sd15.unet, ["a"], [0.5]):
        assert not torch.allclose(_predict(sd15), whole, atol=1e-3)
    with using(sd15.unet, ["a"]):
        assert torch.equal(_predict(sd15), whole)


def test_removing_leaves_the_others(sd15: Pipeline) -> None:
    attach_adapter(sd15.unet, "a", 2, 2.0, 0)
    attach_adapter(sd15.unet, "b", 2, 2.0, 1)
    _shake(sd15, "b")
    activate(sd15.unet, ["b"])
    expected, flags = _predict(sd15), _flags(sd15)
    remove_adapter(sd15.unet, "a")
    assert adapter_names(sd15.unet) == ["b"]
    assert torch.equal(_predict(sd15), expected)
    assert all(flags[name] == flag for name, flag in _flags(sd15).items())
    remove_adapter(sd15.unet, "b")
    assert active(sd15.unet) == ([], [])


def test_saving_and_loading_keeps_every_bit(pipeline: Pipeline, tmp_path: Path) -> None:
    attach_adapter(pipeline.unet, "a", 4, 8.0, 0)
    _shake(pipeline, "a")
    first = save_adapter(pipeline.unet, "a", tmp_path / "one", {"round": "r", "base": "m"})
    second = save_adapter(pipeline.unet, "a", tmp_path / "two", {"base": "m", "round": "r"})
    assert first == second
    for name in ("adapter_model.safetensors", "pytorch_lora_weights.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    load_adapter(pipeline.unet, "b", tmp_path / "one")
    assert active(pipeline.unet) == ([], [])
    assert not any(p.requires_grad for _, p in adapter_parameters(pipeline.unet, "b"))
    with using(pipeline.unet, ["a"]):
        expected = _predict(pipeline)
    with using(pipeline.unet, ["b"]):
        assert torch.equal(_predict(pipeline), expected)
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
    _shake(pipeline, "a")
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
    _shake(sd15, "a")
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


def test_copying_between_different_adapters_is_refused(sd15: Pipeline) -> None:
    attach_adapter(sd15.unet, "a", 2, 2.0, 0)
    attach_adapter(sd15.unet, "b", 4, 4.0, 0)
    with pytest.raises(ValueError, match="differ"):
        copy_adapter(sd15.unet, "a", "b")


def test_switching_is_cheap(sd15: Pipeline) -> None:
    attach_adapter(sd15.unet, "a", 2, 2.0, 0)
    start = time.perf_counter()
    for _ in range(100):
        with using(sd15.unet, ["a"]):
            pass
    assert (time.perf_counter() - start) / 100 < 0.005
