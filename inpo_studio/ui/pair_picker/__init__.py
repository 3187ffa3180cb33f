"""The pair picker: a component of constant HTML, CSS and JavaScript, and the server behind it.

Templates hold no user text: prompts travel as JSON and are set by `textContent`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.studio.label.labelling import Click, Labelling
from inpo_studio.studio.label.standing import standing
from inpo_studio.ui.answering import Answer, answer, studio_name
from inpo_studio.ui.doors import user_of
from inpo_studio.ui.pair_picker.messages import (
    Pressed,
    Regretted,
    Remembered,
    Wanted,
)

_HERE = Path(__file__).resolve().parent
_SCRIPTS = ("outbox.js", "pictures.js", "words.js", "keys.js", "picker.js")
_PAST = 20


def pair_picker(studio: Studio) -> gr.HTML:
    """Return the component; call it inside a page."""
    return gr.HTML(
        html_template=_read("picker.html"),
        css_template=_read("picker.css"),
        js_on_load="\n".join(_read(name) for name in _SCRIPTS),
        apply_default_css=False,
        elem_id="pair-picker",
        server_functions=server_functions(studio, Labelling(studio)),
    )


def server_functions(studio: Studio, labelling: Labelling) -> list[Callable[..., Answer]]:
    """Return what the page may call; each takes the user from the request, never from the page.

    An answer holds `retry` where sending the same again may help, `refused` where it will not;
    each is one sentence.
    """
    name = studio_name(studio)

    def next_pairs(data: Any, request: gr.Request) -> Answer:
        user = user_of(request.scope)

        def work(message: Wanted) -> Answer:
            batch = labelling.serve(user, message.page, message.holding, message.want)
            found: Answer = {"studio": name, **asdict(batch)}
            if message.standing:
                found["standing"] = asdict(standing(studio, user))
            return found

        return answer(name, Wanted, data, work)

    def commit_choice(data: Any, request: gr.Request) -> Answer:
        user = user_of(request.scope)

        def work(message: Pressed) -> Answer:
            click = Click(**message.model_dump(exclude={"page", "studio"}))
            labelling.commit(user, click)
            return {"saved": message.key}

        return answer(name, Pressed, data, work)

    def take_back(data: Any, request: gr.Request) -> Answer:
        user = user_of(request.scope)

        def work(message: Regretted) -> Answer:
            return asdict(labelling.undo(user, message.page, message.key))

        return answer(name, Regretted, data, work)

    def past_choices(data: Any, request: gr.Request) -> Answer:
        user = user_of(request.scope)

        def work(message: Remembered) -> Answer:
            return {"past": [asdict(p) for p in labelling.history(user, message.before, _PAST)]}

        return answer(name, Remembered, data, work)

    return [next_pairs, commit_choice, take_back, past_choices]


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
