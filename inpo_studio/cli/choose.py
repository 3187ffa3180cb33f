"""`inpo-studio choose`: record choices from a file, all of them or none."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from inpo_studio.cli.console import Console
from inpo_studio.cli.opening import opened, settings_from
from inpo_studio.studio.label.choices import check_annotator, import_choices
from inpo_studio.transfer.lines import read_choices


def run(arguments: Any, console: Console) -> int:
    """Check the file whole, then record it in one transaction."""
    lines = read_choices(arguments.file)
    annotator = check_annotator(settings_from(arguments).annotator)
    with opened(arguments) as studio:
        done = import_choices(studio, lines, annotator)
        values = {"model": studio.settings.model, "annotator": annotator, **asdict(done)}
    console.result(
        values,
        f"{done.recorded} choices recorded as {annotator}, {done.replaced} replaced, "
        f"{done.unchanged} unchanged.",
    )
    return 0
