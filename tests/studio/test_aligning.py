"""What the Align page is told: the plan, the tree of rounds, the round that is watched."""

from __future__ import annotations

import pytest

from inpo_studio.studio import Studio
from inpo_studio.studio.align.aligning import LEAST_CHOICES, Wish, begin, plan_next
from inpo_studio.studio.align.lineage import in_order, lineage
from inpo_studio.studio.align.round_words import about, span
from inpo_studio.studio.align.rounds import adopt_round, cancel_round
from inpo_studio.studio.align.watching import to_watch, watched
from inpo_studio.studio.errors import StudioError
from inpo_studio.studio.label.choices import ImportedChoice, import_choices
from storage.errors import NotFound
from storage.rounds import claim_attempt, create_round, list_rounds, set_state
from storage.schema import Round
from tests.browser import round_rows as rows
from tests.studio.workspace import add_pairs


def choose(studio: Studio, count: int) -> None:
    pairs = add_pairs(studio, count)
    import_choices(studio, [ImportedChoice(n, pair.id, "left") for n, pair in enumerate(pairs)])


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "there are none yet: label 8 more"), (1, "there is 1: label 7"), (5, "there are 5")],
)
def test_too_few_choices_say_how_many_are_missing(studio: Studio, count: int, said: str) -> None:
    if count:
        choose(studio, count)
    plan = plan_next(studio)
    assert not plan.ready
    assert said in plan.sentence
    assert "64" in plan.hint
    with pytest.raises(StudioError, match="at least 8"):
        begin(studio, Wish())
    with studio.database.read() as session:
        assert not list_rounds(session)


def test_the_plan_is_one_sentence_with_a_time(studio: Studio) -> None:
    choose(studio, LEAST_CHOICES)
    plan = plan_next(studio)
    assert plan.ready
    assert plan.button == "Align on my 8 choices"
    assert plan.sentence.count(".") == 1
    assert "the base model" in plan.sentence
    assert "takes about" in plan.sentence
    assert "56 more choices" in plan.hint
    longer = plan_next(studio, Wish(changes={"steps": 20_000}))
    assert "20000 steps" in longer.sentence
    assert longer.usual == plan.usual, "what is usual does not depend on what was asked"


def test_a_second_round_waits_for_the_first(studio: Studio) -> None:
    choose(studio, 10)
    made = begin(studio, Wish(changes={"steps": 7, "rank": 4}))
    assert (made.config["steps"], made.config["rank"], made.config["alpha"]) == (7, 4, 4.0)
    with pytest.raises(StudioError, match="Round 1 is waiting"):
        begin(studio, Wish())
    cancel_round(studio, made.id)
    assert begin(studio, Wish()).number == 2


def test_the_tree_puts_children_below_their_parent_and_the_newest_first() -> None:
    def a_round(number: int, parent: int | None) -> Round:
        return Round(id=str(number), number=number, parent_id=parent and str(parent))

    found = [a_round(1, None), a_round(2, 1), a_round(3, 1), a_round(4, 2), a_round(5, None)]
    order = [(row.number, depth) for row, depth in in_order(found)]
    assert order == [(5, 0), (1, 0), (3, 1), (2, 1), (4, 2)]
    assert [row.number for row, _ in in_order([a_round(7, 6)])] == [7]


def test_a_finished_round_tells_all_it_did(studio: Studio) -> None:
    rows.label(studio, 16)
    one = rows.add_done(studio, changes={"beta": 500.0})
    adopt_round(studio, one.id)
    two = rows.add_done(studio, parent=one)
    tree = lineage(studio)
    assert [(card.number, card.depth) for card in tree.rounds] == [(1, 0), (2, 1)]
    assert tree.adopted_number == 1
    card = tree.rounds[0]
    assert (card.choices, card.validation_pairs) == (16, 8)
    assert card.ranked_right is not None
    assert card.interval is not None
    assert card.interval[0] < card.ranked_right < card.interval[1]
    assert [kept.step for kept in card.kept] == [20, 40, 60, 80]
    assert [kept.used for kept in card.kept] == [False, False, False, True]
    assert [picture.step for picture in card.thumbnails] == [80, 80, 80]
    assert ("Beta", "500") in {(one.label, one.value) for one in card.settings if one.changed}
    assert card.seconds == pytest.approx(72)
    assert {"adopt", "branch", "compare"} <= set(card.actions)
    assert to_watch(studio) == two.id


def test_figures_come_after_a_step_and_all_anew_for_another_attempt(studio: Studio) -> None:
    rows.label(studio, 8)
    made = rows.add_round(studio)
    attempt = rows.begin_training(studio, made)
    rows.train(studio, made, attempt, 1, 25)
    seen = watched(studio, made.id)
    assert [row[0] for row in seen.figures] == list(range(1, 26))
    assert seen.seconds_left == pytest.approx(0.9 * 55)
    assert {picture.step for picture in seen.samples} == {0, 20}
    later = watched(studio, made.id, after_step=23, attempt=attempt)
    assert ([row[0] for row in later.figures], later.afresh) == ([24, 25], False)
    with studio.database.write() as session:
        claim_attempt(session, made.id)
    again = watched(studio, made.id, after_step=23, attempt=attempt)
    assert again.afresh
    assert len(again.figures) == 25


def test_a_failure_is_one_sentence(studio: Studio) -> None:
    rows.label(studio, 8)
    made = rows.add_round(studio)
    attempt = rows.begin_training(studio, made)
    said = "It was ended by signal 9 (SIGKILL). The end of its log:\n/home/somebody\nTraceback"
    with studio.database.write() as session:
        set_state(session, made.id, "failed", attempt=attempt, failure=said)
    seen = watched(studio, made.id)
    assert seen.failure == "It was ended by signal 9 (SIGKILL)."
    assert seen.actions == ["cancel", "resume"]
    assert lineage(studio).rounds[0].failure == seen.failure


def test_rounds_of_another_model_are_not_shown(studio: Studio) -> None:
    with studio.database.write() as session:
        made = create_round(session, model="another", config={}, seed=0)
    assert not lineage(studio).rounds
    assert to_watch(studio) is None
    with pytest.raises(NotFound):
        watched(studio, made.id)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(4, "4 s"), (89, "89 s"), (130, "2 min"), (3600, "1 h"), (4830, "1 h 20 min")],
)
def test_spans_of_time(seconds: float, said: str) -> None:
    assert span(seconds) == said
    assert about(3) == "a few seconds"
    assert about(44) == "about 40 s"
