"""Seeds as functions of what they are for, never of global state."""

from __future__ import annotations

import hashlib

_BITS = 63


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on all of ``parts`` and their order.

    The same parts give the same seed on every machine and Python version (SHA-256 of the parts'
    text), so that whatever is drawn from it can be drawn again after a crash.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _BITS)
