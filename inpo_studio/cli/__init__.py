"""The terminal: `inpo-studio COMMAND`. This module imports nothing heavy; commands load late."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

from inpo_studio.cli.console import Console
from inpo_studio.cli.parser import UsageError, build_parser

_COMMANDS = {
    "serve": "inpo_studio.cli.serve:serve",
    "worker": "inpo_studio.cli.serve:worker",
    "doctor": "inpo_studio.cli.serve:doctor",
    "fetch": "inpo_studio.cli.fetch:run",
    "pairs": "inpo_studio.cli.pairs:run",
    "export": "inpo_studio.cli.export:run",
    "choose": "inpo_studio.cli.choose:run",
    "align": "inpo_studio.cli.align:run",
    "compare": "inpo_studio.cli.compare:run",
    "export-adapter": "inpo_studio.cli.adapters:export",
    "merge": "inpo_studio.cli.adapters:merge",
    "import-adapter": "inpo_studio.cli.sharing:bring",
    "push-adapter": "inpo_studio.cli.sharing:push",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code.

    0 done; 1 the work failed; 2 bad input, nothing written; 130 interrupted.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    try:
        arguments = build_parser().parse_args(words)
    except UsageError as error:
        with Console(as_json="--json" in words) as console:
            console.fail(str(error))
        return 2
    with Console(as_json=arguments.json) as console:
        return _run(arguments, console)


def _run(arguments: Any, console: Console) -> int:
    try:
        return _load(_COMMANDS[arguments.command])(arguments, console)
    except KeyboardInterrupt:
        console.fail("Interrupted.")
        return 130
    except Exception as error:
        from inpo_studio.cli.failures import explain

        explained = explain(error)
        if explained is None:
            raise
        sentence, code = explained
        console.fail(sentence)
        return code


def _load(place: str) -> Callable[[Any, Console], int]:
    module, name = place.split(":")
    command: Callable[[Any, Console], int] = getattr(importlib.import_module(module), name)
    return command
