"""What this machine's CPU can do, as far as it can be told without torch."""

from __future__ import annotations

import functools
from pathlib import Path

_WORDS = {"avx512_bf16", "amx_bf16", "bf16"}


@functools.cache
def says_bf16() -> bool | None:
    """Whether the CPU says that it multiplies bfloat16 natively (AVX512-BF16, AMX or Arm's bf16).

    None where the system keeps no such list.
    """
    flags = Path("/proc/cpuinfo")
    if not flags.is_file():
        return None
    return bool(_WORDS & set(flags.read_text(encoding="utf-8", errors="replace").split()))
