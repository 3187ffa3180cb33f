"""The Compare page: a component of constant HTML, CSS and JavaScript around Gradio's slider.

Templates hold no user text: prompts travel as JSON and are set by `textContent`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.studio.compare.comparing import comparing, draw_missing
from inpo_studio.studio.compare.drawing import (
    Single,
    cancel_one,
    draw_one,
    look_at_one,
    stop_drawing,
    warm_up,
)
from inpo_studio.ui.answering import Answer, answer, studio_name
from inpo_studio.ui.compare.messages import (
    Looked,
    Message,
    OneLooked,
    OneWanted,
    Stopped,
    Wanted,
)
from inpo_studio.ui.compare.slider import Copies
from inpo_studio.ui.doors import user_of
from storage.errors import StorageError

_HERE = Path(__file__).resolve().parent
_SCRIPTS = ("words.js", "cards.js", "viewer.js", "bar.js", "compare.js")
_UNREADABLE = "Some of the values cannot be used; check the prompt, the seed and the settings."

AnyMessage = TypeVar("AnyMessage", bound=Message)


def compare_page(studio: Studio) -> gr.HTML:
    """Return the component; call it inside a page."""
    page = gr.HTML(
        html_template=_read("compare.html"),
        css_template=_read("compare.css"),
        js_on_load="\n".join(_read(name) for name in _SCRIPTS),
        apply_default_css=False,
        elem_id="compare",
        elem_classes="st-page",
        server_functions=server_functions(studio),
    )
    with page:
        slider = gr.ImageSlider(
            show_label=False,
            container=False,
            interactive=False,
            buttons=["fullscreen"],
            max_height=2000,
            elem_id="compare-slider",
        )
    copies = Copies(Path(slider.GRADIO_CACHE))

    def show(event: gr.EventData, request: gr.Request) -> Any:
        user_of(request.request.scope)
        try:
            return copies.of_comparison(studio, str(event.comparison))
        except (StorageError, OSError, AttributeError):
            return gr.skip()

    page.show(
        show,
        outputs=slider,
        queue=False,
        show_progress="hidden",
        trigger_mode="always_last",
        api_visibility="private",
    )
    return page


def server_functions(studio: Studio) -> list[Callable[..., Answer]]:
    """Return what the page may call; each lets only the studio's user in.

    An answer holds `refused`, one sentence, where nothing was done.
    """
    name = studio_name(studio)

    def look(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)

        def work(message: Looked) -> Answer:
            shown = comparing(studio, message.view)
            if message.opened and shown.by_itself and not shown.training:
                warm_up(studio, shown.view)
            return {"studio": name, **asdict(shown)}

        return _answer(name, Looked, data, work)

    def draw(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)

        def work(message: Wanted) -> Answer:
            draw_missing(studio, message.view, first=message.first, again=message.again)
            return {}

        return _answer(name, Wanted, data, work)

    def stop(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)

        def work(message: Stopped) -> Answer:
            stop_drawing(studio, message.view.name)
            return {}

        return _answer(name, Stopped, data, work)

    def one(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)

        def work(message: OneWanted) -> Answer:
            if message.instead is not None:
                cancel_one(studio, message.instead)
            found = draw_one(studio, message.view, message.prompt, message.seed, message.strength)
            return _single(found)

        return _answer(name, OneWanted, data, work)

    def look_at(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)
        return _answer(
            name, OneLooked, data, lambda message: _single(look_at_one(studio, message.job))
        )

    return [look, draw, stop, one, look_at]


def _single(found: Single) -> Answer:
    answer: Answer = {"job": found.job_id, "state": found.state, "failure": found.failure}
    row = found.comparison
    if row is not None:
        answer |= {
            "prompt_id": row.prompt_id,
            "seed": row.seed,
            "strength": row.scale,
            "comparison_id": row.id,
            "base_image_id": row.base_image_id,
            "aligned_image_id": row.aligned_image_id,
        }
    return answer


def _answer(
    name: str, kind: type[AnyMessage], data: Any, work: Callable[[AnyMessage], Answer]
) -> Answer:
    return answer(name, kind, data, work, unreadable=_UNREADABLE, elsewhere="refused")


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
