"""Somebody else's LoRA as a place to start: a finished round of no steps, which can be adopted,
compared, branched from and exported like any other."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.checkpoints import model_configs
from inpo_studio.diffusion.families import UnsupportedModel, recognise
from inpo_studio.studio import Studio
from inpo_studio.studio.align.imported import LONGEST_NAME, Imported, as_selection
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import (
    DIFFUSERS_FILE,
    PEFT_CONFIG,
    PEFT_FILE,
    AdapterWeights,
    diffusers_metadata,
    diffusers_tensors,
    peft_tensors,
)
from inpo_studio.transfer.export_adapter import model_source
from inpo_studio.transfer.folders import new_folder
from inpo_studio.transfer.lora_files import ForeignLora, find_lora, read_lora
from inpo_studio.transfer.lora_hub import fetch_lora
from inpo_studio.transfer.lora_layers import as_one_rank, trainable_shapes
from inpo_studio.transfer.tensors import write_tensors
from storage.adapters import add_adapter
from storage.rounds import claim_attempt, create_round, set_state
from storage.schema import Round, new_id

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def locate_lora(source: str) -> Path:
    """The LoRA file that a path or a Hub id names; only a Hub id may use the network.

    Raises StudioError, one sentence.
    """
    path = Path(source).expanduser()
    try:
        if path.exists() or not _HUB_ID.fullmatch(source) or path.suffix == ".safetensors":
            return find_lora(path)
    except OSError as error:
        raise StudioError(f"{source} cannot be read ({error.strerror}).") from error
    return fetch_lora(source)


def import_adapter(
    studio: Studio, source: str, name: str | None = None, *, ignore_text_encoder: bool = False
) -> Round:
    """Add a LoRA for the present model to its rounds; returns the round it has become.

    `source` is a `.safetensors` file, a folder or a Hub id. `name` is what it is called; the
    file's name by default. Raises StudioError, with nothing written, for what is no plain LoRA of
    the attention of this model's UNet, and for one with a part for text encoders unless that is
    to be left out.
    """
    file = locate_lora(source)
    lora = read_lora(file)
    _check_text(lora, ignore_text_encoder)
    weights = _converted(studio.settings.model, lora)
    found = Imported(
        name=_name(name, source, file),
        file=file.name,
        form=lora.form,
        sha256=_sha256(file),
        left_out=lora.text_layers,
    )
    return _add_round(studio, weights, found)


def _check_text(lora: ForeignLora, ignore: bool) -> None:
    file = lora.file.name
    if not lora.layers:
        raise StudioError(f"{file} changes text encoders only, and a round trains the UNet alone.")
    if lora.text_layers and not ignore:
        raise StudioError(
            f"{file} changes the text encoder too ({lora.text_layers} layers), which a round "
            "leaves as it is; leave that part out (in the terminal: --ignore-text-encoder), or "
            "merge the LoRA into the model with another program and open the merged model."
        )


def _converted(model: str, lora: ForeignLora) -> AdapterWeights:
    source = model_source(model)
    try:
        configs = model_configs(source)
        family = recognise(configs)
    except UnsupportedModel as error:
        raise StudioError(str(error)) from error
    return as_one_rank(lora, trainable_shapes(source, configs), family, configs)


def _name(asked: str | None, source: str, file: Path) -> str:
    if asked is None:
        given = Path(source).expanduser()
        place = given if not given.exists() else given.resolve()
        generic = file.name in (DIFFUSERS_FILE, PEFT_FILE)
        stem = place.parent.name if place.is_file() and generic else place.stem
        asked = stem.strip()[:LONGEST_NAME] or "LoRA"
    name = " ".join(asked.split())
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise StudioError(f"A name has 1 to {LONGEST_NAME} characters; give another one.")
    return name


def _add_round(studio: Studio, weights: AdapterWeights, found: Imported) -> Round:
    """Write the adapter's folder whole, then its rows in one transaction."""
    round_id = new_id()
    home = studio.settings.workspace / "rounds" / round_id
    folder = home / "adapters" / "000000"
    config = RoundConfig(rank=weights.rank, alpha=weights.alpha)
    try:
        sha256 = _write(folder, weights)
        with studio.database.write() as session:
            made = create_round(
                session,
                model=studio.settings.model,
                config=config.model_dump(),
                seed=config.seed,
                selection=as_selection(found),
                round_id=round_id,
            )
            attempt = claim_attempt(session, round_id)
            add_adapter(
                session,
                sha256=sha256,
                folder=folder.relative_to(studio.settings.workspace).as_posix(),
                model=made.model,
                rank=weights.rank,
                alpha=weights.alpha,
                step=0,
                round_id=round_id,
                attempt=attempt,
            )
            return set_state(session, round_id, "done", attempt=attempt)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _write(folder: Path, weights: AdapterWeights) -> str:
    """The files that a round of training leaves; returns the SHA-256 of the weights."""
    with new_folder(folder) as scratch:
        write_tensors(scratch / PEFT_FILE, peft_tensors(weights), {"format": "pt"})
        text = json.dumps(weights.config, indent=2, sort_keys=True) + "\n"
        (scratch / PEFT_CONFIG).write_bytes(text.encode("utf-8"))
        facts = diffusers_metadata(weights)
        write_tensors(scratch / DIFFUSERS_FILE, diffusers_tensors(weights), facts)
        return _sha256(scratch / PEFT_FILE)


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
