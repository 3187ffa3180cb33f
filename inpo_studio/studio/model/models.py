"""Models: what the present one is, which others are at hand, and what a named one would be.

Nothing here changes anything, and no weights are fetched. Torch-free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sqlalchemy import select

from inpo_studio import machine
from inpo_studio.diffusion import checkpoints, downloads, hub, layout, sources
from inpo_studio.diffusion.cpu import says_bf16
from inpo_studio.diffusion.families import (
    ModelConfigs,
    UnsupportedModel,
    describe,
    read_configs,
    refuse_other_schedules,
)
from inpo_studio.diffusion.memory import ModelNeeds, plan, read_text_configs
from inpo_studio.settings import EMBEDDED_MODEL, SettingsError, plain_model_name
from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from storage.schema import ModelState, Pair, Round

Origin = Literal["studio", "hub", "folder", "file"]
LONGEST_NAME = 500
"""Characters that the database keeps of a model's name."""
_HUB_PAGE = "https://huggingface.co/"


@dataclass(frozen=True)
class Found:
    """A model that somebody named: what it is, where it is, and whether it can be used."""

    name: str
    """Under which its pairs, choices and rounds are kept."""
    origin: Origin
    title: str = ""
    """What it is, in plain words; empty where that is not known."""
    place: str = ""
    """Where it lies on this machine."""
    bytes: int = 0
    """On this machine's disk."""
    fits: bool | None = None
    """Whether its rounds and pictures fit this machine's memory; None: not looked up yet."""
    plan: str = ""
    """How it would use this machine's memory, in one sentence."""
    problem: str = ""
    """Why it cannot be used as it is; one sentence."""
    missing: downloads.Missing | None = None
    """What would have to be fetched first."""

    @property
    def size(self) -> str:
        """What it takes on the disk, in words; empty where nothing of it is here."""
        return downloads.size_word(self.bytes) if self.bytes else ""

    @property
    def ready(self) -> bool:
        """Whether it can be used at once."""
        return not self.problem and (self.missing is None or not self.missing.to_fetch)


@dataclass(frozen=True)
class Offer:
    """A model at hand."""

    name: str
    title: str
    used: bool
    """Whether this workspace has pairs or rounds of it."""
    present: bool
    """Whether it is the one in use."""


def present_model(studio: Studio) -> Found:
    """The model in use; what is wrong with it is told, not raised. Never waits for a network."""
    settings = studio.settings
    name, origin = settings.model, origin_of(settings.model)
    try:
        source = sources.locate(name)
        found = _local(name, origin, source, machine.place_if_known(settings.device))
    except UnsupportedModel as error:
        return Found(name, origin, problem=str(error))
    return found


def ready_model(studio: Studio, name: str) -> Found:
    """A model that can be used at once; StudioError, one sentence, where it cannot."""
    try:
        place = machine.place_if_known(studio.settings.device)
        found = _local(name, origin_of(name), sources.locate(name), place)
    except UnsupportedModel as error:
        raise StudioError(str(error)) from error
    if found.problem:
        raise StudioError(found.problem)
    if not found.ready:
        raise StudioError(f"{name} needs its configuration files first; fetch them, then use it.")
    return found


def examine_model(typed: str, device: str, precision: downloads.Precision | None = None) -> Found:
    """What a model is that somebody typed the name of: a few KB are fetched at most.

    `device` is the setting of that name. Without a precision, weights come in half precision where
    the machine computes in it. Raises StudioError, one sentence, for what cannot be used.
    """
    name = named(typed)
    try:
        place = machine.place_of(device)
        if origin_of(name) == "hub" and layout.whole_snapshot(name) is None:
            chosen = precision or ("half" if place.halves else "full")
            return _remote(name, chosen, place)
        found = _local(name, origin_of(name), sources.locate(name), place)
    except UnsupportedModel as error:
        raise StudioError(str(error)) from error
    if found.problem:
        raise StudioError(found.problem)
    return found


