"""The workspace's tab: where it is, and how its rounds stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.studio.overview import Overview, overview

_REFRESH_S = 2.0
_ROUND_COLUMNS = ["Round", "State", "Stage", "Step", "Of", "Model"]


def workspace_tab(studio: Studio, opened_by: gr.Tab, left_for: Sequence[gr.Tab]) -> None:
    """Build the tab; it reads the database anew every two seconds while it is the open one."""
    with gr.Row():
        gr.Textbox(str(studio.settings.workspace), label="Workspace", interactive=False)
        gr.Textbox(studio.settings.model, label="Model", interactive=False)
    with gr.Row():
        prompts = gr.Number(label="Prompts", interactive=False, precision=0)
        ready = gr.Number(label="Pairs waiting", interactive=False, precision=0)
        choices = gr.Number(label="Choices", interactive=False, precision=0)
    rounds = gr.Dataframe(
        headers=_ROUND_COLUMNS,
        datatype="str",
        label="Rounds",
        interactive=False,
        elem_id="rounds",
    )
    outputs = [prompts, ready, choices, rounds]
    timer = gr.Timer(_REFRESH_S, active=False)

    def refresh() -> list[Any]:
        return _cells(overview(studio))

    quiet: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
    timer.tick(refresh, outputs=outputs, **quiet)
    opened_by.select(
        lambda: [gr.Timer(active=True), *refresh()], outputs=[timer, *outputs], **quiet
    )
    for tab in left_for:
        tab.select(lambda: gr.Timer(active=False), outputs=timer, **quiet)


def _cells(seen: Overview) -> list[Any]:
    rows = [
        [
            str(found.number),
            found.state,
            found.stage or "",
            str(found.step),
            str(found.total_steps),
            found.model,
        ]
        for found in reversed(seen.rounds)
    ]
    return [seen.prompts, seen.pairs_ready, seen.choices, rows]
