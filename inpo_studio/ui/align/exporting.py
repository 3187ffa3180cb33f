"""What the Align page does with adapters as files: out of a round, and in as a place to start."""

from __future__ import annotations

from typing import Any, get_args

from inpo_studio.studio import Studio
from inpo_studio.studio.align.export_checks import check_state, request_check
from inpo_studio.studio.align.watching import round_of_model
from inpo_studio.studio.errors import StudioError, WorkError
from inpo_studio.transfer.adapters import Form
from inpo_studio.transfer.handing_out import Handout, hand_out, ready
from inpo_studio.transfer.import_adapter import import_adapter
from inpo_studio.transfer.push import push_adapter
from inpo_studio.ui.align.messages import Brought, Exported, Pushed
from inpo_studio.ui.answering import Answer
from inpo_studio.ui.exports import PATH
from storage.schema import Round

_AT_WORK = ("waiting", "working")


def exports(studio: Studio, message: Exported) -> Answer:
    """Say what of a round is ready; makes a form ready first, and asks for its check, if told."""
    found = _exportable(studio, message.round_id)
    if message.form is not None:
        made = hand_out(studio, found, message.form)
        at_work = check_state(studio, made.report).state in _AT_WORK
        if message.check and not at_work:
            request_check(studio, found, [made.as_item(studio.settings.workspace)])
    return {"round_id": found.id, "forms": [_form(studio, found, form) for form in get_args(Form)]}


def _exportable(studio: Studio, round_id: str) -> Round:
    with studio.database.read() as session:
        found = round_of_model(session, studio.settings.model, round_id)
    if found.state != "done" or found.adapter_id is None:
        raise StudioError(f"Round {found.number} has no adapter; export one that is done.")
    return found


def _form(studio: Studio, found: Round, form: Form) -> dict[str, Any]:
    made = ready(studio, found, form)
    if made is None:
        return {"form": form, "state": "none", "sentence": ""}
    check = check_state(studio, made.report)
    return {"form": form, "state": check.state, "sentence": check.sentence, **_file(found, made)}


def _file(found: Round, made: Handout) -> dict[str, Any]:
    url = f"{PATH}{found.id}/{made.form}"
    size = made.path.stat().st_size
    return {"name": made.name, "bytes": size, "url": url, "card": f"{url}/card"}


def push(studio: Studio, message: Pushed, local: bool) -> Answer:
    """Put a round's adapter on the Hub, with the access token of whoever runs the studio."""
    if not local:
        raise StudioError("Only who sits at this machine may upload with its access token.")
    found = _exportable(studio, message.round_id)
    try:
        pushed = push_adapter(studio, found, message.repository, public=message.public)
    except WorkError as error:
        return {"refused": str(error)}
    seen = "only you can see it" if pushed.private else "everybody can see it"
    return {"told": f"It is at {pushed.url}; {seen}."}


def bring(studio: Studio, message: Brought, local: bool) -> Answer:
    """Add a LoRA from elsewhere to the rounds; a path is one of this machine."""
    if not local:
        raise StudioError("Only who sits at this machine may name files of it.")
    made = import_adapter(
        studio,
        message.source,
        message.name or None,
        ignore_text_encoder=message.ignore_text_encoder,
    )
    told = f"It is round {made.number} now: adopt it, compare it or branch from it."
    return {"told": told, "brought": made.id}
