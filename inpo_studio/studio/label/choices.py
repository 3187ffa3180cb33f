"""Choices: record one, take in a file of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import uuid4

from sqlalchemy.orm import Session

from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from storage import choices as stored
from storage.schema import Answer, Choice, Pair

DEFAULT_ANNOTATOR = "me"
_LONGEST_NAME = 200


@dataclass(frozen=True)
class ImportedChoice:
    """A choice from a file: left is the pair's first picture, right its second."""

    line: int
    pair_id: str
    choice: Answer


@dataclass(frozen=True)
class Import:
    """What became of a file of choices."""

    recorded: int
    replaced: int
    """Choices that differed from an earlier one, which is undone."""
    unchanged: int


def record_choice(
    studio: Studio,
    *,
    key: str,
    pair_id: str,
    choice: Answer,
    left_image_id: str,
    right_image_id: str,
    annotator: str = DEFAULT_ANNOTATOR,
    milliseconds: int | None = None,
) -> Choice:
    """Record a click as it was shown; the same key again changes nothing."""
    with studio.database.write() as session:
        return stored.record_choice(
            session,
            key=key,
            pair_id=pair_id,
            choice=choice,
            left_image_id=left_image_id,
            right_image_id=right_image_id,
            annotator=check_annotator(annotator),
            milliseconds=milliseconds,
        )


def import_choices(
    studio: Studio, lines: Sequence[ImportedChoice], annotator: str = DEFAULT_ANNOTATOR
) -> Import:
    """Record choices of the present model's pairs: all of them, or none with a StudioError."""
    annotator = check_annotator(annotator)
    counts = {"recorded": 0, "replaced": 0, "unchanged": 0}
    with studio.database.write() as session:
        live = {
            found.pair_id: found
            for found in stored.live_choices(session, studio.settings.model, annotators=[annotator])
        }
        for line in lines:
            pair = _find_pair(session, line, studio.settings.model)
            counts[_import_one(session, line, pair, live.get(pair.id), annotator)] += 1
    return Import(**counts)


def _find_pair(session: Session, line: ImportedChoice, model: str) -> Pair:
    pair = session.get(Pair, line.pair_id)
    if pair is None:
        raise StudioError(f"Line {line.line}: there is no pair {line.pair_id!r} here.")
    if pair.model != model:
        raise StudioError(
            f"Line {line.line}: pair {pair.id} is of {pair.model}; choose on it with that --model."
        )
    return pair


def _import_one(
    session: Session, line: ImportedChoice, pair: Pair, earlier: Choice | None, annotator: str
) -> str:
    outcome = "recorded"
    if earlier is not None:
        if as_stored(earlier) == line.choice:
            return "unchanged"
        stored.undo_choice(session, earlier.id)
        outcome = "replaced"
    stored.record_choice(
        session,
        key=f"import-{uuid4().hex}",
        pair_id=pair.id,
        choice=line.choice,
        left_image_id=pair.first_image_id,
        right_image_id=pair.second_image_id,
        annotator=annotator,
        milliseconds=None,
    )
    return outcome


def as_stored(choice: Choice) -> Answer:
    """Return a choice as if the pair's first picture had been shown on the left."""
    if choice.left_image_id == choice.pair.first_image_id:
        return choice.choice
    flipped: dict[Answer, Answer] = {"left": "right", "right": "left"}
    return flipped.get(choice.choice, choice.choice)


def check_annotator(name: str) -> str:
    """Return the name without blanks around it; StudioError when it cannot be one."""
    name = name.strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise StudioError(f"A name has 1 to {_LONGEST_NAME} printable characters; give another.")
    return name
