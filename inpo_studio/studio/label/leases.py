"""Which page holds which pair, so that no two show the same one at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

LEASE_S = 90.0
"""How long a pair stays with a page that says nothing; pages ask again every few seconds."""


class Leases:
    """Short reservations of pairs, in the memory of the one web process; thread-safe.

    They only avoid double work: what makes a choice unique is the database.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start empty; `clock` gives seconds."""
        self._clock = clock
        self._held: dict[str, tuple[str, float]] = {}
        self._lock = threading.RLock()

    def hold(self, holder: str, pair_ids: Iterable[str]) -> set[str]:
        """Reserve, or keep reserved, what nobody else holds; returns what was granted."""
        with self._lock:
            until = self._clock() + LEASE_S
            others = self.held_by_others(holder)
            granted = {pair_id for pair_id in pair_ids if pair_id not in others}
            self._held.update(dict.fromkeys(granted, (holder, until)))
            return granted

    def keep_only(self, holder: str, pair_ids: Iterable[str]) -> None:
        """Free everything else that this holder had."""
        kept = set(pair_ids)
        with self._lock:
            self._held = {
                pair_id: held
                for pair_id, held in self._held.items()
                if held[0] != holder or pair_id in kept
            }

    def held_by_others(self, holder: str) -> set[str]:
        """Return the pairs that this holder must not be given now."""
        with self._lock:
            now = self._clock()
            self._held = {pair: held for pair, held in self._held.items() if held[1] > now}
            return {pair for pair, (who, _) in self._held.items() if who != holder}

    def free(self, pair_id: str) -> None:
        """Free one pair, whoever holds it."""
        with self._lock:
            self._held.pop(pair_id, None)
