from __future__ import annotations

from typing import Any

import pytest

from storage.adapters import add_adapter, add_snapshot, drop_snapshots_after, list_adapters
from storage.engines import Database
from storage.errors import IllegalTransition, InvalidInput, NotFound, StaleAttempt
from storage.frozen import freeze_choices
from storage.rounds import claim_attempt, create_round, get_round, set_state, use_adapter
from storage.samples import add_sample, drop_samples_after, get_sample, list_samples
from tests.storage.rows import MODEL, a_choice, a_done_round, a_pair, a_prompt, a_round


def weights(letter: str, step: int) -> dict[str, Any]:
    folder = f"rounds/x/adapters/{step:06d}"
    values = {"sha256": letter * 64, "folder": folder, "model": MODEL, "rank": 8, "alpha": 8.0}
    return {**values, "step": step}


def test_samples_are_replaced_and_dropped_behind_a_checkpoint(database: Database) -> None:
    with database.write() as session:
        row, prompt = a_round(session), a_prompt(session)
        attempt = claim_attempt(session, row.id)
        common: dict[str, Any] = {"round_id": row.id, "prompt_id": prompt.id, "seed": 3}
        common |= {"width": 8, "height": 8, "attempt": attempt}
        ids = [
            add_sample(session, step=step, position=place, sha256=f"{step}{place}", **common).id
            for step in (20, 0)
            for place in (1, 0)
        ]
        again = add_sample(session, step=20, position=0, sha256="new", **common)
        with pytest.raises(NotFound):
            get_sample(session, ids[1])
        found = [(s.step, s.position, s.sha256) for s in list_samples(session, row.id)]
        assert found == [(0, 0, "00"), (0, 1, "01"), (20, 0, "new"), (20, 1, "201")]
        assert again.prompt.text == prompt.text
        assert drop_samples_after(session, row.id, attempt, 0) == 2
        with pytest.raises(StaleAttempt):
            add_sample(session, step=40, position=0, sha256="x", **common | {"attempt": 0})


def test_a_round_may_be_used_with_weights_of_an_earlier_step(database: Database) -> None:
    with database.write() as session:
        row, other = a_round(session), a_done_round(session)
        attempt = claim_attempt(session, row.id)
        own = {"round_id": row.id, "attempt": attempt}
        early = add_snapshot(session, **weights("a", 20), **own)
        add_snapshot(session, **weights("b", 40), **own)
        assert add_snapshot(session, **weights("c", 20), **own).id == early.id
        assert drop_snapshots_after(session, row.id, attempt, 20) == 1
        assert get_round(session, row.id).adapter_id is None
        with pytest.raises(IllegalTransition, match="wait until it rests"):
            use_adapter(session, row.id, early.id)
        last = add_adapter(session, **weights("c", 60) | {"folder": "adapters/x"}, **own)
        set_state(session, row.id, "done", attempt=attempt)
        assert get_round(session, row.id).adapter_id == last.id
        assert [found.step for found in list_adapters(session, round_id=row.id)] == [20, 60]
        assert use_adapter(session, row.id, early.id).adapter_id == early.id
        with pytest.raises(InvalidInput, match="not of round"):
            use_adapter(session, other.id, early.id)


def test_a_failed_round_can_keep_what_it_had(database: Database) -> None:
    with database.write() as session:
        row = a_round(session)
        attempt = claim_attempt(session, row.id)
        early = add_snapshot(session, **weights("a", 20), round_id=row.id, attempt=attempt)
        set_state(session, row.id, "failed", attempt=attempt, failure="The disk is full.")
        kept = use_adapter(session, row.id, early.id)
        assert (kept.state, kept.failure, kept.adapter_id) == ("done", None, early.id)
        assert kept.ended_at is not None


def test_a_round_freezes_what_it_selects(database: Database) -> None:
    with database.write() as session:
        first = [a_choice(session, a_pair(session)) for _ in range(2)]
        earlier = a_round(session)
        freeze_choices(session, earlier)
        later = a_choice(session, a_pair(session), annotator="bob")
        a_choice(session, a_pair(session), annotator="eve")
        values: dict[str, Any] = {"model": MODEL, "config": {}, "seed": 1}

        def frozen(**selection: Any) -> list[str]:
            row = create_round(session, selection=selection, **values)
            found = [pair.choice_id for pair in freeze_choices(session, row)]
            set_state(session, row.id, "cancelled")
            return found

        assert frozen(which="fresh", annotators=["bob"]) == [later.id]
        assert frozen(which="all", annotators=["ann"]) == [choice.id for choice in first]
        assert len(frozen(which="fresh", annotators=None)) == 2
        assert len(frozen()) == 4
