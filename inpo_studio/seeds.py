"""Seeds as functions of what they are for, never of global state."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

_BITS = 63


@dataclass(frozen=True)
class Variation:
    """Noise between that of two seeds: a picture like `seed`'s, the less so the larger `strength`.

    The names are those of other tools: `seed` is the picture varied, `variation_seed` what it is
    turned towards, by the share `strength` of the way (0: `seed`'s own noise, 1: the other's).
    """

    seed: int
    variation_seed: int
    strength: float


def derive_seed(*parts: int | str) -> int:
    """Return a 63-bit seed that depends on all of ``parts`` and their order.

    The same parts give the same seed on every machine and Python version (SHA-256 of the parts'
    text), so that whatever is drawn from it can be drawn again after a crash.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in parts)
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - _BITS)
