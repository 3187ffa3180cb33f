"""`inpo-studio import-adapter` and `push-adapter`: adapters from elsewhere, and to the Hub."""

from __future__ import annotations

from typing import Any

from inpo_studio.cli.console import Console
from inpo_studio.cli.opening import opened
from inpo_studio.studio.align.imported import imported_from
from inpo_studio.studio.align.rounds import adopt_round, find_round
from inpo_studio.transfer.import_adapter import import_adapter
from inpo_studio.transfer.push import push_adapter


def bring(arguments: Any, console: Console) -> int:
    """Add the LoRA as a round; the result says which."""
    with opened(arguments) as studio:
        made = import_adapter(
            studio,
            arguments.source,
            arguments.name,
            ignore_text_encoder=arguments.ignore_text_encoder,
        )
        retired = adopt_round(studio, made.id) if arguments.adopt else None
    found = imported_from(made)
    assert found is not None
    if found.left_out:
        console.note(f"{found.left_out} layers of the text encoder were left out.")
    values = {
        "model": made.model,
        "round": made.id,
        "number": made.number,
        "name": found.name,
        "form": found.form,
        "rank": made.config["rank"],
        "alpha": made.config["alpha"],
        "left_out": found.left_out,
        "adopted": retired is not None,
        "retired_pairs": retired or 0,
    }
    rest = "; new pairs come from it" if retired is not None else ""
    console.result(values, f"{found.name} is round {made.number} of {made.model}{rest}.")
    return 0


def push(arguments: Any, console: Console) -> int:
    """Export the adapter and upload it; the result says where it is."""
    with opened(arguments) as studio:
        found = find_round(studio, arguments.round)
        pushed = push_adapter(studio, found, arguments.repository, public=arguments.public)
    values = {
        "model": found.model,
        "round": found.id,
        "number": found.number,
        "repository": pushed.repository,
        "url": pushed.url,
        "private": pushed.private,
        "files": pushed.files,
    }
    seen = "only you and those you let in can see it" if pushed.private else "everybody can see it"
    console.result(values, f"The adapter of round {found.number} is at {pushed.url}; {seen}.")
    return 0
