"""What this machine has for models: its devices and their memory. Torch runs in a child."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

import psutil

_PROBE = """
import json, torch
found = {"torch": torch.__version__, "threads": torch.get_num_threads(), "devices": []}
if torch.cuda.is_available():
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        found["devices"].append(
            {"device": f"cuda:{index}", "name": name, "free_bytes": free, "total_bytes": total})
elif torch.backends.mps.is_available():
    found["devices"].append({"device": "mps", "name": "Apple GPU"})
print(json.dumps(found))
"""
_looking = threading.Lock()


@dataclass(frozen=True)
class Place:
    """The device that models run on, and the memory they may take there."""

    device: str
    """`cpu`, `mps` or `cuda:N`."""
    memory_bytes: int
    """Of a card all of it; of the machine's own memory what is free."""

    @property
    def halves(self) -> bool:
        """Whether models run in half precision there, so that weights in half precision do."""
        return self.device != "cpu"


def probe() -> dict[str, Any]:
    """Torch's version, threads and accelerators, from a child process that imports it.

    Raises OSError, ValueError or subprocess.SubprocessError where torch cannot be started.
    """
    child = subprocess.run(
        [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=120, check=True
    )
    found: dict[str, Any] = json.loads(child.stdout)
    return found


def place_of(device: str) -> Place:
    """Where a device setting (`auto`, `cpu`, `mps`, `cuda`, `cuda:N`) leads on this machine.

    The first call may take seconds: it starts torch in a child, unless the CPU is asked for.
    """
    free = psutil.virtual_memory().available
    cards = [] if device == "cpu" else _accelerators()
    if device == "auto":
        device = cards[0]["device"] if cards else "cpu"
    name = "cuda:0" if device == "cuda" else device
    card = next((card for card in cards if card["device"] == name), {})
    return Place(name, int(card.get("total_bytes", free)))


def place_if_known(device: str) -> Place | None:
    """`place_of` without waiting: None while it is looked up, which this begins."""
    if device == "cpu" or _accelerators.cache_info().currsize:
        return place_of(device)
    if _looking.acquire(blocking=False):

        def look() -> None:
            try:
                _accelerators()
            finally:
                _looking.release()

        threading.Thread(target=look, name="probe", daemon=True).start()
    return None


@functools.cache
def _accelerators() -> list[dict[str, Any]]:
    try:
        found: list[dict[str, Any]] = probe()["devices"]
    except (OSError, ValueError, subprocess.SubprocessError):
        return []
    return found
