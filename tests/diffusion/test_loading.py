from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from inpo_studio.diffusion.devices import choose_device, choose_dtype, cpu_has_bf16
from inpo_studio.diffusion.families import UnsupportedModel
from inpo_studio.diffusion.hub import wanted_files
from inpo_studio.diffusion.loading import Pipeline, load_pipeline
from inpo_studio.diffusion.sources import locate
from inpo_studio.inpo.schedule import UnsupportedSchedule

Tiny = Callable[[str], Path]


def test_everything_is_frozen_and_in_evaluation(pipeline: Pipeline) -> None:
    for network in (pipeline.unet, pipeline.vae, *pipeline.text_encoders):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_fingerprint_follows_the_weights(
    sd15: Pipeline, tiny_model: Tiny, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model("sd15"), copy)
    (copy / "notes.txt").write_text("not part of the model")
    assert load_pipeline(str(copy), device="cpu").fingerprint == sd15.fingerprint
    shutil.copy(tiny_model("sd2v") / "vae" / "diffusion_pytorch_model.safetensors", copy / "vae")
    assert load_pipeline(str(copy), device="cpu").fingerprint != sd15.fingerprint


def test_half_precision_weights_serve_where_only_those_are(
    tiny_model: Tiny, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model("sd15"), copy)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert load_pipeline(str(copy), device="cpu", dtype="float32").unet.dtype == torch.float32


def test_tokenizers_of_vocabulary_and_merges_serve(
    sd15: Pipeline, tiny_model: Tiny, tmp_path: Path
) -> None:
    """The layout of the first models, which have no tokenizer.json."""
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model("sd15"), copy)
    model = json.loads((copy / "tokenizer" / "tokenizer.json").read_text())["model"]
    (copy / "tokenizer" / "tokenizer.json").unlink()
    (copy / "tokenizer" / "vocab.json").write_text(json.dumps(model["vocab"]))
    (copy / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    loaded = load_pipeline(str(copy), device="cpu", dtype="float32")
    texts = ["a Red house", ""]
    assert loaded.tokenizers[0](texts).input_ids == sd15.tokenizers[0](texts).input_ids


def test_pickled_weights_are_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model("sd15"), copy)
    (copy / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (copy / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(UnsupportedModel, match="never loaded"):
        load_pipeline(str(copy))
    checkpoint = tmp_path / "model.ckpt"
    checkpoint.write_bytes(b"pickle")
    with pytest.raises(UnsupportedModel, match=r"not a \.safetensors"):
        load_pipeline(str(checkpoint))


def test_zero_terminal_snr_is_refused(tiny_model: Tiny, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_model("sd2v"), copy)
    path = copy / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text()) | {"rescale_betas_zero_snr": True}
    path.write_text(json.dumps(config))
    with pytest.raises(UnsupportedSchedule, match="zero terminal SNR"):
        load_pipeline(str(copy))


def test_a_name_that_is_nothing_is_explained() -> None:
    with pytest.raises(UnsupportedModel, match="postcards"):
        locate("no such model")


def test_a_lora_is_no_checkpoint(sd15: Pipeline, tmp_path: Path) -> None:
    from inpo_studio.diffusion.adapters import attach_adapter, save_adapter

    attach_adapter(sd15.unet, "a", 2, 2.0, 0)
    save_adapter(sd15.unet, "a", tmp_path)
    with pytest.raises(UnsupportedModel, match="not a full checkpoint"):
        load_pipeline(str(tmp_path / "adapter_model.safetensors"))


def test_released_encoders_say_so(sd15: Pipeline) -> None:
    from inpo_studio.diffusion.conditioning import encode_prompts
    from inpo_studio.diffusion.latents import decode_latents

    sd15.release_encoders()
    with pytest.raises(RuntimeError, match="released"):
        encode_prompts(sd15, ["a"])
    with pytest.raises(RuntimeError, match="released"):
        decode_latents(sd15, torch.zeros(1, 4, 8, 8))


def test_devices_and_dtypes() -> None:
    cpu = torch.device("cpu")
    assert choose_device("cpu") == cpu
    assert choose_dtype("auto", cpu) == (torch.bfloat16 if cpu_has_bf16() else torch.float32)
    with pytest.raises(ValueError, match="no device"):
        choose_device("quantum")
    with pytest.raises(ValueError, match="needs a GPU"):
        choose_dtype("float16", cpu)
    with pytest.raises(ValueError, match="no dtype"):
        choose_dtype("int3", cpu)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="no cuda"):
            choose_device("cuda")


def test_of_a_repository_one_set_of_safetensors_is_wanted() -> None:
    names = [
        "model_index.json",
        "README.md",
        "v1-5-pruned.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "safety_checker/model.safetensors",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "unet/config.json",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
    ]
    shared = {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/vocab.json",
        "tokenizer/merges.txt",
        "text_encoder/config.json",
        "text_encoder/model.fp16.safetensors",
        "unet/config.json",
    }
    whole, half = set(wanted_files(names, False)), set(wanted_files(names, True))
    assert whole == shared | {"unet/diffusion_pytorch_model.safetensors"}
    assert half == shared | {"unet/diffusion_pytorch_model.fp16.safetensors"}


def test_loading_does_not_import_diffusers_pipelines(tiny_model: Tiny) -> None:
    """They take seconds to import, and nothing here needs them."""
    code = (
        "import sys\n"
        "from inpo_studio.diffusion.loading import load_pipeline\n"
        "assert 'diffusers' not in sys.modules\n"
        f"load_pipeline({str(tiny_model('sdxl'))!r}, device='cpu')\n"
        "loaded = [m for m in sys.modules if m.startswith('diffusers.pipelines.stable_')]\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
