from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from storage.choices import live_choices, record_choice, undo_choice
from storage.engines import Database
from storage.errors import AlreadyChosen, InvalidInput, KeyReused, NotFound, StorageError
from storage.images import add_image
from storage.pairs import (
    add_pair,
    count_ready,
    get_pair,
    list_pairs,
    next_unlabelled,
    retire_pairs,
    show_only,
)
from storage.schema import Choice, Image, Pair, new_id, utc_now
from tests.storage.rows import MODEL, a_choice, a_done_round, a_pair, a_prompt, an_image


def test_a_choice_is_stored_as_clicked(database: Database) -> None:
    with database.write() as session:
        pair = a_pair(session)
        made = a_choice(session, pair, "right", flipped=True, milliseconds=1234)
    with database.read() as session:
        (stored,) = live_choices(session, MODEL)
    # usable after the session has ended, with what it names
    assert (stored.id, stored.choice, stored.milliseconds) == (made.id, "right", 1234)
    assert stored.left_image_id == pair.second_image_id == stored.pair.second_image.id
    assert stored.pair.prompt.text == "a house by the sea"
    assert stored.created_at.utcoffset() is not None


def test_a_repeated_delivery_is_one_choice(database: Database) -> None:
    with database.write() as session:
        pair = a_pair(session)
        first = a_choice(session, pair, "left", key="k")
        assert a_choice(session, pair, "left", key="k", milliseconds=9).id == first.id
        undo_choice(session, first.id)
        again = a_choice(session, pair, "left", key="k")
        assert again.id == first.id
        assert again.undone_at is not None
        assert live_choices(session) == []


@pytest.mark.parametrize("change", [{"choice": "right"}, {"annotator": "bob"}, {"flipped": True}])
def test_a_key_with_other_content_is_refused(database: Database, change: dict[str, object]) -> None:
    with database.write() as session:
        pair = a_pair(session)
        a_choice(session, pair, key="k")
        with pytest.raises(KeyReused, match="new key with every click"):
            a_choice(session, pair, **{"choice": "left", "key": "k", **change})  # type: ignore[arg-type]


def test_one_live_choice_for_each_pair_and_annotator(database: Database) -> None:
    with database.write() as session:
        pair = a_pair(session)
        first = a_choice(session, pair, "left")
        with pytest.raises(AlreadyChosen, match="undo that choice first"):
            a_choice(session, pair, "right")
        a_choice(session, pair, "tie", annotator="bob")
        undo_choice(session, first.id)
        a_choice(session, pair, "right")
        assert [row.choice for row in live_choices(session)] == ["tie", "right"]
        assert [row.choice for row in live_choices(session, annotators=["bob"])] == ["tie"]


def test_the_database_itself_holds_to_one_live_choice(database: Database) -> None:
    with database.write() as session:
        row = a_choice(session, a_pair(session))
    copy = {column.name: getattr(row, column.name) for column in Choice.__table__.columns}
    copy |= {"id": new_id(), "key": "other", "position": 99}
    with pytest.raises(IntegrityError), database.write() as session:
        session.execute(insert(Choice).values(**copy))
    with database.write() as session:
        session.execute(insert(Choice).values(**{**copy, "undone_at": utc_now()}))


def test_what_was_not_shown_cannot_be_chosen(database: Database) -> None:
    with database.write() as session:
        pair, other = a_pair(session), a_pair(session)
        shown: dict[str, Any] = {
            "left_image_id": pair.first_image_id,
            "right_image_id": other.first_image_id,
        }
        with pytest.raises(InvalidInput, match="not those of the pair"):
            record_choice(
                session, key="k", pair_id=pair.id, choice="left", annotator="ann", **shown
            )
        with pytest.raises(InvalidInput, match="must be one of left, right"):
            a_choice(session, pair, "middle")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="milliseconds"):
            a_choice(session, pair, milliseconds=-1)
        with pytest.raises(InvalidInput, match="annotator is empty"):
            a_choice(session, pair, annotator=" ")
        with pytest.raises(NotFound):
            record_choice(session, key="k", pair_id="none", choice="left", annotator="ann", **shown)


def test_undo_keeps_the_rows_and_does_nothing_twice(database: Database) -> None:
    with database.write() as session:
        pairs = [a_pair(session) for _ in range(3)]
        made = [a_choice(session, pair) for pair in pairs]
        bob = a_choice(session, pairs[0], annotator="bob")
        undone_at = [undo_choice(session, choice.id).undone_at for choice in made]
        assert live_choices(session) == [bob]
        assert len(list(session.scalars(select(Choice)))) == 4
        assert None not in undone_at
        assert undo_choice(session, made[0].id).undone_at == undone_at[0]


def test_the_next_pairs_are_the_oldest_without_a_choice(database: Database) -> None:
    with database.write() as session:
        pairs = [a_pair(session) for _ in range(5)]
        ids = [pair.id for pair in pairs]

        def waiting(annotator: str = "ann", **options: object) -> list[str]:
            found = next_unlabelled(session, MODEL, None, 10, annotator, **options)  # type: ignore[arg-type]
            return [pair.id for pair in found]

        assert waiting() == ids
        a_choice(session, pairs[0], "skip")
        second = a_choice(session, pairs[1])
        assert waiting() == ids[2:]
        assert waiting(exclude=ids[2:4]) == ids[4:]
        assert waiting("bob") == ids
        undo_choice(session, second.id)
        assert waiting() == ids[1:]
        assert retire_pairs(session, ids[2:4]) == 2
        assert retire_pairs(session, ids[2:4]) == 0
        assert waiting() == [ids[1], ids[4]]
        assert count_ready(session, MODEL, None, "ann") == 2
        assert count_ready(session, MODEL, None) == 2
        assert len(list_pairs(session, MODEL, "retired")) == 2
        assert show_only(session, MODEL, None) == 0
        assert [p.id for p in next_unlabelled(session, MODEL, None, 1, "ann")] == [ids[1]]
        assert next_unlabelled(session, "another model", None, 10, "ann") == []


