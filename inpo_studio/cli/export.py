"""`inpo-studio export`: the pairs as images/ and pairs.jsonl."""

from __future__ import annotations

from typing import Any

from inpo_studio.cli.console import Console
from inpo_studio.cli.opening import opened
from inpo_studio.transfer.export import export_pairs
from inpo_studio.transfer.folders import check_free


def run(arguments: Any, console: Console) -> int:
    """Write the folder; the result names it."""
    check_free(arguments.directory)
    with opened(arguments) as studio:
        count = export_pairs(studio, arguments.directory)
        model = studio.settings.model
    target = arguments.directory.absolute()
    values = {
        "model": model,
        "pairs": count,
        "directory": str(target),
        "index": str(target / "pairs.jsonl"),
    }
    console.result(values, f"{count} pairs of {model} in {target}")
    return 0
