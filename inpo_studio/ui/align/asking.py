"""What is asked of a round by a button, and the sentence that says what became of it."""

from __future__ import annotations

from inpo_studio.studio import Studio
from inpo_studio.studio.align import rounds as use
from inpo_studio.studio.align.round_words import some
from inpo_studio.studio.align.watching import round_of_model
from inpo_studio.studio.errors import StudioError
from inpo_studio.ui.align.messages import Asked
from storage.schema import Round


def ask(studio: Studio, message: Asked) -> str:
    """Carry out a request; StudioError and StorageError say why it cannot be."""
    if message.action == "revert":
        put_away = use.adopt_round(studio, None)
        return f"New pairs come from the base model again{_put_away(put_away)}."
    if message.round_id is None:
        raise StudioError("No round was named; reload the page.")
    with studio.database.read() as session:
        found = round_of_model(session, studio.settings.model, message.round_id)
    if message.action == "keep":
        return _keep(studio, found, message.step)
    if message.action == "adopt":
        put_away = use.adopt_round(studio, found.id)
        return f"Round {found.number} is adopted: new pairs come from it{_put_away(put_away)}."
    if message.action == "pause":
        use.pause_round(studio, found.id)
        return f"Round {found.number} pauses after its present step."
    if message.action == "cancel":
        use.cancel_round(studio, found.id)
        return f"Round {found.number} is being cancelled."
    if message.action == "finish":
        use.finish_round(studio, found.id)
        return f"Round {found.number} finishes now; what it has learnt is kept."
    use.resume_round(studio, found.id)
    return f"Round {found.number} goes on from its last checkpoint."


def _keep(studio: Studio, found: Round, step: int | None) -> str:
    if step is None:
        raise StudioError("No step was named; reload the page.")
    use.keep_checkpoint(studio, found.id, step)
    return f"Round {found.number} is used as it was at step {step}."


def _put_away(count: int) -> str:
    if not count:
        return ""
    verb = "was" if count == 1 else "were"
    pairs = some(count, "unlabelled pair", "unlabelled pairs")
    return f"; {pairs} of the older model {verb} put away"
