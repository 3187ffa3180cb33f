"""Where not all of a model fits a card: what rests on the CPU, and a VAE that works in tiles."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from inpo_studio.diffusion import latents, loading
from inpo_studio.diffusion.conditioning import encode_prompts
from inpo_studio.diffusion.fitting import OutOfMemory
from inpo_studio.diffusion.latents import decode_latents, encode_images
from inpo_studio.diffusion.loading import Pipeline, resident
from inpo_studio.diffusion.memory import GIB, MARGIN, ModelNeeds

CARD = torch.device("cuda:0")


class Moved(nn.Module):
    """Notes where it is sent, and stays on the CPU, for there is no card here."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.went: list[str] = []

    def to(self, device: Any) -> Moved:  # type: ignore[override]
        self.went.append(torch.device(device).type)
        return self


def test_a_network_comes_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    network = Moved()
    with resident(network, CARD):
        assert network.went == ["cuda"]
    assert network.went == ["cuda", "cpu"]
    with pytest.raises(KeyError), resident(network, CARD):
        raise KeyError
    assert network.went[-1] == "cpu"
    with resident(network, torch.device("cpu")):
        assert len(network.went) == 4


def test_a_small_card_holds_the_unet_alone(sd15: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    parts: Any = SimpleNamespace(configs=sd15.configs, text_encoders=sd15.text_encoders)
    wanted = ModelNeeds.of(sd15.configs).drawing("bfloat16", 1, 16).total
    for free, fits in ((24 * GIB, True), (int(wanted / MARGIN), False)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda place, free=free: (free, 24 * GIB))
        assert loading._all_fit(parts, CARD, torch.bfloat16) is fits
    assert loading._all_fit(parts, torch.device("cpu"), torch.float32)


def test_encoders_and_vae_are_fetched_where_they_work(
    sd15: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[Any] = []
    real = loading.resident

    def look(network: Any, device: torch.device) -> Any:
        fetched.append(network)
        return real(network, device)

    monkeypatch.setattr("inpo_studio.diffusion.conditioning.resident", look)
    monkeypatch.setattr("inpo_studio.diffusion.latents.resident", look)
    encode_prompts(sd15, ["a hill"])
    (picture,) = decode_latents(sd15, torch.zeros(1, 4, 8, 8))
    encode_images(sd15, [picture])
    assert fetched == [sd15.text_encoders[0], sd15.vae, sd15.vae]


def small_vae(sd15: Pipeline, monkeypatch: pytest.MonkeyPatch, side: int) -> list[int]:
    """A VAE that runs out of memory on latents wider than `side`; the widths it was given."""
    assert sd15.vae is not None
    decoder, widths = sd15.vae.decoder, []
    forward = decoder.forward

    def limited(sample: torch.Tensor, *args: Any) -> torch.Tensor:
        widths.append(sample.shape[-1])
        if sample.shape[-1] > side:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.")
        return forward(sample, *args)

    monkeypatch.setattr(decoder, "forward", limited)
    return widths


def test_pictures_too_large_for_the_vae_are_decoded_in_tiles(
    sd15: Pipeline, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    x = torch.randn(2, 4, 48, 64, generator=torch.Generator().manual_seed(1))
    whole = decode_latents(sd15, x)
    widths = small_vae(sd15, monkeypatch, latents._TILE)
    caplog.set_level(logging.WARNING)
    tiled = decode_latents(sd15, x)
    assert (
        [picture.size for picture in tiled]
        == [picture.size for picture in whole]
        == [(512, 384)] * 2
    )
    assert widths[0] == 64
    assert max(widths[1:]) <= latents._TILE
    assert [r.getMessage() for r in caplog.records] == [
        "Memory ran out in the VAE; going on in tiles."
    ]


def test_a_vae_that_never_fits_says_the_way_out(
    sd15: Pipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_vae(sd15, monkeypatch, 0)
    with pytest.raises(OutOfMemory, match="use a smaller model"):
        decode_latents(sd15, torch.zeros(1, 4, 8, 8))
