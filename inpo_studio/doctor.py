"""What the studio would run on, looked at without changing anything. Torch runs in a child."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from inpo_studio import __version__
from inpo_studio.machine import physical_cores, probe
from inpo_studio.settings import EMBEDDED_MODEL, Settings

_PACKAGES = ("torch", "diffusers", "transformers", "peft", "gradio", "dbos")
_LEAST_DISK = 2 * 2**30
_LEAST_MEMORY = 2 * 2**30


@dataclass(frozen=True)
class Finding:
    """One thing looked at: whether it will do, a sentence, and the figures behind it."""

    name: str
    ok: bool
    text: str
    details: dict[str, Any]


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield the findings one by one; nothing is written and nothing is fetched."""
    yield _versions()
    yield _workspace(settings)
    yield _database(settings)
    device = _device(settings)
    yield device
    memory = _memory()
    yield memory
    yield _disk(settings)
    yield _cache(settings)
    yield _model(settings)
    yield _plan(settings, device, memory)
    yield _worker(settings)


def _versions() -> Finding:
    found: dict[str, Any] = {"inpo-studio": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    missing = [name for name, number in found.items() if number is None]
    text = ", ".join(f"{name} {number}" for name, number in found.items() if number)
    if missing:
        text += f"; missing: {', '.join(missing)}, install the package with pip"
    return Finding("versions", not missing, text, found)


def _workspace(settings: Settings) -> Finding:
    place = _existing(settings.workspace)
    exists = place == settings.workspace
    writable = place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    text = f"{settings.workspace} {'exists' if exists else 'will be made'}"
    if not writable:
        text = f"{settings.workspace} cannot be written; choose another with --workspace"
    details = {"path": str(settings.workspace), "exists": exists, "writable": writable}
    return Finding("workspace", writable, text, details)


def _database(settings: Settings) -> Finding:
    from storage.engines import open_database

    kind = settings.database_url.split(":", 1)[0]
    details: dict[str, Any] = {"kind": kind, "sqlite": sqlite3.sqlite_version}
    if kind.startswith("sqlite") and not (settings.workspace / "studio.db").exists():
        text = f"SQLite {sqlite3.sqlite_version}; there is no database yet"
        return Finding("database", True, text, details)
    try:
        database = open_database(settings.database_url)
        try:
            with database.read() as session:
                session.connection()
            details["journal_mode"] = database.journal_mode
        finally:
            database.dispose()
    except Exception as error:
        return Finding("database", False, f"{kind} cannot be opened: {error}", details)
    text = kind if kind.startswith("postgresql") else f"SQLite {sqlite3.sqlite_version}"
    return Finding("database", True, f"{text}, journal mode {details['journal_mode']}", details)


def _device(settings: Settings) -> Finding:
    try:
        found = probe()
    except (OSError, subprocess.SubprocessError, ValueError):
        return Finding("device", False, "torch cannot be started; reinstall the package", {})
    accelerators = found["devices"]
    found["wanted"] = settings.device
    found["used"] = settings.device
    if settings.device == "auto":
        found["used"] = accelerators[0]["device"] if accelerators else "cpu"
    kind = found["used"].split(":")[0]
    ok = kind == "cpu" or any(entry["device"].startswith(kind) for entry in accelerators)
    names = ", ".join(entry["name"] for entry in accelerators) or "no GPU found"
    cores = physical_cores()
    plural = "core" if cores == 1 else "cores"
    text = f"{found['used']} ({names}; {cores} physical {plural})"
    if not ok:
        text = f"{settings.device} is not there ({names}); use --device auto"
    return Finding("device", ok, text, found)


def _memory() -> Finding:
    seen = psutil.virtual_memory()
    ok = seen.available >= _LEAST_MEMORY
    text = f"{_gigabytes(seen.available)} of {_gigabytes(seen.total)} free"
    details = {"free_bytes": seen.available, "total_bytes": seen.total}
    return Finding("memory", ok, text if ok else f"only {text}; close other programs", details)


def _disk(settings: Settings) -> Finding:
    seen = shutil.disk_usage(_existing(settings.workspace))
    ok = seen.free >= _LEAST_DISK
    text = f"{_gigabytes(seen.free)} free"
    details = {"free_bytes": seen.free, "total_bytes": seen.total}
    return Finding("disk", ok, text if ok else f"only {text}; make room", details)


def _cache(settings: Settings) -> Finding:
    folder = settings.workspace / "cache"
    size = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # another process may just have evicted it
            size += path.stat().st_size if path.is_file() else 0
    text = f"{_gigabytes(size)} in {folder}; made again when missing, dropped after 30 days unused"
    return Finding("cache", True, text, {"path": str(folder), "bytes": size})


def _model(settings: Settings) -> Finding:
    model = settings.model
    try:
        ok, text = _find_model(model)
    except FileNotFoundError as error:
        ok, text = False, str(error)
    return Finding("model", ok, f"{model}: {text}", {"model": model, "found": ok})


def _find_model(model: str) -> tuple[bool, str]:
    if model == EMBEDDED_MODEL:
        from inpo_studio.postcards import pipeline_path

        return True, f"ships with the package ({pipeline_path()})"
    path = Path(model)
    if path.is_file():
        return True, f"one file, {_gigabytes(path.stat().st_size)}"
    if path.is_dir():
        ok = (path / "model_index.json").is_file()
        return ok, "a pipeline folder" if ok else "no model_index.json in this folder"
    from inpo_studio.diffusion.families import UnsupportedModel
    from inpo_studio.diffusion.layout import whole_snapshot

    try:
        folder = whole_snapshot(model)
    except UnsupportedModel as error:
        return False, str(error)
    if folder is not None:
        return True, f"in the local Hub cache ({folder})"
    return False, f"not, or not wholly, on this machine; fetch it with `inpo-studio fetch {model}`"


def _plan(settings: Settings, device: Finding, memory: Finding) -> Finding:
    """How a round would use the memory that is free now."""
    from inpo_studio.diffusion.checkpoints import local_folder
    from inpo_studio.diffusion.cpu import says_bf16
    from inpo_studio.diffusion.families import UnsupportedModel, read_configs, recognise
    from inpo_studio.diffusion.memory import ModelNeeds, plan, read_text_configs

    used = device.details.get("used", "cpu")
    cards = {card["device"]: card for card in device.details.get("devices", [])}
    card = cards.get("cuda:0" if used == "cuda" else used, {})
    free = int(card.get("free_bytes", memory.details["free_bytes"]))
    try:
        folder = local_folder(settings.model)
        if folder is None:
            return Finding("plan", True, "known once the model is on this machine", {})
        configs = read_configs(folder)
        title = recognise(configs).title
    except UnsupportedModel as error:
        return Finding("plan", False, str(error), {})
    needs = ModelNeeds.of(configs, read_text_configs(folder))
    whole = used == "cpu" and not says_bf16()
    found = plan(needs, free, dtype="float32" if whole else "bfloat16")
    details = {
        "family": title,
        "dtype": found.dtype,
        "gradient_checkpointing": found.gradient_checkpointing,
        "micro_batch_pairs": found.micro_batch_pairs,
        "pictures_at_once": found.pictures_at_once,
        "training_bytes": found.training.total,
        "drawing_bytes": found.drawing.total,
        "free_bytes": free,
    }
    fits = found.trains and found.draws
    return Finding("plan", fits, f"{title}: {found.sentence}", details)


def _worker(settings: Settings) -> Finding:
    from inpo_studio.processes import worker_runs

    running = settings.workspace.is_dir() and worker_runs(settings.workspace)
    text = "running" if running else "none; commands do their work themselves"
    return Finding("worker", True, text, {"running": running})


def _existing(path: Path) -> Path:
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _gigabytes(count: int) -> str:
    return f"{count / 2**30:.1f} GB"
