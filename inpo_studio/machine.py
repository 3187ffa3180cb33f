"""What this machine has for models: processors, devices and memory. Torch runs in a child."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
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
_CGROUPS = Path("/sys/fs/cgroup")


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


def computing_threads(asked: int = 0) -> int:
    """The CPU threads of a process that computes: as `asked`, or where that is 0 what serves best.

    That is every physical core but one, which pages, browser and the rest of the machine keep:
    threads wait for each other at every operation, so one that has to share its core holds up
    all, and two threads on two cores take several times as long as one as soon as anything else
    runs.
    """
    return asked or max(1, physical_cores() - 1)


def physical_cores() -> int:
    """How many physical cores this process may use, at least 1."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    counts = (allowed, psutil.cpu_count(logical=False), _quota())
    return max(1, min((count for count in counts if count), default=1))


def _quota() -> int | None:
    """The cores whose time a container may take, which it sees all of; None without a limit."""
    try:
        if (whole := _CGROUPS / "cpu.max").exists():
            limit, period = whole.read_text().split()
        else:
            limit = (_CGROUPS / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (_CGROUPS / "cpu" / "cpu.cfs_period_us").read_text()
        return max(1, round(int(limit) / int(period))) if int(limit) > 0 else None
    except (OSError, ValueError):  # no such groups, or "max"
        return None
