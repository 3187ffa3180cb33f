"""What a command says: results on standard output, everything else on standard error."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


class Console:
    """Keeps standard output for the result: with `--json` it carries exactly one JSON object.

    While a command runs with `--json`, whatever a library prints goes to standard error.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._written = False
        self._saved: int | None = None
        self._redirect: contextlib.redirect_stdout[io.TextIOBase] | None = None
        self._stdout = sys.stdout

    def __enter__(self) -> Console:
        if not self.as_json:
            return self
        self._stdout = sys.stdout
        self._stdout.flush()
        try:
            if self._stdout.fileno() == 1:
                self._saved = os.dup(1)
                os.dup2(2, 1)
                return self
        except (OSError, ValueError):
            pass
        self._redirect = contextlib.redirect_stdout(sys.stderr)  # type: ignore[arg-type]
        self._redirect.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._saved is not None:
            self._stdout.flush()
            os.dup2(self._saved, 1)
            os.close(self._saved)
            self._saved = None
        if self._redirect is not None:
            self._redirect.__exit__(kind, error, trace)
            self._redirect = None

    def result(self, values: Mapping[str, Any], text: str) -> None:
        """Print the command's one result: the object with `--json`, else the text."""
        if not self.as_json:
            print(text, flush=True)  # noqa: T201
            return
        if self._written:
            raise RuntimeError("A command has one result.")
        self._written = True
        line = json.dumps(values, ensure_ascii=False, default=str) + "\n"
        if self._saved is not None:
            data = line.encode("utf-8")
            while data:
                data = data[os.write(self._saved, data) :]
        else:
            self._stdout.write(line)
            self._stdout.flush()

    def note(self, text: str) -> None:
        """Say something on the way; it is no part of the result."""
        print(text, file=sys.stderr, flush=True)  # noqa: T201

    def fail(self, sentence: str) -> None:
        """Say why nothing came of it; with `--json` also as the object {"error": sentence}."""
        self.note(f"inpo-studio: {sentence}")
        if self.as_json and not self._written:
            self.result({"error": sentence}, "")

    def bar(self, label: str, unit: str) -> tqdm[Any]:
        """Open a progress bar on standard error; its total comes with `advance`."""
        from tqdm import tqdm

        return tqdm(desc=label, unit=unit, file=sys.stderr, dynamic_ncols=True)


def advance(
    bar: tqdm[Any], done: int, total: int, label: str, figures: Mapping[str, str] | None = None
) -> None:
    """Show how far the work is; a file or pipe gets a new line of it only when it has changed."""
    changed = (done, total or None, f"{label}: ") != (bar.n, bar.total, bar.desc)
    bar.n, bar.total = done, total or None
    bar.set_description(label, refresh=False)
    bar.set_postfix(figures or {}, refresh=False)
    if changed or sys.stderr.isatty():
        bar.refresh()
