from __future__ import annotations

import pytest

from storage.engines import Database
from storage.errors import HeldOutPrompt, InvalidInput, NotFound
from storage.pairs import add_pair
from storage.prompts import MAX_PROMPT_BYTES, add_prompts, get_prompt, label_split, list_prompts
from tests.storage.rows import an_image

SPLITS = [label_split(index) for index in range(1000)]


def test_each_ten_prompts_hold_one_validation_prompt() -> None:
    for ten in range(100):
        assert SPLITS[10 * ten : 10 * ten + 10].count("validation") == 1


def test_a_short_list_trains_on_nearly_everything() -> None:
    assert SPLITS[:5] == ["train"] * 5
    assert all(SPLITS[:count].count("validation") >= 1 for count in range(10, 1000))
    assert all(SPLITS[:count].count("validation") <= count / 5 for count in range(1, 1000))


def test_the_place_in_ten_varies() -> None:
    places = {index % 10 for index, split in enumerate(SPLITS) if split == "validation"}
    assert places == {5, 6, 7, 8, 9}


def test_the_split_is_drawn_once(database: Database) -> None:
    texts = [f"prompt {number}" for number in range(20)]
    with database.write() as session:
        first = [p.split for p in add_prompts(session, texts[:10], "own")]
        assert first.count("validation") == 1
    with database.write() as session:
        again = add_prompts(session, reversed(texts), "starter")
        assert [p.split for p in again][:9:-1] == first
        assert [p.source for p in again][:9:-1] == ["own"] * 10
        assert [p.split for p in again].count("validation") == 2
        compared = add_prompts(session, texts[:3], "comparison", "compare")
        assert [p.split for p in compared] == first[:3]


def test_prompts_of_comparisons_are_held_out_and_cannot_be_paired(database: Database) -> None:
    with database.write() as session:
        (prompt,) = add_prompts(session, ["a lighthouse"], "comparison", "compare")
        assert prompt.split == "held_out"
        with pytest.raises(HeldOutPrompt, match="'a lighthouse' is held out for comparisons"):
            add_prompts(session, ["a lighthouse"], "own")
        images = [an_image(session, prompt) for _ in range(2)]
        with pytest.raises(ValueError, match="held out"):
            add_pair(
                session,
                prompt_id=prompt.id,
                first_image_id=images[0].id,
                second_image_id=images[1].id,
            )
        # they are not counted among the prompts to label
        labels = add_prompts(session, [f"prompt {n}" for n in range(10)], "own")
        assert [p.split for p in labels] == SPLITS[:10]


def test_a_text_is_kept_exactly_and_once(database: Database) -> None:
    texts = ["<b>bold</b>", "наïve 猫 🐈", "a\nb", "  padded  ", "padded", "x" * MAX_PROMPT_BYTES]
    with database.write() as session:
        add_prompts(session, texts, "own")
    with database.read() as session:
        stored = list_prompts(session)
        assert [p.text for p in stored] == [*texts[:3], "padded", texts[5]]
        assert get_prompt(session, stored[0].id) is stored[0]
        assert stored[0].created_at.utcoffset() is not None


@pytest.mark.parametrize("text", ["", "   ", "a\0b", "\ud800", "é" * 1001])
def test_a_text_that_no_database_keeps_is_refused(database: Database, text: str) -> None:
    with database.write() as session, pytest.raises(InvalidInput):
        add_prompts(session, [text], "own")


def test_an_unknown_id_is_said_so(database: Database) -> None:
    with database.read() as session, pytest.raises(NotFound, match="no prompt 'nothing'"):
        get_prompt(session, "nothing")
