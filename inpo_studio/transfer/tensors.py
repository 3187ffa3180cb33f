"""Safetensors files by the byte: read without copying, written in one pass, the same each time.

The format is 8 bytes of header length, a JSON header, and the tensors' bytes without gaps
(https://huggingface.co/docs/safetensors, section "Format"). It is written here rather than by the
library because that one puts several metadata entries in no fixed order, holds a whole file in
memory, and without torch has no bfloat16.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from inpo_studio.studio.errors import StudioError

Array = NDArray[Any]
Floats = NDArray[np.float32]

LARGEST_HEADER = 16 * 2**20
"""Bytes; a full checkpoint's header has some 300 KB."""
_BY_SIZE = {
    8: ("F64", "I64", "U64"),
    4: ("F32", "I32", "U32"),
    2: ("F16", "BF16", "I16", "U16"),
    1: ("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"),
}
_ITEM_BYTES = {dtype: size for size, dtypes in _BY_SIZE.items() for dtype in dtypes}
_FLOATS = ("F32", "F16", "BF16", "F64")


@dataclass(frozen=True)
class Tensor:
    """A tensor to write: how it is stored, and its bytes, made when they are needed."""

    dtype: str
    """A name of the format: F32, F16, BF16, ..."""
    shape: tuple[int, ...]
    data: Callable[[], bytes | memoryview]

    @property
    def nbytes(self) -> int:
        """Size of `data` in bytes."""
        return math.prod(self.shape) * _ITEM_BYTES[self.dtype]


class TensorFile:
    """A safetensors file that is open for reading; its bytes stay on the disk until asked for."""

    def __init__(self, path: Path) -> None:
        """Read the header. Raises StudioError when the file is missing or damaged."""
        self.path = path
        try:
            with path.open("rb") as stream:
                self._start, header = _read_header(stream)
            self.metadata: dict[str, str] = header.pop("__metadata__", None) or {}
            self._tensors: dict[str, tuple[str, tuple[int, ...], int, int]] = {
                name: (str(at["dtype"]), tuple(map(int, at["shape"])), *at["data_offsets"])
                for name, at in sorted(header.items(), key=lambda item: item[1]["data_offsets"])
            }
            self._check(path.stat().st_size)
        except OSError as error:
            raise StudioError(f"{path} cannot be read ({error.strerror}).") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise StudioError(
                f"{path} is not a whole .safetensors file; download or export it again."
            ) from error
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")

    def _check(self, size: int) -> None:
        for dtype, shape, start, end in self._tensors.values():
            expected = math.prod(shape) * _ITEM_BYTES[dtype]
            if not 0 <= start <= end <= size - self._start or end - start != expected:
                raise ValueError("a tensor lies outside of the file")

    def __iter__(self) -> Iterator[str]:
        """Names in the order of the file."""
        return iter(self._tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._tensors[name][1]

    def stored(self, name: str) -> Tensor:
        """The tensor as it is, to be written to another file."""
        dtype, shape, start, end = self._tensors[name]
        place = slice(self._start + start, self._start + end)
        return Tensor(dtype, shape, lambda: self._bytes[place].data)

    def floats(self, name: str) -> Floats:
        """The tensor in float32. Raises StudioError when it is of integers or not finite."""
        stored = self.stored(name)
        if stored.dtype not in _FLOATS:
            raise StudioError(f"{self.path.name}: {name} holds no floating-point numbers.")
        found = _decode(stored)
        if not np.isfinite(found).all():
            raise StudioError(f"{self.path.name}: {name} holds values that are not numbers.")
        return found


def float_tensor(values: Array, dtype: str = "F32") -> Tensor:
    """`values` to be stored as F32, F16 or BF16, rounded to nearest."""
    return Tensor(dtype, values.shape, lambda: _encode(values, dtype))


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a file that appears whole or not at all; equal content gives equal bytes.

    Tensors come in the mapping's order. Raises StudioError when there is a file already, or it
    cannot be written.
    """
    if path.exists() or path.is_symlink():
        raise StudioError(f"{path} is there already; name a new file.")
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": tensor.dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    text += b" " * (-len(text) % 8)
    parts = (tensor.data() for tensor in tensors.values())
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(path, len(text).to_bytes(8, "little") + text, parts)
    except OSError as error:
        raise StudioError(f"{path} cannot be written ({error.strerror}).") from error


def _write_whole(path: Path, head: bytes, parts: Iterable[bytes | memoryview]) -> None:
    number, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    scratch = Path(name)
    try:
        with os.fdopen(number, "wb") as stream:
            stream.write(head)
            for part in parts:
                stream.write(part)
            stream.flush()
            os.fsync(stream.fileno())
        scratch.chmod(0o644)
        scratch.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            scratch.unlink()
        raise


def _read_header(stream: BinaryIO) -> tuple[int, dict[str, Any]]:
    """Where the tensors begin, and the header."""
    length = int.from_bytes(stream.read(8), "little")
    if not 2 <= length <= LARGEST_HEADER:
        raise ValueError("no header of this format")
    header = json.loads(stream.read(length).decode("utf-8"))
    return 8 + length, cast("dict[str, Any]", header)


def _decode(tensor: Tensor) -> Floats:
    data = tensor.data()
    if tensor.dtype == "BF16":
        # bfloat16 is the upper half of a float32.
        values = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        kind = {"F32": "<f4", "F16": "<f2", "F64": "<f8"}[tensor.dtype]
        values = np.frombuffer(data, kind).astype(np.float32)
    return values.reshape(tensor.shape)


def _encode(values: Array, dtype: str) -> bytes:
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    if dtype == "F64":
        return values.astype("<f8").tobytes()
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    # To nearest, ties to even: what torch does.
    rounded = bits + (np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1)))
    return (rounded >> np.uint32(16)).astype("<u2").tobytes()
