"""Inverted latents on disk, by content, so that no image is inverted twice.

An entry is one image's DDIM inversion by one reference on one grid: its latents x_t and the
reference's noise prediction at every level. It depends on nothing but what its key names, so
entries are shared by rounds and survive any crash (they appear by rename).
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from inpo_studio.training.together import ALONE, Together

# Images are inverted in batches of exactly this size, padded by repetition: arithmetic on a
# CPU or GPU may differ in the last bit with the batch size, and an entry must not depend on
# which other images were inverted beside it. Where memory is too small for that, the network takes
# a batch in parts, and an entry may differ in that bit.
BATCH = 16
_FORMAT = 1
# An entry that no round has read for so long is of no use to the next one.
KEEP_S = 30 * 24 * 3600.0
# What a killed process was writing; no entry takes this long.
_STALE_S = 3600.0


@dataclass(frozen=True)
class CachedInversion:
    """``x_t`` and ``noise_pred`` from level ``lowest`` up, ``(levels, images, c, h, w)`` float32.

    ``noise_pred`` is None where nobody asked for it: held in memory the two are as large.
    """

    x_t: Tensor
    noise_pred: Tensor | None
    lowest: int = 0

    def at(self, name: str, level: int, image: int) -> Tensor:
        """``x_t`` or ``noise_pred`` of an image at a level of the grid, ``(c, h, w)``."""
        if level < self.lowest:
            raise IndexError(f"Level {level} is not held; the lowest that is is {self.lowest}.")
        held: Tensor = getattr(self, name)[level - self.lowest, image]
        return held


@dataclass(frozen=True)
class InversionKey:
    """Everything an inversion depends on beside the image's latents and its prompt."""

    reference: str
    """Fingerprint of the model and of the parent's adapter, if any."""
    levels: tuple[int, ...]
    dtype: str
    noise: str = ""
    """Eta and the round's seed where noise is added on the way up; empty without."""

    def entry(self, x_0: Tensor, prompt: str) -> str:
        """File stem of the entry of ``x_0`` ``(c, h, w)`` for ``prompt``."""
        digest = hashlib.sha256()
        facts = [_FORMAT, self.reference, list(self.levels), self.dtype, prompt, list(x_0.shape)]
        if self.noise:
            facts.append(self.noise)
        digest.update(json.dumps(facts).encode("utf-8"))
        digest.update(x_0.float().contiguous().cpu().numpy().tobytes())
        return digest.hexdigest()


