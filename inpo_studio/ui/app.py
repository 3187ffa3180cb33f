"""The page: where the workspace stands. User text reaches it through form fields only."""

from __future__ import annotations

from typing import Any

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.studio.overview import Overview, overview

_REFRESH_S = 2.0
_ROUND_COLUMNS = ["Round", "State", "Stage", "Step", "Of", "Model"]


def build_page(studio: Studio) -> gr.Blocks:
    """Return the studio's page; it reads the database anew every two seconds while visible."""
    with gr.Blocks(title="InPO Studio", analytics_enabled=False) as page:
        gr.Markdown("# InPO Studio")
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

        def refresh() -> list[Any]:
            return _cells(overview(studio))

        page.load(refresh, outputs=outputs, queue=False, show_progress="hidden")
        gr.Timer(_REFRESH_S).tick(refresh, outputs=outputs, queue=False, show_progress="hidden")
    return page


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
