"""The list of prompts: what is found, in which order, and what it says of each."""

from __future__ import annotations

from uuid import uuid4

from inpo_studio.studio import Studio
from inpo_studio.studio.label.choices import record_choice
from inpo_studio.studio.label.pairs import request_pairs
from inpo_studio.studio.label.prompt_list import PromptLine, Which, prompt_list
from inpo_studio.studio.label.prompts import comparison_prompts, label_prompts
from inpo_studio.studio.label.starters import STARTERS, add_starters
from storage.choices import undo_choice
from storage.progress import set_progress
from tests.studio.workspace import add_pairs


def texts(studio: Studio, which: Which = "all", search: str = "", limit: int = 100) -> list[str]:
    return [line.text for line in prompt_list(studio, which, search, limit).lines]


def test_own_prompts_come_first_and_held_out_ones_last(studio: Studio) -> None:
    add_starters(studio)
    label_prompts(studio, ["a fox", "a bear"])
    comparison_prompts(studio, ["a harbour"])
    found = prompt_list(studio, limit=500)
    assert [line.text for line in found.lines[:2]] == ["a bear", "a fox"]
    assert found.lines[-1].split == "held_out"
    assert found.found == len(found.lines) == found.train + found.validation + found.held_out
    assert found.train + found.validation == STARTERS + 2
    assert texts(studio, "own") == ["a bear", "a fox"]
    assert len(texts(studio, "starter", limit=500)) == STARTERS
    assert "a harbour" in texts(studio, "compare", limit=500)
    assert "a fox" not in texts(studio, "compare", limit=500)
    some = prompt_list(studio, limit=3)
    assert (len(some.lines), some.found) == (3, found.found)


def test_search_takes_what_is_typed_as_it_is(studio: Studio) -> None:
    label_prompts(studio, ["100% wool", "100 sheep", "a_b", "aXb", "Ein BÄR"])
    assert texts(studio, search="100%") == ["100% wool"]
    assert texts(studio, search="a_b") == ["a_b"]
    assert texts(studio, search=" WOOL ") == ["100% wool"]
    assert texts(studio, search="'; --") == []


def test_counts_are_of_this_model_and_of_live_choices(studio: Studio) -> None:
    pairs = add_pairs(studio, 4, prompts=2)
    add_pairs(studio, 2, prompts=2, model="some/model")
    made = [
        record_choice(
            studio,
            key=uuid4().hex,
            pair_id=pair.id,
            choice="left",
            left_image_id=pair.first_image_id,
            right_image_id=pair.second_image_id,
            annotator=annotator,
        )
        for pair in pairs[:3]
        for annotator in ("me", "you")
    ]
    second, first = prompt_list(studio).lines
    assert (first.pairs, first.labelled, second.pairs, second.labelled) == (2, 2, 2, 1)
    with studio.database.write() as session:
        for choice in made:
            undo_choice(session, choice.id)
    assert [line.labelled for line in prompt_list(studio).lines] == [0, 0]
    assert isinstance(first, PromptLine)
    assert first.comparisons == 0


def test_it_tells_of_pairs_being_made(studio: Studio) -> None:
    assert not prompt_list(studio).under_way
    asked = request_pairs(studio, ["a fox"], 8)
    found = prompt_list(studio)
    assert (found.under_way, found.made, found.to_make, found.round_runs) == (True, 0, 0, False)
    with studio.database.write() as session:
        set_progress(session, asked.job_id, kind="pairs", done=3, total=8, note="")
    found = prompt_list(studio)
    assert (found.made, found.to_make) == (3, 8)
