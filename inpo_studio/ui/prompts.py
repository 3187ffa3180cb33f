"""The prompts' tab: own prompts, typed, pasted or from a file, and pairs of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.pairs import request_pairs
from inpo_studio.transfer.lines import read_prompts
from inpo_studio.ui.doors import user_of
from storage.errors import StorageError

MOST_PROMPTS = 2_000
PAIRS_A_PROMPT = 4
FEWEST_PAIRS, MOST_PAIRS = 8, 48
"""Pairs that are made at once; the worker goes on with further prompts by itself."""
_INTRODUCTION = """
One prompt a line. Their pairs are made next and come before those of the starter prompts.
One in ten new prompts is kept for checking rounds; a round does not learn from it.
"""


def prompts_tab(studio: Studio) -> None:
    """Build the tab."""
    gr.Markdown(_INTRODUCTION)
    typed = gr.Textbox(
        label="Your prompts",
        placeholder="a lighthouse at dusk\na red barn in the snow",
        lines=6,
        max_lines=16,
        elem_id="own-prompts",
    )
    with gr.Accordion("From a text file", open=False):
        file = gr.File(label="A text file, one prompt a line", file_types=[".txt"], height=120)
    add = gr.Button("Make pairs", variant="primary", elem_id="make-pairs")
    told = gr.Textbox(label="What happened", interactive=False, lines=1, elem_id="prompts-told")

    def make(text: str, path: str | None, request: gr.Request) -> tuple[Any, Any, str]:
        user_of(request.request.scope)
        try:
            lines = [line.strip() for line in text.splitlines()]
            lines += read_prompts(Path(path)) if path else []
            lines = list(dict.fromkeys(line for line in lines if line))
            asked = _ask(studio, lines)
        except (StudioError, StorageError) as error:
            return gr.skip(), gr.skip(), str(error)
        return "", None, asked

    add.click(
        make,
        inputs=[typed, file],
        outputs=[typed, file, told],
        show_progress="hidden",
        api_visibility="private",
    )


def _ask(studio: Studio, lines: list[str]) -> str:
    if not lines:
        raise StudioError("There is no prompt yet; write at least one line.")
    if len(lines) > MOST_PROMPTS:
        raise StudioError(f"{len(lines)} prompts are too many; give at most {MOST_PROMPTS}.")
    count = min(max(FEWEST_PAIRS, PAIRS_A_PROMPT * len(lines)), MOST_PAIRS)
    asked = request_pairs(studio, lines, count)
    return f"{asked.count} pairs of {asked.prompts} prompts are being made; find them under Label."
