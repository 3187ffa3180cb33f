"""`inpo-studio export-adapter` and `merge`: what a round has learnt, for other programs."""

from __future__ import annotations

from typing import Any

from inpo_studio.cli.console import Console
from inpo_studio.cli.opening import opened
from inpo_studio.studio.rounds import find_round
from inpo_studio.transfer.export_adapter import check_target, export_adapter
from inpo_studio.transfer.merging import merge as merge_adapter


def export(arguments: Any, console: Console) -> int:
    """Write the adapter; the result names the files."""
    check_target(arguments.out, arguments.format)
    with opened(arguments) as studio:
        found = find_round(studio, arguments.round)
        files = export_adapter(studio, found, arguments.out, arguments.format)
    values = _values(found, arguments.out, files)
    console.result(values, f"The adapter of round {found.number}: {_listed(files)}")
    return 0


def merge(arguments: Any, console: Console) -> int:
    """Write the merged model; the result names it."""
    check_target(arguments.out, None)
    with opened(arguments) as studio:
        found = find_round(studio, arguments.round)
        files = merge_adapter(studio, found, arguments.out, arguments.scale)
    values = {**_values(found, arguments.out, files), "scale": arguments.scale}
    console.result(values, f"The model with round {found.number} in it: {values['out']}")
    return 0


def _values(found: Any, out: Any, files: Any) -> dict[str, Any]:
    return {
        "model": found.model,
        "round": found.id,
        "number": found.number,
        "out": str(out.absolute()),
        "files": [str(path) for path in files],
    }


def _listed(files: Any) -> str:
    return ", ".join(str(path) for path in files)
