"""Models of the Hub, asked of a server that answers like it by the Hub's own client.

What they are and how large, before anything of size is fetched; why one cannot be had, in one
sentence with the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from inpo_studio.diffusion.families import UnsupportedModel
from inpo_studio.diffusion.sources import is_hub_id, locate
from tests import hub_models
from tests.hub_models import change, copy, listed, look, only_index
from tests.hub_server import TOKEN, Hub, running_hub

Tiny = Callable[[str], Path]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A fresh HF_HOME."""
    return tmp_path / "hf"


def weights_sent(hub: Hub) -> list[str]:
    return [name for name in hub.sent if name.endswith(".safetensors")]


def test_each_family_is_told_from_its_configuration_files(
    hub: Hub, home: Path, tiny_model: Tiny
) -> None:
    for kind in ("sd15", "sd2v", "sdxl"):
        hub.add(f"small/{kind}", tiny_model(kind))
    one, two, three = look(hub, home, "small/sd15", "small/sd2v", "small/sdxl")
    assert one["title"] == "Stable Diffusion 1, 64×64, one text encoder, ε-prediction"
    assert two["title"] == "Stable Diffusion 2, 64×64, one text encoder, v-prediction"
    assert three["title"] == "Stable Diffusion XL, 64×64, two text encoders, ε-prediction"
    for told in (one, two, three):
        assert told["fits"] is True
        assert "pairs at once" in told["plan"]
        assert not told["ready"]
    assert not weights_sent(hub)
    assert sum(hub.sent.values()) < 50_000


def test_sizes_are_told_before_anything_is_fetched(
    hub: Hub, home: Path, tiny_model: Tiny, tmp_path: Path
) -> None:
    folder = copy(tiny_model("sd15"), tmp_path / "real", weights=False)
    hub.add("real/one", folder, extra=listed(folder))
    (told,) = look(hub, home, "real/one")
    assert told["sentence"].startswith("4.3 GB in 10 files; free on disk: ")
    assert (told["whole"], told["half"]) == ("4.3 GB", "2.1 GB")
    assert told["to_fetch"] > 4.2e9


def test_what_is_here_already_is_told(
    hub: Hub, home: Path, tiny_model: Tiny, tmp_path: Path
) -> None:
    hub.add("small/sd15", tiny_model("sd15"))
    whole = hub_models.fetch(hub, home, "small/sd15", tmp_path)
    assert whole["model"] == "small/sd15"
    snapshot = next((home / "hub").glob("models--small--sd15/snapshots/*"))
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (told,) = look(hub, home, "small/sd15")
    assert "of them are here already" in told["sentence"]
    assert not told["ready"]


@pytest.mark.parametrize("what", ["gated", "private"])
def test_a_token_opens_what_needs_one(what: str, hub: Hub, home: Path, tiny_model: Tiny) -> None:
    hub.add("some/model", tiny_model("sd15"), **{what: True})
    (shut,) = look(hub, home, "some/model")
    if what == "gated":
        assert "accept its terms at https://huggingface.co/some/model" in shut["refused"]
    else:
        assert "log in with `hf auth login` if it is private" in shut["refused"]
    (opened,) = look(hub, home, "some/model", HF_TOKEN=TOKEN)
    assert "ε-prediction" in opened["title"]
    for text in (str(shut), str(opened)):
        assert TOKEN not in text


def test_no_network_and_offline_are_told_apart(hub: Hub, home: Path, tmp_path: Path) -> None:
    (missing,) = look(hub, home, "no/model")
    assert missing["refused"].startswith("There is no model 'no/model' on the Hub")
    asked = len(hub.asked)
    (offline,) = look(hub, home, "no/model", HF_HUB_OFFLINE="1")
    assert "HF_HUB_OFFLINE is set; unset it once to fetch the model" in offline["refused"]
    assert len(hub.asked) == asked
    (unreachable,) = look(hub, home, "no/model", HF_ENDPOINT="http://127.0.0.1:9")
    assert (
        "the Hub cannot be reached (ConnectError); check the connection" in (unreachable["refused"])
    )


OTHERS: list[tuple[str, dict[str, Any], str]] = [
    ("FluxPipeline", {}, "is a Flux model (FluxPipeline)"),
    ("StableDiffusion3Pipeline", {}, "is a Stable Diffusion 3 model"),
    ("PixArtSigmaPipeline", {}, "is a PixArt model"),
    ("KolorsPipeline", {"unet": ["diffusers", "UNet2DConditionModel"]}, "is a Kolors model"),
    ("StableDiffusionInpaintPipeline", {}, "is made for inpainting"),
    ("LatentConsistencyModelPipeline", {}, "is distilled for few steps"),
    ("SomethingNewPipeline", {"transformer": ["diffusers", "X"]}, "has no UNet"),
    (
        "SomethingNewPipeline",
        {"unet": ["diffusers", "X"], "text_encoder": ["transformers", "T5EncoderModel"]},
        "reads its prompts with a T5EncoderModel",
    ),
]


