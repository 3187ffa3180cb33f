"""kohya's names: written down here by hand, for the small models and the real ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from inpo_studio.diffusion.families import SD, SD2, SDXL
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import kohya_name
from inpo_studio.transfer.export_adapter import export_adapter
from inpo_studio.transfer.original import UnetLayout

from .conftest import Aligned

WEIGHTS = [f"attn{n}_{part}" for n in (1, 2) for part in ("to_k", "to_out_0", "to_q", "to_v")]
SDXL_PLACES = {
    **{f"input_blocks_{n}_1": depth for n, depth in ((4, 2), (5, 2), (7, 10), (8, 10))},
    "middle_block_1": 10,
    **{f"output_blocks_{n}_1": 10 if n < 3 else 2 for n in range(6)},
}


def keys(places: dict[str, int]) -> set[str]:
    return {
        f"lora_unet_{place}_transformer_blocks_{block}_{weight}.{part}"
        for place, depth in places.items()
        for block in range(depth)
        for weight in WEIGHTS
        for part in ("alpha", "lora_down.weight", "lora_up.weight")
    }


SMALL = {
    "sd15": {
        "down_blocks_1_attentions_0": 1,
        "mid_block_attentions_0": 1,
        "up_blocks_0_attentions_0": 1,
        "up_blocks_0_attentions_1": 1,
    },
    "sdxl": {
        "input_blocks_3_1": 2,
        "middle_block_1": 2,
        "output_blocks_0_1": 2,
        "output_blocks_1_1": 2,
    },
}
SMALL["sd2v"] = SMALL["sd15"]


@pytest.mark.parametrize("kind", sorted(SMALL))
def test_a_file_has_exactly_kohyas_keys(
    kind: str, studio: Studio, align: Callable[..., Aligned], tmp_path: Path
) -> None:
    made = align(kind, alpha=2.0)
    export_adapter(studio, made.round, tmp_path / "one.safetensors")
    tensors = load_file(tmp_path / "one.safetensors")
    assert set(tensors) == keys(SMALL[kind])
    for name, value in tensors.items():
        if name.endswith(".alpha"):
            assert value.shape == ()
            assert float(value) == 2.0
        else:
            assert value.ndim == 2


def test_the_real_unets_are_named_as_kohya_names_them() -> None:
    unet = UnetLayout(2, (False, True, True, True))
    first = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0"
    for family in (SD, SD2):
        assert kohya_name(first, family, unet) == (
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_out_0"
        )
    big = UnetLayout(2, (True, True, False))
    depths = {"down_blocks.1": 2, "down_blocks.2": 10, "up_blocks.0": 10, "up_blocks.1": 2}
    modules = ["mid_block.attentions.0"] * 10
    names = {
        kohya_name(f"{block}.attentions.{n}.transformer_blocks.{d}.{w}", SDXL, big)
        for block, depth in depths.items()
        for n in range(3 if block.startswith("up") else 2)
        for d in range(depth)
        for w in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
    } | {
        kohya_name(f"{module}.transformer_blocks.{d}.{w}", SDXL, big)
        for d, module in enumerate(modules)
        for w in ("attn1.to_q", "attn1.to_k", "attn1.to_v", "attn1.to_out.0")
    }
    expected = {key.removesuffix(".alpha") for key in keys(SDXL_PLACES) if key.endswith(".alpha")}
    assert names == {name for name in expected if "attn1" in name}


def test_parts_without_a_name_are_refused() -> None:
    layout = UnetLayout(2, (True, True, False))
    with pytest.raises(StudioError, match="no name in single-file"):
        layout.name("encoder_hid_proj")
    with pytest.raises(StudioError, match="different numbers of layers"):
        UnetLayout.of({"layers_per_block": [2, 3], "up_block_types": ["UpBlock2D"] * 2})


@pytest.mark.parametrize(
    "layout", [UnetLayout(2, (False, True, True, True)), UnetLayout(1, (True,))]
)
def test_names_lead_back_to_their_modules(layout: UnetLayout) -> None:
    blocks = len(layout.attention_up)
    layers = layout.layers_per_block
    places = [f"mid_block.{inner}" for inner in ("resnets.0", "attentions.0", "resnets.1")]
    for block in range(blocks):
        places += [f"down_blocks.{block}.resnets.{n}" for n in range(layers)]
        places += [f"down_blocks.{block}.attentions.{n}" for n in range(layers)]
        places += [f"up_blocks.{block}.resnets.{n}" for n in range(layers + 1)]
        places += [f"up_blocks.{block}.attentions.{n}" for n in range(layers + 1)]
    parts = {
        "resnets": ("conv1", "conv2", "conv_shortcut", "time_emb_proj"),
        "attentions": ("proj_in", "proj_out", "transformer_blocks.0.ff.net.0.proj"),
    }
    modules = [f"{place}.{part}" for place in places for part in parts[place.split(".")[-2]]]
    modules += [f"down_blocks.{block}.downsamplers.0.conv" for block in range(blocks)]
    modules += [f"up_blocks.{block}.upsamplers.0.conv" for block in range(blocks)]
    assert {layout.module(layout.name(module)): module for module in modules} == {
        module: module for module in modules
    }
    assert all(
        layout.module(other) is None for other in ("time_embed.0", "out.2", "input_blocks.0.0")
    )
