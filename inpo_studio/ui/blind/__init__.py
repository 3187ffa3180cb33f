"""The blind vote: two pictures without names, and what the votes say in the end."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.ui.blind.serving import server_functions

_HERE = Path(__file__).resolve().parent
_PICKER = _HERE.parent / "pair_picker"
# The keys, the outbox and the looks of two pictures are those of labelling.
_SCRIPTS = (
    _PICKER / "keys.js",
    _PICKER / "outbox.js",
    _HERE / "items.js",
    _HERE / "words.js",
    _HERE / "painting.js",
    _HERE / "voting.js",
    _HERE / "calls.js",
    _HERE / "blind.js",
)
_STYLES = (_PICKER / "picker.css", _HERE / "blind.css")


def blind_vote(studio: Studio) -> gr.HTML:
    """Return the component; call it inside a page."""
    return gr.HTML(
        html_template=(_HERE / "blind.html").read_text(encoding="utf-8"),
        css_template="\n".join(path.read_text(encoding="utf-8") for path in _STYLES),
        js_on_load="\n".join(path.read_text(encoding="utf-8") for path in _SCRIPTS),
        apply_default_css=False,
        elem_id="blind-vote",
        server_functions=server_functions(studio),
    )
