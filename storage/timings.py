"""How long the parts of a round took: a small file in the round's folder, for estimates."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path

from storage.files import write_durably

FILE = "timing.json"


def machine_name(device: str, threads: int) -> str:
    """What timings are comparable on: this host with these settings."""
    return f"{platform.node()}, {device}, {threads} threads"


def note_timings(folder: Path, machine: str, **seconds: float) -> None:
    """Add to what is known of a round in `folder`; what another machine noted is dropped."""
    known = dict(read_timings(folder, machine))
    known.update({name: value for name, value in seconds.items() if math.isfinite(value)})
    content = json.dumps({"machine": machine, "seconds": known}, sort_keys=True)
    write_durably(folder / FILE, content.encode("utf-8"))


def read_timings(folder: Path, machine: str) -> Mapping[str, float]:
    """Seconds by part as noted on this machine; empty where there are none."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if found["machine"] != machine:
            return {}
        return {str(name): float(value) for name, value in found["seconds"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
