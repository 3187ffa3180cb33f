"""The Align page: a component of constant HTML, CSS and JavaScript, and the server behind it.

Templates hold no user text: prompts, names and sentences travel as JSON and are set by
`textContent`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr

from inpo_studio.studio import Studio
from inpo_studio.studio.align.aligning import begin, plan_next
from inpo_studio.studio.align.lineage import lineage
from inpo_studio.studio.align.watching import to_watch, watched
from inpo_studio.studio.errors import StudioError
from inpo_studio.ui.align.asking import ask
from inpo_studio.ui.align.drawer import wish_of
from inpo_studio.ui.align.exporting import bring as bring_lora
from inpo_studio.ui.align.exporting import exports as export_round
from inpo_studio.ui.align.exporting import push as push_round
from inpo_studio.ui.align.messages import Asked, Brought, Exported, Looked, Pushed, Started
from inpo_studio.ui.answering import Answer, answer, studio_name
from inpo_studio.ui.doors import is_owner, user_of
from storage.errors import NotFound

_HERE = Path(__file__).resolve().parent
_SCRIPTS = (
    *("../nodes.js", "words.js", "curves.js", "charts.js", "strips.js", "exports.js", "rounds.js"),
    *("start.js", "align.js"),
)


def align_page(studio: Studio) -> gr.HTML:
    """Return the component; call it inside a page."""
    return gr.HTML(
        html_template=_read("align.html"),
        css_template=_read("align.css"),
        js_on_load="\n".join(_read(name) for name in _SCRIPTS),
        apply_default_css=False,
        elem_id="align",
        server_functions=server_functions(studio),
    )


def server_functions(studio: Studio) -> list[Callable[..., Answer]]:
    """Return what the page may call; each takes the user from the request, never from the page.

    An answer holds `retry` where sending the same again may help, `refused` where it will not;
    each is one sentence.
    """
    name = studio_name(studio)

    def look(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)
        local = is_owner(request.scope)
        return answer(
            name, Looked, data, lambda message: {**_look(studio, message), "local": local}
        )

    def start(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)

        def work(message: Started) -> Answer:
            made = begin(studio, wish_of(message.drawer))
            return {"started": made.id, "told": f"Round {made.number} is on its way."}

        return answer(name, Started, data, work)

    def act(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)
        return answer(name, Asked, data, lambda message: {"told": ask(studio, message)})

    def exports(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)
        return answer(name, Exported, data, lambda message: export_round(studio, message))

    def bring(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)
        local = is_owner(request.scope)
        return answer(name, Brought, data, lambda message: bring_lora(studio, message, local))

    def push(data: Any, request: gr.Request) -> Answer:
        user_of(request.scope)
        local = is_owner(request.scope)
        return answer(name, Pushed, data, lambda message: push_round(studio, message, local))

    return [look, start, act, exports, bring, push]


def _look(studio: Studio, message: Looked) -> Answer:
    """Return the parts of the page that are not as it knows them."""
    found: Answer = {"studio": studio_name(studio)}
    tree = lineage(studio)
    _put(found, "rounds", asdict(tree), message.knows)
    if not tree.at_work:  # the start card is put away meanwhile, and planning reads every choice
        try:
            _put(found, "plan", asdict(plan_next(studio, wish_of(message.drawer))), message.knows)
        except (StudioError, NotFound) as error:
            found["unplanned"] = str(error)
    shown = message.watch or to_watch(studio)
    if shown is None:
        return found
    same = message.showing == shown
    seen = asdict(
        watched(
            studio,
            shown,
            after_step=message.after_step if same else -1,
            attempt=message.attempt if same else None,
            with_log=message.with_log,
        )
    )
    _put(found, "samples", seen.pop("samples"), message.knows, of=shown)
    return {**found, "watched": seen}


def _put(found: Answer, part: Any, value: Any, knows: Any, of: str = "") -> None:
    """Add a part with its version, unless the page has that version."""
    text = json.dumps([of, value], sort_keys=True)
    version = hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]
    if knows.get(part) != version:
        found[part] = {"version": version, "value": value}


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
