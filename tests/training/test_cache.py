"""Inversions are made once, belong to their content, and do not depend on their batch."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from inpo_studio.training.cache import (
    BATCH,
    InversionKey,
    cache_bytes,
    cached_inversions,
    evict,
)

KEY = InversionKey("reference", (1, 501), "float32:cpu")
X_0 = torch.randn(BATCH + 3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
PROMPTS = [f"prompt {index % 2}" for index in range(len(X_0))]


class CountingInvert:
    """Stands for the model: counts the images it was asked for."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __call__(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        self.batches.append(rows.tolist())
        x_t = torch.stack([X_0[rows] + 1, X_0[rows] + 2])
        return x_t, -x_t


def test_made_once_and_then_read(tmp_path: Path) -> None:
    first, second = CountingInvert(), CountingInvert()
    made = cached_inversions(tmp_path, KEY, X_0, PROMPTS, first)
    read = cached_inversions(tmp_path, KEY, X_0, PROMPTS, second)
    assert len(first.batches) == 2
    assert second.batches == []
    assert torch.equal(made.x_t, read.x_t)
    assert torch.equal(made.x_t[1], X_0 + 2)
    assert read.noise_pred is not None
    assert torch.equal(read.noise_pred, -read.x_t)
    less = cached_inversions(tmp_path, KEY, X_0, PROMPTS, second, with_predictions=False)
    assert less.noise_pred is None
    assert torch.equal(less.x_t, read.x_t)


def test_low_levels_stay_on_the_disk(tmp_path: Path) -> None:
    whole = cached_inversions(tmp_path, KEY, X_0, PROMPTS, CountingInvert())
    for folder in (tmp_path, tmp_path / "anew"):
        high = cached_inversions(folder, KEY, X_0, PROMPTS, CountingInvert(), lowest=1)
        assert len(high.x_t) == 1
        for name in ("x_t", "noise_pred"):
            assert torch.equal(high.at(name, 1, 3), whole.at(name, 1, 3))
    with pytest.raises(IndexError):
        high.at("x_t", 0, 3)


def test_what_is_not_finite_is_said_and_not_kept(tmp_path: Path) -> None:
    def invert(rows: Tensor) -> tuple[Tensor, Tensor]:
        x_t, noise_pred = CountingInvert()(rows)
        return x_t, noise_pred / 0.0

    with pytest.raises(FloatingPointError, match="float32"):
        cached_inversions(tmp_path, KEY, X_0, PROMPTS, invert)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_batches_are_always_full(tmp_path: Path) -> None:
    invert = CountingInvert()
    cached_inversions(tmp_path, KEY, X_0, PROMPTS, invert)
    assert [len(batch) for batch in invert.batches] == [BATCH, BATCH]


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, reference="another"),
        replace(KEY, levels=(1, 301)),
        replace(KEY, dtype="bfloat16:cpu"),
        replace(KEY, noise="0.1:3"),
    ],
)
def test_anything_that_matters_is_in_the_key(tmp_path: Path, other: InversionKey) -> None:
    assert KEY.entry(X_0[0], "a") != other.entry(X_0[0], "a")
    assert KEY.entry(X_0[0], "a") != KEY.entry(X_0[0], "b")
    assert KEY.entry(X_0[0], "a") != KEY.entry(X_0[1], "a")


def test_a_damaged_entry_is_made_again(tmp_path: Path) -> None:
    cached_inversions(tmp_path, KEY, X_0, PROMPTS, CountingInvert())
    damaged = sorted(tmp_path.rglob("*.safetensors"))[0]
    damaged.write_bytes(damaged.read_bytes()[:40])
    again = CountingInvert()
    made = cached_inversions(tmp_path, KEY, X_0, PROMPTS, again)
    assert len(again.batches) == 1
    assert torch.equal(made.x_t[0], X_0 + 1)


def test_what_was_inverted_before_a_stop_is_kept(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop_after_one_batch(done: int, total: int) -> None:
        if done == BATCH:
            raise Stop

    first = CountingInvert()
    with pytest.raises(Stop):
        cached_inversions(tmp_path, KEY, X_0, PROMPTS, first, stop_after_one_batch)
    rest = CountingInvert()
    cached_inversions(tmp_path, KEY, X_0, PROMPTS, rest)
    assert [set(batch) for batch in rest.batches] == [set(range(BATCH, len(X_0)))]
    assert not list(tmp_path.rglob("*.tmp"))


def test_what_no_round_has_read_for_long_is_evicted(tmp_path: Path) -> None:
    cached_inversions(tmp_path, KEY, X_0, PROMPTS, CountingInvert())
    entries = sorted(tmp_path.rglob("*.safetensors"))
    whole = cache_bytes(tmp_path)
    assert whole == sum(path.stat().st_size for path in entries)
    month = 30 * 24 * 3600
    for path in entries:
        os.utime(path, (time.time() - 2 * month,) * 2)
    # Reading is use: these two stay.
    cached_inversions(tmp_path, KEY, X_0[:2], PROMPTS[:2], CountingInvert())
    freed = evict(tmp_path)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2
    assert freed + cache_bytes(tmp_path) == whole
    assert evict(tmp_path) == 0
    assert cache_bytes(tmp_path / "nowhere") == evict(tmp_path / "nowhere") == 0


def test_what_a_kill_left_half_written_goes_after_an_hour(tmp_path: Path) -> None:
    cached_inversions(tmp_path, KEY, X_0, PROMPTS, CountingInvert())
    entry = next(tmp_path.rglob("*.safetensors"))
    half = entry.with_name("tmpabc.tmp")
    half.write_bytes(entry.read_bytes()[:100])
    again = CountingInvert()
    cached_inversions(tmp_path, KEY, X_0, PROMPTS, again)
    assert again.batches == []
    assert evict(tmp_path) == 0
    assert evict(tmp_path, now=time.time() + 3601) == 100
    assert not half.exists()
    assert entry.exists()
