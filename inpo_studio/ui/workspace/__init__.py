"""The workspace's page: where everything is kept, and how far it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.studio.overview import overview
from inpo_studio.ui.doors import user_of
from inpo_studio.ui.workspace import models
from storage.errors import StorageError

_HERE = Path(__file__).resolve().parent
BACK_AFTER_CHANGE = """() => {
  let changed = null;
  try { changed = sessionStorage.getItem("inpo-studio:changed-model"); } catch { /* none kept */ }
  if (changed) document.getElementById("workspace-tab-button")?.click();
}"""
"""A change of model loads the page anew: back to where it was asked for."""


def workspace_tab(studio: Studio) -> gr.HTML:
    """Build the tab; it reads the database anew every few seconds while it is the open one."""
    return gr.HTML(
        html_template=_read("workspace.html"),
        css_template=_read("workspace.css"),
        js_on_load=_read("workspace.js"),
        apply_default_css=False,
        elem_id="workspace-page",
        server_functions=server_functions(studio),
    )


def model_card(studio: Studio) -> gr.HTML:
    """Build the card that shows the model and lets its owner change to another."""
    return gr.HTML(
        html_template=_read("model.html"),
        css_template=_read("model.css"),
        js_on_load=_read("model.js"),
        apply_default_css=False,
        elem_id="model-card",
        server_functions=models.server_functions(studio),
    )


def server_functions(studio: Studio) -> list[Callable[..., dict[str, Any]]]:
    """Return what the page may call."""

    def look(data: Any, request: gr.Request) -> dict[str, Any]:
        user = user_of(request.scope)
        try:
            return _seen(studio, user)
        except StorageError as error:
            return {"refused": str(error)}

    return [look]


def _seen(studio: Studio, user: str) -> dict[str, Any]:
    settings = studio.settings
    found = overview(studio)
    database = settings.database_url
    return {
        "workspace": str(settings.workspace),
        "annotator": user,
        "overlap": settings.overlap,
        "database": "studio.db" if database.startswith("sqlite") else "PostgreSQL",
        "prompts": found.prompts,
        "ready": found.pairs_ready,
        "choices": found.choices,
        "rounds": found.rounds,
        "policy": "the base model" if found.adopted is None else f"round {found.adopted}",
    }


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
