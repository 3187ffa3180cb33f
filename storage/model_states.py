"""Which round of a model is adopted: the one whose pictures are made from now on."""

from __future__ import annotations

from sqlalchemy.orm import Session

from storage.errors import InvalidInput
from storage.rounds import get_round
from storage.schema import ModelState, Round


def adopt_round(session: Session, model: str, round_id: str | None) -> None:
    """Use this round's adapter with the model from now on; None goes back to the base.

    Raises InvalidInput unless the round is done, has an adapter and is of this model.
    """
    if round_id is not None:
        row = get_round(session, round_id)
        if row.model != model or row.state != "done" or row.adapter_id is None:
            raise InvalidInput(
                f"Round {row.number} cannot be adopted; choose a finished round of {model}."
            )
    session.merge(ModelState(model=model, adopted_round_id=round_id))
    session.flush()


def adopted_round(session: Session, model: str) -> Round | None:
    """The round that is adopted for the model; None is the base."""
    state = session.get(ModelState, model)
    if state is None or state.adopted_round_id is None:
        return None
    return get_round(session, state.adopted_round_id)
