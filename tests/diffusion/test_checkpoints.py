"""Single-file checkpoints: loaded as the folders they were made from, or refused."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file, save_file

from inpo_studio.configs import GenerationConfig
from inpo_studio.diffusion.checkpoints import inspect_checkpoint
from inpo_studio.diffusion.families import UnsupportedModel
from inpo_studio.diffusion.loading import load_pipeline
from inpo_studio.diffusion.sampling import sample
from inpo_studio.inpo.schedule import UnsupportedSchedule
from tests.single_files import build_single_file

Tiny = Callable[[str], Path]
FEW = GenerationConfig(steps=3, guidance=3.0)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not even a name is looked up, and the Hub's cache is empty."""

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor]], Any], **facts: str) -> None:
    """Change the tensors of a file, and its metadata."""
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, facts or None)


def test_a_single_file_is_the_same_model(kind: str, tiny_model: Tiny, tmp_path: Path) -> None:
    file = build_single_file(tiny_model(kind), tmp_path / "model.safetensors")
    one = load_pipeline(str(file), device="cpu", dtype="float32")
    folder = load_pipeline(str(tiny_model(kind)), device="cpu", dtype="float32")
    assert one.family is folder.family
    assert one.size == folder.size
    assert one.schedule.prediction_type == folder.schedule.prediction_type
    for mine, theirs in [
        (one.unet, folder.unet),
        (one.vae, folder.vae),
        *zip(one.text_encoders, folder.text_encoders, strict=True),
    ]:
        found, expected = mine.state_dict(), theirs.state_dict()
        assert set(found) == set(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    pictures = [sample(p, ["a red house", ""], [1, 2], FEW) for p in (one, folder)]
    for drawn, other in zip(*pictures, strict=True):
        assert torch.equal(drawn.latents, other.latents)
        assert drawn.image.tobytes() == other.image.tobytes()


def test_half_precision_files_load(tiny_model: Tiny, tmp_path: Path) -> None:
    file = build_single_file(tiny_model("sdxl"), tmp_path / "model.safetensors")

    def halve(tensors: dict[str, torch.Tensor]) -> None:
        for name, value in tensors.items():
            tensors[name] = value.half()

    rewrite(file, halve)
    pipeline = load_pipeline(str(file), device="cpu", dtype="float32")
    assert {p.dtype for p in pipeline.unet.parameters()} == {torch.float32}
    assert pipeline.vae is not None
    assert {p.dtype for p in pipeline.vae.parameters()} == {torch.float32}


def test_the_fingerprint_follows_weights_and_configuration(
    tiny_model: Tiny, tmp_path: Path
) -> None:
    file = build_single_file(tiny_model("sd15"), tmp_path / "model.safetensors")
    first = load_pipeline(str(file), device="cpu").fingerprint
    assert load_pipeline(str(file), device="cpu").fingerprint == first
    config = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"beta_end": 0.02}))
    assert load_pipeline(str(file), device="cpu").fingerprint != first


def test_what_the_file_says_of_its_prediction_counts(tiny_model: Tiny, tmp_path: Path) -> None:
    file = build_single_file(tiny_model("sdxl"), tmp_path / "model.safetensors")
    assert load_pipeline(str(file), device="cpu").schedule.prediction_type == "epsilon"
    rewrite(file, lambda tensors: None, **{"modelspec.prediction_type": "v"})
    assert load_pipeline(str(file), device="cpu").schedule.prediction_type == "v_prediction"
    rewrite(file, lambda tensors: tensors.update(v_pred=torch.zeros(0)))
    assert load_pipeline(str(file), device="cpu").schedule.prediction_type == "v_prediction"
    rewrite(file, lambda tensors: tensors.update(ztsnr=torch.zeros(0)))
    with pytest.raises(UnsupportedSchedule, match="zero terminal SNR"):
        load_pipeline(str(file), device="cpu")


@pytest.mark.parametrize("kind", ["sd15", "sdxl"])
def test_without_its_configuration_and_without_a_network(
    kind: str, tiny_model: Tiny, tmp_path: Path
) -> None:
    file = build_single_file(tiny_model(kind), tmp_path / "model.safetensors", configurations=False)
    with pytest.raises(UnsupportedModel, match="connect once to the Hub, or put") as refused:
        load_pipeline(str(file), device="cpu")
    assert str(refused.value).count(". ") == 0


def test_sd2_must_say_what_it_predicts(tiny_model: Tiny, tmp_path: Path) -> None:
    file = build_single_file(
        tiny_model("sd2v"), tmp_path / "model.safetensors", configurations=False
    )
    with pytest.raises(UnsupportedModel, match="predicts noise or v"):
        load_pipeline(str(file), device="cpu")


def test_the_configuration_of_another_family_is_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    file = build_single_file(tiny_model("sd15"), tmp_path / "model.safetensors")
    other = build_single_file(tiny_model("sdxl"), tmp_path / "other.safetensors")
    other.replace(file)
    with pytest.raises(UnsupportedModel, match="Stable Diffusion XL, but the configuration"):
        load_pipeline(str(file), device="cpu")


def test_a_configuration_of_other_sizes_is_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    file = build_single_file(tiny_model("sd15"), tmp_path / "model.safetensors")
    config = tmp_path / "model" / "unet" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"cross_attention_dim": 48}))
    with pytest.raises(UnsupportedModel, match="does not fit the configuration"):
        load_pipeline(str(file), device="cpu")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["model.diffusion_model.joint_blocks.0.x"], "is Stable Diffusion 3"),
        (["double_blocks.0.img_attn.qkv.weight"], "is Flux"),
        (["conditioner.embedders.0.model.x", "model.diffusion_model.x"], "an SDXL refiner"),
        (["lora_unet_down_blocks_0.alpha"], "not a full checkpoint"),
        (["first_stage_model.encoder.conv_in.weight"], "not a full checkpoint"),
    ],
)
def test_other_files_are_refused_by_their_names(
    names: list[str], sentence: str, tmp_path: Path
) -> None:
    file = tmp_path / "other.safetensors"
    save_file({name: torch.zeros(1) for name in names}, file)
    with pytest.raises(UnsupportedModel, match=sentence):
        inspect_checkpoint(file)


def test_inpainting_files_are_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    file = build_single_file(tiny_model("sd15"), tmp_path / "model.safetensors")
    name = "model.diffusion_model.input_blocks.0.0.weight"
    rewrite(file, lambda tensors: tensors.update({name: torch.zeros(16, 9, 3, 3)}))
    with pytest.raises(UnsupportedModel, match="9 channels"):
        load_pipeline(str(file), device="cpu")


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"<html>404</html>")
    with pytest.raises(UnsupportedModel, match="download it again"):
        load_pipeline(str(file), device="cpu")