def test_other_families_are_refused_by_their_first_file(
    hub: Hub, home: Path, tmp_path: Path
) -> None:
    names = [f"other/{number}" for number in range(len(OTHERS))]
    for name, (kind, components, _) in zip(names, OTHERS, strict=True):
        hub.add(name, only_index(tmp_path / name.replace("/", "-"), kind, **components))
    for told, (_, _, words) in zip(look(hub, home, *names), OTHERS, strict=True):
        assert words in told["refused"]
        assert told["refused"].endswith(
            "use a text-to-image model of the SD 1, SD 2 or SDXL family."
        )
    assert set(hub.sent) == {"model_index.json"}


def test_models_that_only_look_alike_are_refused_before_their_weights(
    hub: Hub, home: Path, tmp_path: Path, tiny_model: Tiny
) -> None:
    sd, xl = tiny_model("sd15"), tiny_model("sdxl")
    scheduler = "scheduler/scheduler_config.json"
    wrong: dict[str, tuple[Path, str, dict[str, Any], str]] = {
        "nine": (sd, "unet/config.json", {"in_channels": 9}, "not one for inpainting or editing"),
        "guided": (sd, "unet/config.json", {"time_cond_proj_dim": 256}, "distilled with its guid"),
        "refiner": (xl, "model_index.json", {"text_encoder": [None, None]}, "only refiners"),
        "ztsnr": (sd, scheduler, {"rescale_betas_zero_snr": True}, "zero terminal SNR"),
        "sample": (sd, scheduler, {"prediction_type": "sample"}, "predicts 'sample'"),
        "flow": (sd, scheduler, {"prediction_type": "flow_prediction"}, "'flow_prediction'"),
        "edm": (xl, scheduler, {"_class_name": "EDMEulerScheduler"}, "DDIM cannot stand in for"),
    }
    for name, (kind, file, values, _) in wrong.items():
        folder = change(copy(kind, tmp_path / name, weights=False), file, **values)
        hub.add(f"like/{name}", folder, extra=listed(folder))
    told = look(hub, home, *(f"like/{name}" for name in wrong))
    for found, (_, _, _, words) in zip(told, wrong.values(), strict=True):
        assert words in found["refused"], found
        assert found["refused"].count(". ") == 0
    assert not weights_sent(hub)


def test_repositories_without_safe_weights_are_refused_by_their_listing(
    hub: Hub, home: Path, tmp_path: Path, tiny_model: Tiny
) -> None:
    pickled = copy(tiny_model("sd15"), tmp_path / "pickled", weights=False)
    hub.add("only/pickles", pickled, extra={"unet/diffusion_pytorch_model.bin": 3_438_167_540})
    single = tmp_path / "single"
    single.mkdir()
    hub.add("only/file", single, extra={"dream.safetensors": 7_000_000_000, "README.md": 10})
    first, second = look(hub, home, "only/pickles", "only/file")
    assert "pickled ones are never loaded" in first["refused"]
    assert "save_pretrained(safe_serialization=True)" in first["refused"]
    assert "not a diffusers pipeline" in second["refused"]
    assert "download dream.safetensors and give that" in second["refused"]
    assert not hub.sent


def test_broken_configuration_is_refused(
    hub: Hub, home: Path, tmp_path: Path, tiny_model: Tiny
) -> None:
    folder = copy(tiny_model("sd15"), tmp_path / "broken")
    (folder / "unet" / "config.json").write_text("{")
    hub.add("some/broken", folder)
    (told,) = look(hub, home, "some/broken")
    assert "is not valid JSON: download it again." in told["refused"]


@pytest.mark.parametrize("name", ["model.ckpt", "weights.bin", "weights.pt"])
def test_pickled_files_are_refused_with_the_way_to_convert(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(UnsupportedModel, match=r"pickled.*safe_serialization=True"):
        locate(str(tmp_path / name))


@pytest.mark.parametrize("name", ["models/gone.safetensors", "/gone", "gone.ckpt", "./a/b"])
def test_a_missing_file_is_not_looked_for_on_the_hub(name: str) -> None:
    assert not is_hub_id(name)
    with pytest.raises(UnsupportedModel, match="no model at"):
        locate(name)


def test_loading_never_fetches(hub: Hub, home: Path, tiny_model: Tiny) -> None:
    hub.add("small/sd15", tiny_model("sd15"))
    (told,) = look(hub, home, "small/sd15", how="locate")
    assert "fetch it with `inpo-studio fetch small/sd15`, or under Workspace." in told["refused"]
    assert not hub.asked


_ALONE = """
import socket
def refuse(*_, **__):
    raise AssertionError("the network was used")
socket.getaddrinfo = socket.socket.connect = refuse
from pathlib import Path
import sys
from inpo_studio.settings import Settings
from inpo_studio.studio import open_studio
from inpo_studio.studio.model.models import offers, present_model
studio = open_studio(Settings(workspace=Path(sys.argv[1]), device="cpu"))
found = present_model(studio)
assert found.ready and found.fits, found
assert [offer.name for offer in offers(studio)] == ["postcards"]
from inpo_studio.diffusion.loading import load_pipeline
print(load_pipeline("postcards", device="cpu").model)
"""


def test_postcards_never_touch_the_network(hub: Hub, home: Path, tmp_path: Path) -> None:
    assert hub_models.python(hub, home, _ALONE, str(tmp_path / "ws")).strip() == "postcards"
    assert not hub.asked