def test_pairs_of_an_adapter_are_apart_from_the_base(database: Database) -> None:
    with database.write() as session:
        base = a_pair(session)
        adapter_id = a_done_round(session).adapter_id
        aligned = a_pair(session, adapter_id=adapter_id)
        a_choice(session, base)
        a_choice(session, aligned, "right")
        assert (base.adapter_id, aligned.adapter_id) == (None, adapter_id)
        assert [c.choice for c in live_choices(session, MODEL, adapter_ids=[None])] == ["left"]
        assert [c.choice for c in live_choices(session, adapter_ids=[adapter_id])] == ["right"]
        assert len(live_choices(session, MODEL, adapter_ids=[None, adapter_id])) == 2
        assert live_choices(session, MODEL, adapter_ids=[]) == []
        mixed = [base.first_image_id, aligned.first_image_id]
        with pytest.raises(InvalidInput, match="one model and one adapter"):
            add_pair(
                session,
                prompt_id=base.prompt_id,
                first_image_id=mixed[0],
                second_image_id=mixed[1],
            )


def test_only_pairs_of_one_adapter_wait_and_what_was_chosen_on_stays(database: Database) -> None:
    def ready() -> set[str]:
        with database.read() as session:
            return {pair.id for pair in list_pairs(session, state="ready")}

    with database.write() as session:
        adapter_id = a_done_round(session).adapter_id
        base = [a_pair(session) for _ in range(3)]
        aligned = [a_pair(session, adapter_id=adapter_id) for _ in range(2)]
        elsewhere = a_pair(session, model="another model")
        a_choice(session, base[0])
        undo_choice(session, a_choice(session, base[1]).id)
        retire_pairs(session, [aligned[0].id])
    with database.write() as session:
        assert show_only(session, MODEL, adapter_id) == 2
    assert ready() == {base[0].id, *(pair.id for pair in aligned), elsewhere.id}
    with database.write() as session:
        assert show_only(session, MODEL, None) == 2
    assert ready() == {*(pair.id for pair in base), elsewhere.id}


def test_a_repeated_job_adds_nothing_twice(database: Database) -> None:
    with database.write() as session:
        prompt = a_prompt(session)
        first = an_image(session, prompt, 7, image_id="image-7")
        assert an_image(session, prompt, 7, image_id="image-7") is first
        with pytest.raises(InvalidInput, match="another origin"):
            an_image(session, prompt, 8, image_id="image-7")
        second = an_image(session, prompt, 2**63 - 1)
        images = {"first_image_id": first.id, "second_image_id": second.id}
        pair = add_pair(session, prompt_id=prompt.id, pair_id="pair-1", **images)
        assert add_pair(session, prompt_id=prompt.id, pair_id="pair-1", **images) is pair
        swapped = {"first_image_id": second.id, "second_image_id": first.id}
        with pytest.raises(InvalidInput, match="other images"):
            add_pair(session, prompt_id=prompt.id, pair_id="pair-1", **swapped)
        with pytest.raises(InvalidInput, match="two different images"):
            add_pair(
                session, prompt_id=prompt.id, first_image_id=first.id, second_image_id=first.id
            )
    with database.read() as session:
        assert get_pair(session, "pair-1").second_image.seed == 2**63 - 1
        assert len(list(session.scalars(select(Image)))) == 2


def test_seeds_beyond_the_column_are_refused(database: Database) -> None:
    with database.write() as session, pytest.raises(InvalidInput, match="seed"):
        an_image(session, a_prompt(session), 2**63)


def test_nothing_that_is_still_named_can_be_deleted(database: Database) -> None:
    with database.write() as session:
        a_choice(session, a_pair(session))
    for table in (Image, Pair):
        with pytest.raises(IntegrityError), database.write() as session:
            session.execute(delete(table))


def test_unknown_references_are_refused(database: Database) -> None:
    with pytest.raises((IntegrityError, StorageError)), database.write() as session:
        add_image(
            session,
            sha256="0" * 64,
            width=1,
            height=1,
            prompt_id="none",
            seed=0,
            model=MODEL,
            adapter_id=None,
            guidance=1.0,
            steps=1,
        )


def test_many_annotators_at_once_lose_and_double_nothing(database: Database) -> None:
    """Four people, ten pairs; every click is sent twice, from two threads."""
    with database.write() as session:
        prompt = a_prompt(session)
        pairs = [a_pair(session, prompt) for _ in range(10)]
    failures: list[BaseException] = []

    def label(annotator: str) -> None:
        try:
            for pair in pairs:
                with database.write() as session:
                    a_choice(session, pair, key=f"{annotator} {pair.id}", annotator=annotator)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=label, args=(f"ann-{n % 4}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with database.read() as session:
        assert sorted(c.position for c in live_choices(session)) == list(range(1, 41))
