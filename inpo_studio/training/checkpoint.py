"""Resumable training state: directories with hashes, published by rename.

A checkpoint directory is either whole or not there. Weights and optimizer state are safetensors,
everything else is JSON; ``manifest.json`` holds each file's SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor

_PREFIX = "checkpoint-"
_MANIFEST = "manifest.json"
_TENSORS = "tensors.safetensors"
_STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """``step`` optimiser steps are done; ``tensors`` and ``facts`` are what goes on from there."""

    step: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def save_checkpoint(folder: Path, checkpoint: Checkpoint, keep: int = 2) -> Path:
    """Publish ``checkpoint`` under ``folder`` and then remove all but the newest ``keep``."""
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"{_PREFIX}{checkpoint.step:06d}"
    temporary = folder / f".{final.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
    save_file(tensors, temporary / _TENSORS)
    state = {"step": checkpoint.step, "facts": checkpoint.facts}
    (temporary / _STATE).write_text(json.dumps(state, sort_keys=True), encoding="utf-8")
    hashes = {name: _sha256(temporary / name) for name in (_TENSORS, _STATE)}
    (temporary / _MANIFEST).write_text(json.dumps(hashes, sort_keys=True), encoding="utf-8")
    for name in (_TENSORS, _STATE, _MANIFEST):
        _sync(temporary / name)
    _sync(temporary)
    if final.exists():
        # The same step again, after a resume that went back: whole or not, the new one holds.
        shutil.rmtree(final)
    temporary.replace(final)
    _sync(folder)
    for stale in _listed(folder)[:-keep]:
        shutil.rmtree(stale, ignore_errors=True)
    return final


def latest_checkpoint(folder: Path, facts: Mapping[str, Any]) -> Checkpoint | None:
    """The newest whole checkpoint, or None; ``facts`` must hold in it.

    A damaged directory is passed over for the one before it. Raises ``ValueError`` when a whole
    checkpoint was written under other facts (another configuration, other weights), since going
    on from it would give a run that is neither.
    """
    for path in reversed(_listed(folder)):
        checkpoint = _read(path)
        if checkpoint is None:
            continue
        for name, value in facts.items():
            if not _agree(checkpoint.facts.get(name), value):
                raise ValueError(
                    f"The checkpoint {path.name} was written with another {name}: "
                    "start a new round instead of going on with this one."
                )
        return checkpoint
    return None


def _agree(stored: Any, wanted: Any) -> bool:
    """Whether a stored fact is the wanted one.

    A setting that the checkpoint lacks is newer than it, and the round it belongs to lacks it too:
    both mean its default.
    """
    if isinstance(stored, Mapping) and isinstance(wanted, Mapping):
        return {**wanted, **stored} == wanted
    return bool(stored == wanted)


def _read(path: Path) -> Checkpoint | None:
    try:
        hashes = json.loads((path / _MANIFEST).read_text(encoding="utf-8"))
        if any(_sha256(path / name) != hashes[name] for name in (_TENSORS, _STATE)):
            return None
        state = json.loads((path / _STATE).read_text(encoding="utf-8"))
        return Checkpoint(int(state["step"]), load_file(path / _TENSORS), state["facts"])
    except (OSError, ValueError, KeyError):
        return None


def _listed(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob(f"{_PREFIX}*") if path.is_dir())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    """Flush a file or, where the platform can, a directory to the disk."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Windows syncs no read-only handle; the hashes still tell a torn file from a whole one.
        if os.name != "nt":
            raise
    finally:
        os.close(descriptor)
