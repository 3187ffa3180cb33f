"""What of the UNet a policy adapts: as configured, or what its parent adapts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inpo_studio.configs import AdaptedLayers, RoundConfig
from inpo_studio.diffusion.adapters import remove_adapter, save_adapter
from inpo_studio.diffusion.loading import load_pipeline
from inpo_studio.training.policy import POLICY, Policy


def adapted(policy: Policy) -> set[str]:
    """The ends of the adapted layers' names."""
    layers = {name.rsplit(".lora_", 1)[0] for name, _ in policy.parameters()}
    return {layer.removesuffix(".0").rsplit(".", 1)[1] for layer in layers}


ATTENTION = {"to_q", "to_k", "to_v", "to_out"}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [("attention", ATTENTION), ("attention_and_convolutions", {*ATTENTION, "conv1", "conv2"})],
)
def test_a_first_round_adapts_what_is_configured(
    tiny_model: Callable[[str], Path], layers: AdaptedLayers, expected: set[str]
) -> None:
    pipeline = load_pipeline(str(tiny_model("sd15")))
    config = RoundConfig(rank=2, alpha=2.0, adapted_layers=layers)
    assert adapted(Policy.build(pipeline, config, None)) == expected


def test_a_later_round_adapts_what_its_parent_adapts(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    pipeline = load_pipeline(str(tiny_model("sd15")))
    config = RoundConfig(rank=2, alpha=2.0, adapted_layers="attention")
    first = Policy.build(pipeline, config, None)
    with torch.no_grad():
        for _, parameter in first.parameters():
            parameter.add_(0.1)
    save_adapter(pipeline.unet, POLICY, tmp_path / "parent")
    before = {name: parameter.detach().clone() for name, parameter in first.parameters()}
    remove_adapter(pipeline.unet, POLICY)

    other = config.model_copy(update={"adapted_layers": "attention_and_convolutions"})
    second = Policy.build(pipeline, other, tmp_path / "parent")
    assert adapted(second) == ATTENTION
    assert all(torch.equal(before[name], value) for name, value in second.parameters())
