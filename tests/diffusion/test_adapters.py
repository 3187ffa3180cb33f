from __future__ import annotations

import time

import pytest
import torch

from inpo_studio.diffusion.adapters import (
    activate,
    active,
    adapter_names,
    adapter_parameters,
    attach_adapter,
    copy_adapter,
    remove_adapter,
    using,
)
from inpo_studio.diffusion.loading import Pipeline

from .support import predict, shake


def _flags(pipeline: Pipeline) -> dict[str, bool]:
    return {name: parameter.requires_grad for name, parameter in pipeline.unet.named_parameters()}


def test_a_new_adapter_changes_nothing_and_learns(pipeline: Pipeline) -> None:
    base = predict(pipeline)
    attach_adapter(pipeline.unet, "policy", 4, 4.0, seed=1)
    assert active(pipeline.unet) == ([], [])
    activate(pipeline.unet, ["policy"])
    assert torch.equal(predict(pipeline), base)
    predict(pipeline).square().mean().backward()
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
    assert all(parameter.requires_grad for _, parameter in [*a, *b, *c])
    with pytest.raises(ValueError, match="already"):
        attach_adapter(sd15.unet, "a", 4, 4.0, 1)


def test_policy_and_reference_on_one_unet(pipeline: Pipeline) -> None:
    """PEFT's own switches would thaw the frozen reference and freeze the policy."""
    base = predict(pipeline).detach()
    attach_adapter(pipeline.unet, "parent", 4, 8.0, seed=1)
    shake(pipeline, "parent")
    for _, parameter in adapter_parameters(pipeline.unet, "parent"):
        parameter.requires_grad_(False)
    activate(pipeline.unet, ["parent"])
    reference = predict(pipeline).detach()
    assert not torch.allclose(reference, base, atol=1e-3)

    attach_adapter(pipeline.unet, "policy", 4, 8.0, seed=2)
    assert active(pipeline.unet) == (["parent"], [1.0])
    copy_adapter(pipeline.unet, "parent", "policy")
    flags = _flags(pipeline)
    assert all(flag == (".policy." in name) for name, flag in flags.items())
    activate(pipeline.unet, ["policy"])
    assert torch.equal(predict(pipeline), reference)

    shake(pipeline, "policy", 3)
    moved = predict(pipeline).detach()
    for _ in range(2):
        with using(pipeline.unet, ["parent"]):
            assert torch.equal(predict(pipeline), reference)
            with using(pipeline.unet, []):
                assert torch.equal(predict(pipeline), base)
        assert torch.equal(predict(pipeline), moved)
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
    base = predict(sd15)
    attach_adapter(sd15.unet, "a", 2, 2.0, 0)
    attach_adapter(sd15.unet, "b", 2, 2.0, 1)
    shake(sd15, "a")
    with using(sd15.unet, ["a"], [0.0]):
        assert torch.allclose(predict(sd15), base, atol=1e-6)
    with using(sd15.unet, ["a"]):
        whole = predict(sd15)
    with using(sd15.unet, ["a", "b"]):
        assert torch.allclose(predict(sd15), whole, atol=1e-6)
    with using(sd15.unet, ["a"], [0.5]):
        assert not torch.allclose(predict(sd15), whole, atol=1e-3)
    with using(sd15.unet, ["a"]):
        assert torch.equal(predict(sd15), whole)


def test_removing_leaves_the_others(sd15: Pipeline) -> None:
    attach_adapter(sd15.unet, "a", 2, 2.0, 0)
    attach_adapter(sd15.unet, "b", 2, 2.0, 1)
    shake(sd15, "b")
    activate(sd15.unet, ["b"])
    expected, flags = predict(sd15), _flags(sd15)
    remove_adapter(sd15.unet, "a")
    assert adapter_names(sd15.unet) == ["b"]
    assert torch.equal(predict(sd15), expected)
    assert all(flags[name] == flag for name, flag in _flags(sd15).items())
    remove_adapter(sd15.unet, "b")
    assert active(sd15.unet) == ([], [])


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
