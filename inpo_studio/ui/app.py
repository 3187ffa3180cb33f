"""The page: its tabs and its looks. User text is put into form fields and text nodes only."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.ui.align import align_page
from inpo_studio.ui.blind import blind_vote
from inpo_studio.ui.compare import compare_page
from inpo_studio.ui.pair_picker import pair_picker
from inpo_studio.ui.prompts import prompts_tab
from inpo_studio.ui.workspace import BACK_AFTER_CHANGE, model_card, workspace_tab

_SANS = ["ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "Consolas", "monospace"]

CSS = (Path(__file__).resolve().parent / "looks.css").read_text(encoding="utf-8")
HEAD = """
<style>
@media (max-width: 640px) { .gradio-container .main.app { padding: 6px 10px !important; } }
</style>
"""
"""What surrounds the page's own part, which Gradio leaves out of reach of CSS."""


def theme() -> gr.themes.Base:
    """Return the looks: fonts of the system, so that nothing is fetched."""
    return gr.themes.Base(
        primary_hue="indigo",
        neutral_hue="slate",
        font=_SANS,
        font_mono=_MONO,
        radius_size="md",
    )


def build_page(studio: Studio) -> gr.Blocks:
    """Return the studio's page; labelling comes first."""
    with gr.Blocks(title="InPO Studio", analytics_enabled=False) as page:
        gr.Markdown("# InPO Studio", elem_id="masthead")
        with gr.Tabs():
            with gr.Tab("Label", elem_id="label-tab"):
                pair_picker(studio)
            with gr.Tab("Align", elem_id="align-tab"):
                align_page(studio)
            with gr.Tab("Compare", elem_id="compare-tab"), gr.Tabs():
                with gr.Tab("Side by side", elem_id="compare-open"):
                    compare_page(studio)
                with gr.Tab("Blind vote", elem_id="compare-blind"):
                    blind_vote(studio)
            with gr.Tab("Prompts", elem_id="prompts-tab"):
                prompts_tab(studio)
            with gr.Tab("Workspace", elem_id="workspace-tab"):
                model_card(studio)
                workspace_tab(studio)
        page.load(None, js=BACK_AFTER_CHANGE)
    return page
