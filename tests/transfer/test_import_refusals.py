"""What cannot be started from is refused in one sentence, and nothing is written."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.align.imported import imported_from
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.import_adapter import import_adapter
from storage.rounds import list_rounds
from tests.cli.running import Terminal
from tests.hub_server import running_hub
from tests.transfer import foreign

Change = Callable[[dict[str, np.ndarray]], Any]


@pytest.fixture
def model(tiny_model: Callable[[str], Path]) -> Path:
    return tiny_model("sd15")


@pytest.fixture
def there(model: Path, tmp_path: Path) -> Iterator[Studio]:
    opened = open_studio(Settings(workspace=tmp_path / "workspace", model=str(model)))
    yield opened
    opened.close()


@pytest.fixture
def lora(model: Path, tmp_path: Path) -> Callable[..., Path]:
    """lora(change) -> a kohya file whose tensors were changed so."""

    def make(change: Change = lambda tensors: None) -> Path:
        path = foreign.write_kohya(tmp_path / "theirs.safetensors", model, foreign.layers(model))
        tensors = dict(load_file(path))
        change(tensors)
        path.unlink()
        save_file(tensors, path)
        return path

    return make


def refused(there: Studio, source: Path | str, **more: Any) -> str:
    with pytest.raises(StudioError) as caught:
        import_adapter(there, str(source), **more)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    with there.database.read() as session:
        assert list_rounds(session) == []
    assert not list((there.settings.workspace / "rounds").glob("*"))
    return sentence


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, dtype=np.float32)


TEXT = {
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_down.weight": ones(2, 32),
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj.lora_up.weight": ones(32, 2),
    "lora_te_text_model_encoder_layers_0_self_attn_q_proj.alpha": ones(),
}
FORWARD = "lora_unet_time_embedding_linear_1"
CONVOLUTION = "lora_unet_down_blocks_0_resnets_0_conv1"


def first(tensors: dict[str, np.ndarray], end: str) -> str:
    return next(name for name in sorted(tensors) if name.endswith(end))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda t: t.update(TEXT), "--ignore-text-encoder"),
        (lambda t: (t.clear(), t.update(TEXT)), "text encoders only"),
        (
            lambda t: t.update(
                {f"{FORWARD}.lora_down.weight": ones(2, 8), f"{FORWARD}.lora_up.weight": ones(8, 2)}
            ),
            "1 layers outside of the UNet's blocks",
        ),
        (
            lambda t: t.update(
                {
                    f"{CONVOLUTION}.lora_down.weight": ones(2, 4, 3, 3),
                    f"{CONVOLUTION}.lora_up.weight": ones(4, 2, 1, 1),
                }
            ),
            "another model",
        ),
        (lambda t: t.update({f"{FORWARD}.dora_scale": ones(8)}), "is a DoRA"),
        (lambda t: t.update({f"{FORWARD}.hada_w1_a": ones(8, 2)}), "is a LoHa"),
        (lambda t: t.update({f"{FORWARD}.lokr_w1": ones(8, 2)}), "is a LoKr"),
        (lambda t: t.update({"model.diffusion_model.out.0.weight": ones(4)}), "is no LoRA"),
        (lambda t: t.clear(), "is empty"),
        (lambda t: t.pop(first(t, ".lora_up.weight")), "lacks a part"),
        (lambda t: t.update({first(t, ".lora_up.weight"): ones(16, 7)}), "do not fit each other"),
        (
            lambda t: t.update({first(t, ".alpha"): np.asarray(-1.0, dtype=np.float32)}),
            "is not positive",
        ),
        (lambda t: t.update({first(t, ".alpha"): ones(3)}), "is no number"),
        (lambda t: t.update({first(t, "_up.weight"): np.nan * ones(16, 1)}), "not numbers"),
    ],
)
def test_files_that_are_no_plain_lora_of_the_attention(
    there: Studio, lora: Callable[..., Path], change: Change, word: str
) -> None:
    sentence = refused(there, lora(change))
    assert word in sentence
    assert "theirs.safetensors" in sentence


def test_the_text_encoders_part_can_be_left_out(there: Studio, lora: Callable[..., Path]) -> None:
    brought = import_adapter(there, str(lora(lambda t: t.update(TEXT))), ignore_text_encoder=True)
    found = imported_from(brought)
    assert found is not None
    assert found.left_out == 1


@pytest.mark.parametrize("kind", ["sd2v", "sdxl"])
@pytest.mark.parametrize("form", ["kohya", "diffusers", "peft"])
def test_loras_of_other_families(
    there: Studio, tiny_model: Callable[[str], Path], tmp_path: Path, kind: str, form: str
) -> None:
    other = tiny_model(kind)
    made, path = foreign.layers(other), tmp_path / "other.safetensors"
    if form == "peft":
        path = foreign.write_peft(tmp_path / "other", made)
    elif form == "kohya":
        foreign.write_kohya(path, other, made)
    else:
        foreign.write_diffusers(path, made)
    if kind == "sd2v":  # its small UNet differs in nothing, unlike the real one
        made = {name: foreign.Made(ones(1, 99), one.up[:, :1], 1.0) for name, one in made.items()}
        path = foreign.write_diffusers(tmp_path / "wide.safetensors", made)
    assert "another model than this Stable Diffusion 1 one" in refused(there, path)


def test_a_lora_of_a_transformer(there: Studio, tmp_path: Path) -> None:
    name = "lora_unet_double_blocks_0_img_attn_qkv"
    path = tmp_path / "flux.safetensors"
    save_file({f"{name}.lora_down.weight": ones(2, 8), f"{name}.lora_up.weight": ones(8, 2)}, path)
    assert "another model" in refused(there, path)


def test_what_is_no_file_of_the_right_kind(there: Studio, tmp_path: Path) -> None:
    assert "no file" in refused(there, tmp_path / "none.safetensors")
    for ending in ("pt", "bin", "ckpt"):
        (tmp_path / f"x.{ending}").write_bytes(b"\x80\x04.")
        assert "pickled" in refused(there, tmp_path / f"x.{ending}")
    (tmp_path / "x.txt").write_text("a")
    assert "not a .safetensors file" in refused(there, tmp_path / "x.txt")
    (tmp_path / "x.safetensors").write_bytes(b"not at all")
    assert "not a whole" in refused(there, tmp_path / "x.safetensors")
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "holds no .safetensors" in refused(there, folder)
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    assert "pickled" in refused(there, folder)
    save_file({"a": ones(1)}, folder / "a.safetensors")
    save_file({"a": ones(1)}, folder / "b.safetensors")
    assert "name one of them" in refused(there, folder)


def test_a_peft_adapter_without_its_configuration(
    there: Studio, model: Path, tmp_path: Path
) -> None:
    folder = foreign.write_peft(tmp_path / "theirs", foreign.layers(model))
    config = folder / "adapter_config.json"
    facts = json.loads(config.read_text())
    config.write_text(json.dumps({**facts, "use_dora": True}))
    assert "is a DoRA" in refused(there, folder)
    for damaged in ("{", "[1]", '{"lora_alpha": "much"}', '{"alpha_pattern": {"(": 1}}'):
        config.write_text(damaged)
        assert "damaged" in refused(there, folder)
    config.unlink()
    assert "give the whole folder" in refused(there, folder)


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "a\x00b"])
def test_names_that_cannot_be_shown(there: Studio, lora: Callable[..., Path], name: str) -> None:
    assert "A name has" in refused(there, lora(), name=name)


def test_hub_ids_by_the_real_client(model: Path, lora: Callable[..., Path], tmp_path: Path) -> None:
    """Fetched once; then it is there offline as well. What is not there is one sentence."""
    folder = tmp_path / "repository"
    folder.mkdir()
    lora().rename(folder / "style.safetensors")
    (folder / "training_state.bin").write_bytes(b"\x80\x04.")
    with running_hub() as hub:
        hub.add("ada/style", folder)
        terminal = Terminal(tmp_path, str(model))
        terminal.environment |= hub.environment(tmp_path / "hf")
        missing = terminal("import-adapter", "ada/nothing", "--json")
        assert missing.code == 2
        assert "There is no model 'ada/nothing'" in missing.json["error"]
        hub.add("ada/two", folder, extra={"other.safetensors": 9})
        hub.add("ada/model", tmp_path / "hf", extra={"dream.safetensors": 4 * 10**9})
        for name, said in (("two", "holds 2 .safetensors files"), ("model", "has 4.0 GB, too")):
            ended = terminal("import-adapter", f"ada/{name}", "--json")
            assert ended.code == 2
            assert said in ended.json["error"]
        assert not any(".safetensors" in asked for asked in hub.asked), "nothing was to be fetched"
        brought = terminal.ok("import-adapter", "ada/style")
        assert (brought["number"], brought["name"]) == (1, "style")
        assert not any("training_state" in asked for asked in hub.asked), "more was fetched"
    terminal.environment["HF_HUB_OFFLINE"] = "1"
    assert terminal.ok("import-adapter", "ada/style", "--name", "again")["number"] == 2
    ended = terminal("import-adapter", "ada/other", "--json")
    assert ended.code == 2
    assert "HF_HUB_OFFLINE" in ended.json["error"]
