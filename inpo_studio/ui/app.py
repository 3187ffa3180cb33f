"""The page: its tabs and its looks. User text is put into form fields and text nodes only."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.ui.pair_picker import pair_picker
from inpo_studio.ui.prompts import prompts_tab
from inpo_studio.ui.workspace import workspace_tab

_SANS = ["ui-sans-serif", "system-ui", "Segoe UI", "Roboto", "sans-serif"]
_MONO = ["ui-monospace", "Consolas", "monospace"]

CSS = (Path(__file__).resolve().parent / "looks.css").read_text(encoding="utf-8") + """
.gradio-container { width: 100% !important; max-width: 1180px !important;
  margin: 0 auto !important; }
#masthead { padding: 6px 0 2px; }
#masthead h1 { font-size: 20px; font-weight: 650; letter-spacing: -0.02em; margin: 0; }
#label-tab, #prompts-tab, #workspace-tab {
  padding-left: 0 !important; padding-right: 0 !important;
}
#pair-picker .html-container { padding: 8px 0 !important; }
"""
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
            with gr.Tab("Label", elem_id="label-tab") as label:
                pair_picker(studio)
            with gr.Tab("Prompts", elem_id="prompts-tab") as prompts:
                prompts_tab(studio)
            with gr.Tab("Workspace", elem_id="workspace-tab") as workspace:
                workspace_tab(studio, opened_by=workspace, left_for=[label, prompts])
    return page
