"""Which of guidance's two predictions an adapter changes, by where the adapter comes from."""

from __future__ import annotations

from sqlalchemy.orm import Session

from storage.rounds import begins_elsewhere
from storage.schema import AdapterOn, Round


def adapter_on(session: Session, row: Round, asked: AdapterOn = "prompt") -> AdapterOn:
    """`asked`, and `both` for a round whose line begins with an imported adapter.

    Who imports a LoRA knows it from programs that put it on both. Where it makes a style, which
    is in both predictions alike, on the prompt alone guidance would multiply it.
    """
    return "both" if begins_elsewhere(session, row) else asked
