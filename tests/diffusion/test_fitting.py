"""A loaded model fitted to the memory that is free."""

from __future__ import annotations

import pytest
import torch

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion import fitting
from inpo_studio.diffusion.adapters import activate, adapter_parameters, attach_adapter
from inpo_studio.diffusion.loading import Pipeline
from inpo_studio.diffusion.memory import MARGIN, ModelNeeds

from .support import predict, shake

CONFIG = RoundConfig(batch_pairs=8, micro_batch_pairs=4)


def limit(monkeypatch: pytest.MonkeyPatch, pipeline: Pipeline, pairs: int, saving: bool) -> None:
    """Leave just enough memory for so many pairs at once."""
    needs = ModelNeeds.of(pipeline.configs, size=(64, 64))
    wanted = needs.training("float32", pairs, CONFIG.rank, gradient_checkpointing=saving).total
    monkeypatch.setattr(fitting, "memory_for", lambda _: int(wanted / MARGIN) + 1)


def test_the_configured_micro_batch_stays_where_it_fits(sd15: Pipeline) -> None:
    found = fitting.fit_training(sd15, CONFIG, (64, 64))
    assert (found.micro_batch_pairs, found.gradient_checkpointing) == (4, False)
    assert not sd15.unet.is_gradient_checkpointing
    assert fitting.memory_for(sd15) > 0


def test_less_memory_means_fewer_pairs_then_checkpointing(
    sd15: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(monkeypatch, sd15, 2, saving=False)
    assert fitting.fit_training(sd15, CONFIG, (64, 64)).micro_batch_pairs == 2
    assert not sd15.unet.is_gradient_checkpointing
    limit(monkeypatch, sd15, 1, saving=True)
    found = fitting.fit_training(sd15, CONFIG, (64, 64))
    assert (found.micro_batch_pairs, found.gradient_checkpointing) == (1, True)
    assert sd15.unet.is_gradient_checkpointing
    monkeypatch.setattr(fitting, "memory_for", lambda _: 2**20)
    with pytest.raises(fitting.OutOfMemory, match="smaller model"):
        fitting.fit_training(sd15, CONFIG, (64, 64))


def test_checkpointing_changes_no_gradient(pipeline: Pipeline) -> None:
    """In evaluation mode and with adapters switched, as a round has it."""
    attach_adapter(pipeline.unet, "policy", 4, 4.0, seed=1)
    shake(pipeline, "policy")
    activate(pipeline.unet, ["policy"])

    def gradients() -> list[torch.Tensor]:
        parameters = [p for _, p in adapter_parameters(pipeline.unet, "policy")]
        loss = predict(pipeline).square().mean()
        return list(torch.autograd.grad(loss, parameters))

    whole = gradients()
    pipeline.unet.enable_gradient_checkpointing()
    for one, other in zip(gradients(), whole, strict=True):
        assert torch.allclose(one, other, rtol=1e-5, atol=1e-8)


def test_want_of_memory_is_told_from_other_errors() -> None:
    assert fitting.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried ..."))
    assert fitting.is_out_of_memory(RuntimeError("MPS backend out of memory (used 9 GB)"))
    refused = "[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"
    assert fitting.is_out_of_memory(RuntimeError(refused))
    assert fitting.is_out_of_memory(MemoryError())
    assert not fitting.is_out_of_memory(RuntimeError("shapes do not match"))
    assert not fitting.is_out_of_memory(ValueError("out of memory"))
    fitting.release_memory(torch.device("cpu"))
