"""Where a pipeline runs and in which arithmetic."""

from __future__ import annotations

import platform

import torch

from inpo_studio.diffusion.cpu import says_bf16

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str = "auto") -> torch.device:
    """The device named, or with 'auto' CUDA, then MPS, then the CPU.

    Raises ValueError when the device named is not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError as problem:
        raise ValueError(f"'{device}' is no device; use auto, cpu, cuda or mps.") from problem
    missing = (chosen.type == "cuda" and not torch.cuda.is_available()) or (
        chosen.type == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise ValueError(f"This machine has no {chosen.type} device; use device 'auto' or 'cpu'.")
    return chosen


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The arithmetic named, or with 'auto' the best the device has natively.

    Raises ValueError for an unknown name and for float16 on a CPU.
    """
    if dtype != "auto":
        if dtype not in DTYPES:
            raise ValueError(f"'{dtype}' is no dtype; use auto, {', '.join(DTYPES)}.")
        if dtype == "float16" and device.type == "cpu":
            raise ValueError("float16 needs a GPU; use dtype 'auto' on the CPU.")
        return DTYPES[dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    if device.type == "mps":
        return torch.float16
    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 natively.

    Without that bfloat16 is emulated, and slower than float32.
    """
    said = says_bf16()
    if said is not None:
        return said
    if platform.machine() in ("AMD64", "x86_64"):
        return bool(torch.cpu._is_avx512_bf16_supported())
    return False
