"""A round's adapter as files for other programs: one file, or a folder with a model card."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from inpo_studio.diffusion.checkpoints import model_configs
from inpo_studio.diffusion.families import ModelConfigs, UnsupportedModel, recognise
from inpo_studio.diffusion.sources import locate
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import (
    DIFFUSERS_FILE,
    FORMS,
    PEFT_CONFIG,
    PEFT_FILE,
    AdapterWeights,
    Form,
    diffusers_metadata,
    diffusers_tensors,
    kohya_tensors,
    peft_tensors,
    read_adapter,
    tensors_sha256,
)
from inpo_studio.transfer.cards import model_card
from inpo_studio.transfer.folders import check_free, new_folder
from inpo_studio.transfer.original import UnetLayout
from inpo_studio.transfer.provenance import Provenance, metadata, provenance
from inpo_studio.transfer.tensors import write_tensors
from storage.adapters import get_adapter
from storage.schema import Round

CARD_FILE = "README.md"


@dataclass(frozen=True)
class RoundAdapter:
    """The adapter a round is used with, and where it comes from."""

    weights: AdapterWeights
    facts: Provenance
    configs: ModelConfigs

    @property
    def file_name(self) -> str:
        """Name of the kohya file, without ending: what lists of LoRAs show.

        Model, round and, once blind votes have been looked at, the win rate against the base.
        """
        base = re.sub(r"[^\w.-]+", "-", self.facts.base.rsplit("/", 1)[-1]).strip("-.")
        name = f"{base or 'model'}-round-{self.facts.rounds[-1]}"
        trial = self.facts.trial
        return name if trial is None else f"{name}-wins-{trial.win_rate:.0%}".replace("%", "pct")


def read_round_adapter(studio: Studio, round_: Round) -> RoundAdapter:
    """Read a round's adapter and its facts.

    Raises StudioError where the round has none, or where its base model is not there any more.
    """
    if round_.adapter_id is None:
        raise StudioError(
            f"Round {round_.number} is {round_.state} and has no adapter; export one that is done."
        )
    source = model_source(round_.model)
    try:
        configs = model_configs(source)
        family = recognise(configs)
    except UnsupportedModel as error:
        raise StudioError(str(error)) from error
    with studio.database.read() as session:
        adapter = get_adapter(session, round_.adapter_id)
        weights = read_adapter(studio.settings.workspace / adapter.folder)
        modules = weights.config.get("target_modules", [])
        facts = provenance(session, round_, adapter, family, configs, modules)
    return RoundAdapter(weights, facts, configs)


def model_source(model: str) -> Path:
    """The folder or file of a model; StudioError where it cannot be had."""
    try:
        return locate(model)
    except UnsupportedModel as error:
        raise StudioError(str(error)) from error


def check_target(target: Path, form: Form | None) -> None:
    """Raise StudioError, with nothing written, unless an adapter can be exported to `target`."""
    if target.suffix != ".safetensors":
        check_free(target)
    elif form == "peft":
        raise StudioError("The peft form is a folder; name one that is new or empty.")
    elif target.exists() or target.is_symlink():
        raise StudioError(f"{target} is there already; name a new file.")


def export_adapter(
    studio: Studio, round_: Round, target: Path, form: Form | None = None
) -> list[Path]:
    """Write a round's adapter to a new `.safetensors` file or a new folder; returns the files.

    A file holds the kohya form unless another one is named. A folder holds the form named, or
    all three, and a model card. Equal adapters give equal files. Raises StudioError.
    """
    check_target(target, form)
    found = read_round_adapter(studio, round_)
    if target.suffix == ".safetensors":
        write_form(found, target, form or "kohya")
        return [target.absolute()]
    with new_folder(target) as folder:
        write_folder(found, folder, FORMS if form is None else (form,))
    return sorted(target.absolute().iterdir())


def write_folder(found: RoundAdapter, folder: Path, forms: Sequence[Form]) -> None:
    """Write forms of an adapter into a folder, and a model card that names their files."""
    for form in forms:
        write_form(found, folder / form_file(found, form), form)
    names = sorted(path.name for path in folder.iterdir())
    (folder / CARD_FILE).write_bytes(model_card(found.facts, names).encode("utf-8"))


def form_file(found: RoundAdapter, form: Form) -> str:
    """The name of a form's file in a folder."""
    names = {"kohya": f"{found.file_name}.safetensors", "diffusers": DIFFUSERS_FILE}
    return names.get(form, PEFT_FILE)


def write_form(found: RoundAdapter, path: Path, form: Form) -> None:
    """Write one form of an adapter; PEFT's puts its configuration beside `path`."""
    facts = metadata(found.facts, path.stem)
    _WRITERS[form](found, path, facts)


def _write_diffusers(found: RoundAdapter, path: Path, facts: Mapping[str, str]) -> None:
    tensors = diffusers_tensors(found.weights)
    write_tensors(path, tensors, {**facts, **diffusers_metadata(found.weights)})


def _write_peft(found: RoundAdapter, path: Path, facts: Mapping[str, str]) -> None:
    write_tensors(path, peft_tensors(found.weights), {**facts, "format": "pt"})
    base = found.facts.base if found.facts.base_is_hub_id else None
    config = {**found.weights.config, "base_model_name_or_path": base}
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    path.with_name(PEFT_CONFIG).write_bytes(text.encode("utf-8"))


def _write_kohya(found: RoundAdapter, path: Path, facts: Mapping[str, str]) -> None:
    layout = UnetLayout.of(found.configs.unet)
    tensors = kohya_tensors(found.weights, found.facts.family, layout)
    digest = tensors_sha256(tensors)
    marks = {"sshs_model_hash": digest, "modelspec.hash_sha256": f"0x{digest}"}
    write_tensors(path, tensors, {**facts, **marks, "format": "pt"})


_WRITERS: Mapping[Form, Callable[[RoundAdapter, Path, Mapping[str, str]], None]] = {
    "diffusers": _write_diffusers,
    "peft": _write_peft,
    "kohya": _write_kohya,
}
