"""Safetensors files: read as the library writes them, written as it reads them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.tensors import TensorFile, float_tensor, write_tensors

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_both_ways_agree_with_the_library(name: str, tmp_path: Path) -> None:
    values = torch.randn(3, 5, generator=torch.Generator().manual_seed(0)) * 100
    stored = values.to(DTYPES[name])
    save_file({"a": stored, "whole": torch.arange(3)}, tmp_path / "theirs", {"x": "y"})
    file = TensorFile(tmp_path / "theirs")
    assert file.metadata == {"x": "y"}
    assert set(file) == {"a", "whole"}
    assert np.array_equal(file.floats("a"), stored.float().numpy())
    ours = {"a": float_tensor(values.numpy(), name), "whole": file.stored("whole")}
    write_tensors(tmp_path / "ours", ours, {"b": "1", "a": "ü"})
    found = load_file(tmp_path / "ours")
    assert torch.equal(found["a"], stored)
    assert torch.equal(found["whole"], torch.arange(3))
    assert TensorFile(tmp_path / "ours").metadata == {"b": "1", "a": "ü"}


def test_bfloat16_is_rounded_to_nearest_even(tmp_path: Path) -> None:
    bits = np.arange(0x3F80_0000, 0x3F84_0000, 77, dtype=np.uint32)
    values = bits.view(np.float32)
    write_tensors(tmp_path / "file", {"a": float_tensor(values, "BF16")}, {})
    expected = torch.from_numpy(values.copy()).to(torch.bfloat16)
    assert torch.equal(load_file(tmp_path / "file")["a"], expected)


def header(content: object) -> bytes:
    text = json.dumps(content).encode()
    return len(text).to_bytes(8, "little") + text


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00" * 7,
        b"\xff" * 64,
        header([]),
        header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}}) + bytes(8),
        header({"a": {"dtype": "X1", "shape": [1], "data_offsets": [0, 4]}}) + bytes(4),
        header({"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}}) + bytes(8),
        header({"a": {"dtype": "F32"}}) + bytes(8),
        b"PK\x03\x04" + bytes(100),
    ],
)
def test_damaged_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(StudioError, match="not a whole"):
        TensorFile(tmp_path / "file")


def test_values_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.tensor([float("nan")]), "b": torch.arange(2)}, tmp_path / "file")
    file = TensorFile(tmp_path / "file")
    with pytest.raises(StudioError, match="not numbers"):
        file.floats("a")
    with pytest.raises(StudioError, match="no floating-point"):
        file.floats("b")


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fail() -> bytes:
        raise ZeroDivisionError

    from inpo_studio.transfer.tensors import Tensor

    with pytest.raises(ZeroDivisionError):
        write_tensors(tmp_path / "file", {"a": Tensor("U8", (1,), fail)}, {})
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(StudioError, match="already"):
        write_tensors(tmp_path / "file", {}, {})
