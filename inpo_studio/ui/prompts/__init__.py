"""The prompts' page: own prompts, typed, pasted or from a file, and what there is of each.

A component of constant HTML, CSS and JavaScript: prompts travel as JSON and are set by
`textContent`. A file is read by the browser; nothing is uploaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.pairs import request_pairs
from inpo_studio.studio.label.prompt_list import MOST_LINES, Which, prompt_list
from inpo_studio.ui.doors import user_of
from storage.errors import StorageError
from storage.prompts import get_prompt

MOST_PROMPTS = 2_000
PAIRS_A_PROMPT = 4
FEWEST_PAIRS, MOST_PAIRS = 8, 48
"""Pairs that are made at once; the worker goes on with further prompts by itself."""
_HERE = Path(__file__).resolve().parent
_LONGEST_TEXT = 5_000_000

Answer = dict[str, Any]
Message = TypeVar("Message", bound=BaseModel)


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Looked(_Message):
    """Which prompts to list."""

    which: Which = "all"
    search: str = Field("", max_length=2_000)
    limit: int = Field(100, ge=1, le=MOST_LINES)


class Written(_Message):
    """Prompts, one a line."""

    text: str = Field(max_length=_LONGEST_TEXT)


class Pointed(_Message):
    """A prompt to make more pairs of."""

    prompt_id: str = Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")


def prompts_tab(studio: Studio) -> gr.HTML:
    """Build the tab."""
    return gr.HTML(
        html_template=_read("prompts.html"),
        css_template=_read("prompts.css"),
        js_on_load=_read("../nodes.js") + _read("prompts.js"),
        apply_default_css=False,
        elem_id="own-prompts",
        server_functions=server_functions(studio),
    )


def server_functions(studio: Studio) -> list[Callable[..., Answer]]:
    """Return what the page may call; an answer holds `refused`, a sentence, where it will not do.

    Each takes the user from the request.
    """

    def look(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)
        return _answer(
            Looked,
            data,
            lambda asked: asdict(prompt_list(studio, asked.which, asked.search, asked.limit)),
        )

    def add(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)
        return _answer(Written, data, lambda written: {"told": _ask(studio, written.text)})

    def more(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)

        def work(message: Pointed) -> Answer:
            with studio.database.read() as session:
                text = get_prompt(session, message.prompt_id).text
            asked = request_pairs(studio, [text], PAIRS_A_PROMPT)
            return {"told": f"{asked.count} more pairs of this prompt are being made."}

        return _answer(Pointed, data, work)

    return [look, add, more]


def _answer(kind: type[Message], data: Any, work: Callable[[Message], Answer]) -> Answer:
    try:
        return work(kind.model_validate(data))
    except ValidationError:
        return {"refused": "The page sent something that cannot be read; reload it."}
    except (StorageError, StudioError) as error:
        return {"refused": str(error)}


def _ask(studio: Studio, text: str) -> str:
    lines = list(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))
    if not lines:
        raise StudioError("There is no prompt yet; write at least one line.")
    if len(lines) > MOST_PROMPTS:
        raise StudioError(f"{len(lines)} prompts are too many; give at most {MOST_PROMPTS}.")
    count = min(max(FEWEST_PAIRS, PAIRS_A_PROMPT * len(lines)), MOST_PAIRS)
    asked = request_pairs(studio, lines, count)
    prompts = "one prompt" if asked.prompts == 1 else f"{asked.prompts} prompts"
    rest = " The others follow by themselves." if asked.count < asked.prompts else ""
    return f"{asked.count} pairs of {prompts} are being made; find them under Label.{rest}"


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