def offers(studio: Studio) -> list[Offer]:
    """The models at hand: of this workspace, of the Hub's cache, and the one that is built in."""
    with studio.database.read() as session:
        used = {
            *session.scalars(select(Pair.model).distinct()),
            *session.scalars(select(Round.model).distinct()),
            *session.scalars(select(ModelState.model)),
        }
    present = studio.settings.model
    names = {EMBEDDED_MODEL, present, *used, *hub.cached_repositories()}
    found = []
    for name in sorted(names, key=lambda name: (name != EMBEDDED_MODEL, name.lower())):
        title = _title_here(name)
        if title or name == present:
            found.append(Offer(name, title, name in used, name == present))
    return found


def named(typed: str) -> str:
    """The one name of a model that somebody typed; StudioError where it can be none."""
    typed = typed.strip()
    if typed.startswith(_HUB_PAGE):
        typed = "/".join(typed.removeprefix(_HUB_PAGE).split("/")[:2])
    if not typed or len(typed) > LONGEST_NAME:
        raise StudioError("Name a model first: a Hub id like owner/name, a folder or a file.")
    try:
        return plain_model_name(typed)
    except (SettingsError, OSError, ValueError) as error:
        raise StudioError(str(error)) from error


def origin_of(name: str) -> Origin:
    """Where a model comes from, told by its name."""
    if name == EMBEDDED_MODEL:
        return "studio"
    path = Path(name).expanduser()
    if path.is_dir():
        return "folder"
    return "hub" if sources.is_hub_id(name) and not path.exists() else "file"


def _local(name: str, origin: Origin, source: Path, place: machine.Place | None) -> Found:
    """A model whose weights are on this machine."""
    kept = hub.hub_folder() if origin == "hub" else source
    found = Found(name, origin, place=str(kept), bytes=layout.bytes_on_disk(source))
    if source.is_dir():
        lacking = layout.missing(source)
        if lacking:
            return replace(
                found,
                problem=f"{source} lacks safetensors weights or files of its {lacking[0]}, and "
                "pickled ones are never loaded; complete it, or save it anew with "
                "save_pretrained(safe_serialization=True).",
            )
        configs, folder = read_configs(source), source
    else:
        checkpoint = checkpoints.inspect_checkpoint(source)
        try:
            folder = checkpoints.configuration_folder(source, checkpoint, fetch=False)
        except UnsupportedModel:
            return _without_configuration(found, source, checkpoint)
        configs = checkpoints.checkpoint_configs(checkpoint, folder)
    refuse_other_schedules(configs.scheduler)
    return _fitted(replace(found, title=describe(configs)), configs, folder, place)


def _without_configuration(found: Found, file: Path, checkpoint: checkpoints.Checkpoint) -> Found:
    """A single file whose configuration has to be fetched first, some 2 MB."""
    repository = checkpoints.configuration_repository(file, checkpoint)
    missing = downloads.configuration_files(repository)
    return replace(found, title=checkpoint.family.title, missing=missing)


def _remote(name: str, precision: downloads.Precision, place: machine.Place) -> Found:
    """A model of the Hub, known from its configuration files."""
    seen = downloads.outline(name, precision)
    found = Found(name, "hub", seen.title, str(hub.hub_folder()), missing=seen.missing)
    return _fitted(found, read_configs(seen.folder), seen.folder, place)


def _fitted(
    found: Found, configs: ModelConfigs, folder: Path, place: machine.Place | None
) -> Found:
    """With what it would need of this machine's memory."""
    if place is None:
        return found
    needs = ModelNeeds.of(configs, read_text_configs(folder))
    halves = place.halves or bool(says_bf16())
    made = plan(needs, place.memory_bytes, dtype="bfloat16" if halves else "float32")
    fits = made.trains and made.draws
    return replace(found, fits=fits, plan=made.sentence)


def _title_here(name: str) -> str:
    """What a model on this machine is; empty where it is not here or cannot be used."""
    return _quietly(lambda: _title(name))


def _title(name: str) -> str:
    folder = checkpoints.local_folder(name)
    if folder is None:
        return "a single file" if Path(name).is_file() else ""
    return describe(read_configs(folder))


def _quietly(work: Callable[[], str]) -> str:
    try:
        return work()
    except (UnsupportedModel, OSError, KeyError, TypeError):
        return ""
