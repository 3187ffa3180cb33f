"""What travels with an adapter, and what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.export_adapter import export_adapter, read_round_adapter
from inpo_studio.transfer.provenance import shown_model
from inpo_studio.transfer.tensors import TensorFile
from storage.comparisons import add_comparison
from storage.images import add_image
from storage.prompts import add_prompts
from storage.trials import create_trial, list_trials, note_look, set_item_comparison, trial_items
from storage.votes import record_vote

from .conftest import Aligned


def vote(studio: Studio, made: Aligned, choices: list[str], looked: bool = True) -> None:
    """A blind trial of the round against the base, the aligned picture always on the left."""
    model = made.round.model
    with studio.database.write() as session:
        (prompt,) = add_prompts(session, ["a lake"], source="comparison", kind="compare")
        items = [(prompt.id, seed) for seed in range(len(choices))]
        trial = create_trial(
            session,
            model=model,
            round_id=made.round.id,
            base_round_id=None,
            scale=1.0,
            generation={},
            items=items,
        )
        drawn = {"width": 64, "height": 64, "guidance": 3.0, "steps": 4, "model": model}
        for position, choice in enumerate(choices):
            ids = [
                add_image(
                    session,
                    sha256="0" * 64,
                    prompt_id=prompt.id,
                    seed=position,
                    adapter_id=adapter,
                    adapter_on=adapter and "prompt",
                    **drawn,
                ).id
                for adapter in (None, made.round.adapter_id)
            ]
            comparison = add_comparison(
                session,
                prompt_id=prompt.id,
                seed=position,
                base_image_id=ids[0],
                aligned_image_id=ids[1],
                round_id=made.round.id,
                adapter_id=made.round.adapter_id,
                scale=1.0,
            )
            set_item_comparison(session, trial.id, position, comparison.id)
            record_vote(
                session,
                key=f"vote {position}",
                trial_id=trial.id,
                item_position=position,
                choice=choice,  # type: ignore[arg-type]
                aligned_side="left",
                annotator="Ada Lovelace",
            )
        if looked:
            note_look(session, trial.id, len(choices))


def test_the_metadata_says_where_an_adapter_comes_from(
    studio: Studio, align: Callable[..., Aligned], tmp_path: Path
) -> None:
    made = align("sdxl", alpha=2.0)
    vote(studio, made, ["left", "left", "right", "both_bad", "skip"])
    export_adapter(studio, made.round, tmp_path / "mine.safetensors")
    facts = TensorFile(tmp_path / "mine.safetensors").metadata
    expected = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "stable-diffusion-xl-v1-base/lora",
        "modelspec.date": "2026-05-04T03:02:01",
        "modelspec.resolution": "64x64",
        "modelspec.prediction_type": "epsilon",
        "ss_network_module": "networks.lora",
        "ss_network_dim": "4",
        "ss_network_alpha": "2",
        "ss_base_model_version": "sdxl_base_v1-0",
        "ss_output_name": "mine",
        "ss_steps": "20",
        "ss_sd_model_name": "sdxl",
    }
    assert {name: facts[name] for name in expected} == expected
    assert all(isinstance(value, str) for value in facts.values())
    ours = json.loads(facts["inpo_studio"])
    assert (ours["base"], ours["rounds"], ours["objective"]) == ("sdxl", [1], "inpo")
    assert ours["blind_votes"] == {"wins": 2, "losses": 1, "ties": 1, "win_rate": 0.625}


@pytest.mark.parametrize(("kind", "version"), [("sd15", "sd_v1"), ("sd2v", "sd_v2_v")])
def test_families_are_told_apart(
    kind: str, version: str, studio: Studio, align: Callable[..., Aligned], tmp_path: Path
) -> None:
    made = align(kind)
    export_adapter(studio, made.round, tmp_path / "mine.safetensors")
    assert TensorFile(tmp_path / "mine.safetensors").metadata["ss_base_model_version"] == version


def test_nothing_private_travels(
    studio: Studio, align: Callable[..., Aligned], tmp_path: Path
) -> None:
    made = align("sd15")
    vote(studio, made, ["left", "left"])
    files = export_adapter(studio, made.round, tmp_path / "out")
    written = b"".join(path.read_bytes() for path in files)
    for word in ("Ada Lovelace", "a lake", str(tmp_path), str(made.model.parent)):
        assert word.encode() not in written


def test_the_card_names_the_files_and_the_votes(
    studio: Studio, align: Callable[..., Aligned], tmp_path: Path
) -> None:
    made = align("sd15")
    export_adapter(studio, made.round, tmp_path / "before")
    card = (tmp_path / "before" / "README.md").read_text("utf-8")
    assert "No blind votes" in card
    vote(studio, made, ["left"] * 3 + ["right"])
    files = export_adapter(studio, made.round, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text("utf-8")
    assert card.startswith("---\n")
    assert "base_model" not in card, "a folder of this machine is no base on a hub"
    assert "3 won, 1 lost" in card
    assert "75%" in card
    shown = ("pytorch_lora_weights.safetensors", "sd15-round-1-wins-75pct.safetensors")
    assert set(shown) < {path.name for path in files}
    assert all(name in card for name in shown)


def test_votes_count_once_somebody_has_looked(
    studio: Studio, align: Callable[..., Aligned]
) -> None:
    made = align("sd15")
    vote(studio, made, ["left"], looked=False)
    assert read_round_adapter(studio, made.round).facts.trial is None


def test_votes_count_for_the_weights_that_were_judged(
    studio: Studio, align: Callable[..., Aligned]
) -> None:
    """Not after another step was chosen, and not where the pictures were drawn at half strength."""
    made = align("sd15")
    vote(studio, made, ["left", "left"])
    assert read_round_adapter(studio, made.round).facts.trial is not None
    with studio.database.write() as session:
        (trial,) = list_trials(session, made.round.model, made.round.id)
        trial.scale = 0.5
    assert read_round_adapter(studio, made.round).facts.trial is None
    with studio.database.write() as session:
        (trial,) = list_trials(session, made.round.model, made.round.id)
        trial.scale = 1.0
        for item in trial_items(session, trial.id):
            assert item.comparison is not None
            item.comparison.adapter_id = None
    assert read_round_adapter(studio, made.round).facts.trial is None


def test_equal_adapters_give_equal_files(
    studio: Studio, align: Callable[..., Aligned], tmp_path: Path
) -> None:
    made = align("sd15")
    one, two = (export_adapter(studio, made.round, tmp_path / name) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert [path.name for path in one] == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "pytorch_lora_weights.safetensors",
        "sd15-round-1.safetensors",
    ]


def test_refusals_leave_nothing(
    studio: Studio, align: Callable[..., Aligned], tmp_path: Path
) -> None:
    made = align("sd15")
    taken = tmp_path / "taken.safetensors"
    taken.touch()
    with pytest.raises(StudioError, match="already"):
        export_adapter(studio, made.round, taken)
    with pytest.raises(StudioError, match="peft form is a folder"):
        export_adapter(studio, made.round, tmp_path / "new.safetensors", "peft")
    weights = studio.settings.workspace / "adapters" / "sd15-8.0" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(StudioError, match="not a whole"):
        export_adapter(studio, made.round, tmp_path / "new")
    assert sorted(path.name for path in tmp_path.iterdir() if "new" in path.name) == []


def test_names_without_this_machines_folders() -> None:
    assert shown_model("postcards") == ("postcards", False)
    assert shown_model("/home/me/models/dream.safetensors") == ("dream", False)
    assert shown_model("/home/me/models/dream") == ("dream", False)
    assert shown_model("someone/dream") == ("someone/dream", True)
