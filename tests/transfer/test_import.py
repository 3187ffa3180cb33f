"""LoRAs from elsewhere: read at the right strength, whatever their ranks, and gone on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inpo_studio.studio import Studio, open_studio
from inpo_studio.studio.align.imported import Imported, imported_from
from inpo_studio.transfer.export_adapter import export_adapter
from inpo_studio.transfer.import_adapter import import_adapter
from storage.adapters import get_adapter
from storage.rounds import list_rounds
from storage.schema import Round
from tests.single_files import build_single_file
from tests.tiny import KINDS
from tests.transfer import foreign

from .conftest import GENERATION, PROMPTS, SEEDS, Aligned, difference, draw_with_diffusers


@pytest.fixture
def elsewhere(studio: Studio, tmp_path: Path) -> Iterator[Callable[[Path], Studio]]:
    """elsewhere(model) -> a studio of that model in another workspace."""
    opened: list[Studio] = []

    def make(model: Path) -> Studio:
        settings = replace(
            studio.settings,
            workspace=tmp_path / "elsewhere",
            model=str(model),
            database_url="",
            jobs_url="",
        )
        opened.append(open_studio(settings))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def folder_of(studio: Studio, made: Round) -> Path:
    with studio.database.read() as session:
        adapter = get_adapter(session, str(made.adapter_id))
    return studio.settings.workspace / adapter.folder


def draw(model: Path, folder: Path) -> list[Image.Image]:
    """What this studio draws with the adapter in a folder."""
    from inpo_studio.diffusion.adapters import load_adapter, using
    from inpo_studio.diffusion.loading import load_pipeline
    from inpo_studio.diffusion.sampling import sample

    pipeline = load_pipeline(str(model), device="cpu", dtype="float32")
    load_adapter(pipeline.unet, "imported", folder)
    with using(pipeline.unet, ["imported"]):
        return [one.image for one in sample(pipeline, PROMPTS, SEEDS, GENERATION)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_form_of_an_export_comes_back(
    kind: str,
    studio: Studio,
    align: Callable[..., Aligned],
    elsewhere: Callable[[Path], Studio],
    tmp_path: Path,
) -> None:
    made = align(kind, alpha=8.0)
    export_adapter(studio, made.round, tmp_path / "out")
    export_adapter(studio, made.round, tmp_path / "peft", "peft")
    there = elsewhere(made.model)
    sources = {
        "diffusers": tmp_path / "out" / "pytorch_lora_weights.safetensors",
        "kohya": tmp_path / "out" / f"{kind}-round-1.safetensors",
        "peft": tmp_path / "peft",
    }
    for form, source in sources.items():
        brought = import_adapter(there, str(source))
        found = imported_from(brought)
        assert found is not None
        assert found.form == form
        assert (brought.state, brought.step, brought.parent_id) == ("done", 0, None)
        assert difference(made.aligned, draw(made.model, folder_of(there, brought))) <= 1, form
    with there.database.read() as session:
        assert [row.number for row in list_rounds(session)] == [1, 2, 3]


def test_rank_and_alpha_stay_where_all_layers_agree(
    studio: Studio,
    align: Callable[..., Aligned],
    elsewhere: Callable[[Path], Studio],
    tmp_path: Path,
) -> None:
    from safetensors.numpy import load_file

    made = align("sd15", alpha=8.0)
    export_adapter(studio, made.round, tmp_path / "one.safetensors", "kohya")
    there = elsewhere(made.model)
    brought = import_adapter(there, str(tmp_path / "one.safetensors"))
    assert (brought.config["rank"], brought.config["alpha"]) == (4, 8.0)
    name = "adapter_model.safetensors"
    before = load_file(studio.settings.workspace / "adapters" / "sd15-8.0" / name)
    after = load_file(folder_of(there, brought) / name)
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key], after[key]) for key in before)


OF_SOME: dict[str, Callable[[str], bool]] = {
    "attention": lambda module: "attn2" in module or "to_q" in module,
    "all kinds": lambda module: "to_out" not in module,
}


def merged_by_hand(pipe: Any, made: dict[str, foreign.Made], at_rank: bool) -> list[Image.Image]:
    """What layers mean: alpha / rank * up @ down is added to each weight.

    Not read back from plain diffusers for kohya's form: its 0.42 overlooks all but one of several
    alphas where they are of the attention.
    """
    import torch

    modules = dict(pipe.unet.named_modules())
    for name, layer in made.items():
        scale = 1.0 if at_rank else layer.alpha / layer.rank
        with torch.no_grad():
            weight = modules[name].weight
            weight += torch.from_numpy(layer.delta(scale)).reshape(weight.shape)
    return draw_with_diffusers(pipe)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("parts", OF_SOME)
@pytest.mark.parametrize("form", ["kohya", "kohya, diffusers' names", "diffusers", "bare", "peft"])
def test_mixed_ranks_and_alphas_are_as_strong_as_they_are_meant(
    parts: str,
    kind: str,
    form: str,
    elsewhere: Callable[[Path], Studio],
    tiny_model: Callable[[str], Path],
    diffusers_pipeline: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    """A LoRA of some of the layers, ranks 1, 3 and 6, alphas 1, 2 and 8."""
    model = tiny_model(kind)
    made = foreign.layers(model, only=OF_SOME[parts])
    pipe, path = diffusers_pipeline(kind), tmp_path / "theirs.safetensors"
    base = draw_with_diffusers(pipe)
    if form == "peft":
        from peft import PeftModel

        path = foreign.write_peft(tmp_path / "theirs", made)
        pipe.unet = PeftModel.from_pretrained(pipe.unet, path)
    elif form.startswith("kohya"):
        foreign.write_kohya(path, model, made, diffusers_names="names" in form)
    else:
        foreign.write_diffusers(path, made, metadata=form == "diffusers")
        pipe.load_lora_weights(path.parent, weight_name=path.name)
    expected = merged_by_hand(diffusers_pipeline(kind), made, form == "bare")
    assert difference(base, expected) > 8
    if not form.startswith("kohya"):
        assert difference(draw_with_diffusers(pipe), expected) <= 1
    there = elsewhere(model)
    brought = import_adapter(there, str(path))
    assert brought.config["rank"] == 6
    assert difference(expected, draw(model, folder_of(there, brought))) <= 1


def test_rank_stabilised_scaling_is_read(
    elsewhere: Callable[[Path], Studio],
    tiny_model: Callable[[str], Path],
    diffusers_pipeline: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    from peft import PeftModel

    model, pipe = tiny_model("sd15"), diffusers_pipeline("sd15")
    made = foreign.layers(model, ranks=(4,), alphas=(2.0,))
    path = foreign.write_peft(tmp_path / "theirs", made, use_rslora=True)
    pipe.unet = PeftModel.from_pretrained(pipe.unet, path)
    there = elsewhere(model)
    brought = import_adapter(there, str(path))
    assert difference(draw_with_diffusers(pipe), draw(model, folder_of(there, brought))) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_policy_and_reference_agree_at_the_start_and_all_of_it_can_be_trained(
    kind: str,
    elsewhere: Callable[[Path], Studio],
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    import torch

    from inpo_studio.configs import RoundConfig
    from inpo_studio.diffusion.conditioning import encode_prompts
    from inpo_studio.diffusion.loading import load_pipeline
    from inpo_studio.training.policy import Policy

    model = tiny_model(kind)
    made = foreign.layers(model, only=OF_SOME["all kinds"])
    path = foreign.write_kohya(tmp_path / "theirs.safetensors", model, made)
    there = elsewhere(model)
    brought = import_adapter(there, str(path))
    pipeline = load_pipeline(str(model), device="cpu", dtype="float32")
    config = RoundConfig.model_validate(brought.config)
    policy = Policy.build(pipeline, config, folder_of(there, brought))
    x_t = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor([900, 100])
    words = encode_prompts(pipeline, PROMPTS, pipeline.size)
    reference = policy.predict_reference(x_t, timesteps, words)
    # PyTorch multiplies otherwise where a weight wants a gradient, which rounds otherwise.
    for _, parameter in policy.parameters():
        parameter.requires_grad_(False)
    assert torch.equal(policy.predict(x_t, timesteps, words), reference)
    for _, parameter in policy.parameters():
        parameter.requires_grad_(True)
    ours = policy.predict(x_t, timesteps, words)
    assert torch.allclose(ours, reference, atol=1e-5)
    ours.square().mean().backward()
    ups = [value for name, value in policy.parameters() if ".lora_B." in name]
    assert len(ups) > len(made)
    for value in ups:
        assert value.grad is not None
        assert bool((value.grad.abs().sum(dim=0) > 0).all()), "a column that cannot learn"


def test_a_single_file_model_takes_the_same_loras(
    elsewhere: Callable[[Path], Studio], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = tiny_model("sdxl")
    model = build_single_file(folder, tmp_path / "dream.safetensors")
    path = foreign.write_kohya(
        tmp_path / "theirs.safetensors", folder, foreign.layers(folder, only=lambda module: True)
    )
    there = elsewhere(model)
    brought = import_adapter(there, str(path))
    assert (
        difference(draw(folder, folder_of(there, brought)), draw(model, folder_of(there, brought)))
        <= 1
    )


def test_what_an_imported_round_says_of_itself(
    elsewhere: Callable[[Path], Studio], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    from inpo_studio.studio.align.lineage import lineage
    from inpo_studio.studio.align.watching import to_watch
    from inpo_studio.transfer.tensors import TensorFile

    model = tiny_model("sd15")
    path = foreign.write_kohya(tmp_path / "ink and wash.safetensors", model, foreign.layers(model))
    there = elsewhere(model)
    brought = import_adapter(there, str(path))
    found = imported_from(brought)
    assert isinstance(found, Imported)
    assert (found.name, found.file, len(found.sha256)) == ("ink and wash", path.name, 64)
    (card,) = lineage(there).rounds
    assert card.imported == found
    assert {"adopt", "branch", "compare", "export"} <= set(card.actions)
    assert to_watch(there) is None, "it has no curves"
    export_adapter(there, brought, tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert "Imported from | ink and wash" in text
    assert found.sha256 in text
    for word in ("Objective", "choices", "Optimiser", str(tmp_path)):
        assert word not in text
    facts = TensorFile(tmp_path / "out" / "sd15-round-1.safetensors").metadata
    assert "ss_steps" not in facts
    assert "imported as ink and wash" in facts["modelspec.description"]


def test_names(
    elsewhere: Callable[[Path], Studio], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny_model("sd15")
    there = elsewhere(model)
    made = foreign.layers(model)
    folder = foreign.write_peft(tmp_path / "my style", made)
    names = [
        imported_from(import_adapter(there, str(source), name))
        for source, name in [
            (folder, None),
            (folder, "  a  b "),
            (folder / "adapter_model.safetensors", None),
        ]
    ]
    assert [found.name for found in names if found is not None] == ["my style", "a b", "my style"]
