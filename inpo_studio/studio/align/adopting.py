"""Which weights are used: the adopted round of a model, and the step a round's are of."""

from __future__ import annotations

from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from storage import model_states, pairs, rounds
from storage.adapters import list_adapters
from storage.schema import Adapter


def adopt_round(studio: Studio, round_id: str | None) -> int:
    """Make new pairs with this round's adapter from now on; None goes back to the base model.

    In the same transaction unlabelled pairs of the older policy are retired, and those of the
    new one that were retired earlier come back. Returns how many were retired.
    """
    model = studio.settings.model
    with studio.database.write() as session:
        model_states.adopt_round(session, model, round_id)
        policy = None if round_id is None else rounds.get_round(session, round_id).adapter_id
        return pairs.show_only(session, model, policy)


def keep_checkpoint(studio: Studio, round_id: str, step: int) -> Adapter:
    """Use a round with the weights it had after `step` steps, instead of its last ones.

    A paused, failed or cancelled round is thereby done. Where the round is adopted, its pairs
    follow as when a round is adopted. Raises StudioError where nothing was kept of that step,
    IllegalTransition while the round is worked on, or a round that starts from it has not ended.
    """
    with studio.database.write() as session:
        row = rounds.get_round(session, round_id)
        kept = {
            adapter.step: adapter
            for adapter in list_adapters(session, round_id=round_id)
            if (studio.settings.workspace / adapter.folder).is_dir()
        }
        if step not in kept:
            there = ", ".join(str(number) for number in sorted(kept)) or "none yet"
            raise StudioError(
                f"Round {row.number} kept no weights of step {step}; choose one of: {there}."
            )
        row = rounds.use_adapter(session, round_id, kept[step].id)
        adopted = model_states.adopted_round(session, row.model)
        if adopted is not None and adopted.id == round_id:
            pairs.show_only(session, row.model, row.adapter_id)
        return kept[step]