Invert = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From image indices ``(BATCH,)`` to x_t and noise_pred, each ``(levels, BATCH, c, h, w)``."""


def cached_inversions(
    folder: Path,
    key: InversionKey,
    x_0: Tensor,
    prompts: Sequence[str],
    invert: Invert,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    together: Together = ALONE,
    *,
    with_predictions: bool = True,
    lowest: int = 0,
) -> CachedInversion:
    """Inversions of ``x_0`` ``(images, c, h, w)``, read from ``folder`` or made by ``invert``.

    ``prompts`` holds each image's prompt. ``on_progress(done, total)`` may raise to stop: what
    was inverted until then is kept. Several processes make some batches each and read the others'.
    ``with_predictions`` False leaves ``noise_pred`` on the disk, and ``lowest`` the levels of the
    grid before it. Raises FloatingPointError where an inversion is not finite.
    """
    paths = [_path(folder, key.entry(x_0[i], prompts[i])) for i in range(len(x_0))]
    found = _Found.empty(len(key.levels), lowest, x_0, with_predictions)
    found.read(paths)
    missing = together.decide(found.missing)
    mine = _in_batches(missing)[together.rank :: together.size]
    _make(mine, paths, found, invert, on_progress)
    together.wait()
    found.read(paths)
    # What another process has made and this one cannot read.
    _make(_in_batches(found.missing()), paths, found, invert, on_progress)
    on_progress(len(x_0), len(x_0))
    return CachedInversion(found.x_t, found.noise_pred, lowest)


@dataclass(frozen=True)
class _Found:
    """The tables of a :class:`CachedInversion`, filled image by image, and which are."""

    x_t: Tensor
    noise_pred: Tensor | None
    lowest: int
    images: set[int]

    @staticmethod
    def empty(levels: int, lowest: int, x_0: Tensor, with_predictions: bool) -> _Found:
        def table() -> Tensor:
            return torch.empty((levels - lowest, *x_0.shape))

        return _Found(table(), table() if with_predictions else None, lowest, set())

    def missing(self) -> list[int]:
        return [i for i in range(self.x_t.shape[1]) if i not in self.images]

    def read(self, paths: Sequence[Path]) -> None:
        """Take in the entries that are missing here and on the disk."""
        for image in self.missing():
            entry = _read(paths[image])
            if entry is not None:
                self.put(image, entry)

    def put(self, image: int, entry: dict[str, Tensor]) -> None:
        self.x_t[:, image] = entry["x_t"][self.lowest :]
        if self.noise_pred is not None:
            self.noise_pred[:, image] = entry["noise_pred"][self.lowest :]
        self.images.add(image)


def _in_batches(images: list[int]) -> list[list[int]]:
    return [images[start : start + BATCH] for start in range(0, len(images), BATCH)]


def _make(
    batches: Sequence[list[int]],
    paths: Sequence[Path],
    found: _Found,
    invert: Invert,
    on_progress: Callable[[int, int], None],
) -> None:
    """Invert batches of images, write their entries, and add them to those ``found``."""
    for batch in batches:
        on_progress(len(found.images), len(paths))
        padded = torch.tensor(batch + [batch[-1]] * (BATCH - len(batch)))
        x_t, noise_pred = (part.float().cpu() for part in invert(padded))
        if not bool(torch.isfinite(x_t).all()) or not bool(torch.isfinite(noise_pred).all()):
            raise FloatingPointError(
                "Inverting a picture gave values that are not numbers: set the round's arithmetic "
                "(dtype) to float32."
            )
        for column, index in enumerate(batch):
            entry = {
                "x_t": x_t[:, column].contiguous(),
                "noise_pred": noise_pred[:, column].contiguous(),
            }
            _write(paths[index], entry)
            found.put(index, entry)


def cache_bytes(folder: Path) -> int:
    """Bytes that the entries under ``folder`` take."""
    return sum(_status(path)[0] for path in folder.rglob("*.safetensors"))


def evict(folder: Path, keep_s: float = KEEP_S, now: float | None = None) -> int:
    """Remove the entries that were not read or written for ``keep_s`` seconds; returns the bytes.

    Half-written files that a kill left behind go after an hour. An entry that another process
    removes meanwhile, or that cannot be removed, is passed over.
    """
    at = time.time() if now is None else now
    freed = 0
    for pattern, allowed in (("*.safetensors", keep_s), ("*.tmp", _STALE_S)):
        for path in folder.rglob(pattern):
            size, used_at = _status(path)
            if at - used_at <= allowed:
                continue
            try:
                path.unlink()
            except OSError:
                continue
            freed += size
    return freed


def _status(path: Path) -> tuple[int, float]:
    """Size and time of last use; nothing, and used just now, where the file has gone."""
    try:
        seen = path.stat()
    except OSError:
        return 0, float("inf")
    return seen.st_size, seen.st_mtime


def _path(folder: Path, stem: str) -> Path:
    return folder / stem[:2] / f"{stem}.safetensors"


def _read(path: Path) -> dict[str, Tensor] | None:
    """The entry at ``path``; None where there is none or where it does not read."""
    if not path.exists():
        return None
    try:
        entry: dict[str, Tensor] = load_file(path)
    except Exception:  # a damaged file is a missing one: it is made again and replaced
        return None
    whole = set(entry) == {"x_t", "noise_pred"} and all(
        bool(torch.isfinite(tensor).all()) for tensor in entry.values()
    )
    if not whole:
        return None
    with suppress(OSError):
        os.utime(path)  # age is counted from the last use
    return entry


def _write(path: Path, entry: dict[str, Tensor]) -> None:
    """Write by rename, so that a kill leaves the old entry, the new one, or none.

    The file is not synced: an entry lost with the power is only made again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    os.close(descriptor)
    try:
        save_file(entry, temporary)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
