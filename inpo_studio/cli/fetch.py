"""`inpo-studio fetch`: look at a model of the Hub, say its size, and download it when agreed to."""

from __future__ import annotations

import sys
from typing import Any

from inpo_studio.cli.console import Console, advance
from inpo_studio.cli.opening import settings_from
from inpo_studio.settings import EMBEDDED_MODEL
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.model.fetching import fetch_here, refuse_full_disk
from inpo_studio.studio.model.models import Found, examine_model

_NOTHING = "all of it is on this machine"


def run(arguments: Any, console: Console) -> int:
    """Fetch a model; the result says what it is and where. Exit code 1 when it is declined."""
    settings = settings_from(arguments)
    found = examine_model(arguments.name, settings.device, arguments.precision)
    missing = found.missing
    console.note(f"{found.name}: {found.title}" if found.title else found.name)
    if found.plan:
        console.note(f"On this machine: {found.plan}")
    if missing is None or not missing.to_fetch:
        return _told(console, found, 0, _NOTHING)
    console.note(f"To download: {missing.sentence}")
    refuse_full_disk(found)
    if not arguments.yes and not _agreed(console):
        return 1
    _download(console, found, missing.total_bytes)
    return _told(console, found, missing.to_fetch, "fetched")


def _agreed(console: Console) -> bool:
    if console.as_json or not sys.stdin.isatty():
        raise StudioError("Nothing was downloaded, for nobody agreed to it; add --yes.")
    print("Download it? [y/N] ", end="", file=sys.stderr, flush=True)  # noqa: T201
    if sys.stdin.readline().strip().lower() in ("y", "yes"):
        return True
    console.fail("Nothing was downloaded.")
    return False


def _download(console: Console, found: Found, total: int) -> None:
    """With a progress bar; Ctrl-C stops, and the same command goes on with the missing files."""
    with console.bar("fetching", "B") as bar:
        bar.unit_scale = True
        fetch_here(found, lambda done, name: advance(bar, done, total, name.split("/")[0]))


def _told(console: Console, found: Found, count: int, what: str) -> int:
    values = {
        "model": found.name,
        "title": found.title,
        "fetched_bytes": count,
        "fits": found.fits,
        "plan": found.plan,
    }
    use = "inpo-studio serve"
    if found.name != EMBEDDED_MODEL:
        use += f" --model {found.name}"
    console.result(values, f"{found.name}: {what}; `{use}` opens the studio with it.")
    return 0
