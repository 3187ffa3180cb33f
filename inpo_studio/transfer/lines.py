"""Files of lines: prompts (text) and choices (JSON), read and checked whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.choices import ImportedChoice
from storage.checks import checked_text
from storage.errors import InvalidInput
from storage.prompts import MAX_PROMPT_BYTES
from storage.schema import Answer

LARGEST_FILE = 64 * 2**20
"""Bytes; a longer file is not one of prompts or choices."""
_CHOICES = get_args(Answer)
_SHAPE = 'write {"pair": ID, "choice": "left"} a line.'


def read_prompts(path: Path) -> list[str]:
    """Read prompts, one a line: blank lines and lines with # are skipped, duplicates folded.

    Raises StudioError with the line's number when the file cannot be used.
    """
    prompts: dict[str, None] = {}
    for number, line in enumerate(_read_text(path).split("\n"), start=1):
        prompt = line.strip()
        if not prompt or prompt.startswith("#"):
            continue
        try:
            prompts[checked_text(prompt, "prompt", MAX_PROMPT_BYTES)] = None
        except InvalidInput as error:
            raise StudioError(f"{path} line {number}: {error}") from error
    if not prompts:
        raise StudioError(f"{path} holds no prompts; write one a line.")
    return list(prompts)


def read_choices(path: Path) -> list[ImportedChoice]:
    """Read choices, a JSON object a line: {"pair": ID, "choice": "left"}.

    Further keys are ignored and lines whose choice is null are left out, so that an exported
    pairs.jsonl can be filled in and read back. Raises StudioError naming the first bad line.
    """
    lines: list[ImportedChoice] = []
    seen: dict[str, int] = {}
    for number, text in enumerate(_read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            pair_id, choice = _read_choice(text)
        except ValueError as error:
            raise StudioError(f"{path} line {number}: {error}") from error
        if pair_id in seen:
            raise StudioError(
                f"{path} line {number}: pair {pair_id} was chosen in line {seen[pair_id]} already; "
                "keep one of the two."
            )
        seen[pair_id] = number
        if choice is not None:
            lines.append(ImportedChoice(number, pair_id, choice))
    if not seen:
        raise StudioError(f"{path} holds no choices; {_SHAPE}")
    return lines


def _read_choice(text: str) -> tuple[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"this is not JSON; {_SHAPE}") from None
    if not isinstance(found, dict) or not isinstance(found.get("pair"), str):
        raise ValueError(f'"pair" is missing; {_SHAPE}')
    if "choice" not in found:
        raise ValueError(f'"choice" is missing; {_SHAPE}')
    choice = found["choice"]
    if choice is not None and choice not in _CHOICES:
        raise ValueError(f'"choice" is {json.dumps(choice)}; use one of {", ".join(_CHOICES)}.')
    return found["pair"], choice


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise StudioError(f"{path} is larger than {LARGEST_FILE >> 20} MB; split it.")
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise StudioError(f"{path} cannot be read ({error.strerror}).") from error
    except UnicodeDecodeError as error:
        raise StudioError(f"{path} is not UTF-8 text; save it as UTF-8.") from error
