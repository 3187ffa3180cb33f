"""`inpo-studio export-adapter` and `merge`: what a round has learnt, for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inpo_studio.cli.console import Console
from inpo_studio.cli.opening import opened
from inpo_studio.cli.work import wait_with_bar
from inpo_studio.studio import Studio
from inpo_studio.studio.align.export_checks import CheckItem, CheckResult, request_check
from inpo_studio.studio.align.rounds import find_round
from inpo_studio.studio.errors import WorkError
from inpo_studio.transfer.adapters import DIFFUSERS_FILE, PEFT_FILE, Form
from inpo_studio.transfer.export_adapter import check_target, export_adapter
from inpo_studio.transfer.merging import merge as merge_adapter
from storage.schema import Round


def export(arguments: Any, console: Console) -> int:
    """Write the adapter; the result names the files."""
    check_target(arguments.out, arguments.format)
    with opened(arguments) as studio:
        found = find_round(studio, arguments.round)
        files = export_adapter(studio, found, arguments.out, arguments.format)
        items = _items(files, arguments.format)
        checks = _checked(studio, console, found, items) if arguments.check else None
    values = _values(found, arguments.out, files)
    text = f"The adapter of round {found.number}: {_listed(files)}"
    if checks is not None:
        values["checks"] = [
            {**check.model_dump(), "file": item.path, "passed": check.passed}
            for item, check in zip(items, checks, strict=True)
        ]
        text = "\n".join([text, *(f"{one.form}: {one.sentence}" for one in checks)])
        if not all(check.passed for check in checks):
            failed = next(check for check in checks if not check.passed)
            raise WorkError(f"What was written is in {values['out']}. {failed.sentence}")
    console.result(values, text)
    return 0


def _items(files: list[Path], form: Form | None) -> list[CheckItem]:
    """What of an export is loaded elsewhere; PEFT loads a folder."""
    if len(files) == 1:
        return [CheckItem(form=form or "kohya", path=str(files[0]))]
    items = []
    for path in files:
        if path.name == PEFT_FILE:
            items.append(CheckItem(form="peft", path=str(path.parent)))
        elif path.suffix == ".safetensors":
            named = path.name == DIFFUSERS_FILE
            items.append(CheckItem(form="diffusers" if named else "kohya", path=str(path)))
    return items


def _checked(
    studio: Studio, console: Console, found: Round, items: list[CheckItem]
) -> list[CheckResult]:
    """The worker's results for the files, in their order."""
    job_id = request_check(studio, found, items)
    made = wait_with_bar(studio, console, job_id, "check")
    return [CheckResult.model_validate(one) for one in made["checks"]]


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
