"""Labelling: what a page is given to show, and what becomes of its clicks. Torch-free."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import exists, select
from sqlalchemy.orm import Session

from inpo_studio.studio import Studio
from inpo_studio.studio.label.choices import check_annotator
from inpo_studio.studio.label.leases import Leases
from inpo_studio.studio.label.pairs import policy_adapter
from storage.choices import record_choice, undo_choice
from storage.errors import AlreadyChosen, NotFound
from storage.frozen import rounds_that_froze
from storage.pairs import next_unlabelled
from storage.schema import Answer, Choice, Pair

MOST_AT_ONCE = 20


@dataclass(frozen=True)
class Shown:
    """A pair as a page shows it: its text and which picture is on which side."""

    pair_id: str
    prompt: str
    left_image_id: str
    right_image_id: str
    counts: bool
    """Rounds learn from it; on the others (validation prompts) they are checked."""


@dataclass(frozen=True)
class Batch:
    """The pairs a page shows next, and which of those it held are not its own any more."""

    pairs: list[Shown]
    lost: list[str]


@dataclass(frozen=True)
class Click:
    """What a person pressed, as it was shown to them; the key is new with every press."""

    key: str
    pair_id: str
    choice: Answer
    left_image_id: str
    right_image_id: str
    milliseconds: int | None


@dataclass(frozen=True)
class Past:
    """A choice that can still be undone."""

    key: str
    choice: Answer
    position: int
    shown: Shown


@dataclass(frozen=True)
class Undone:
    """What an undo did: rounds that froze the choice stay as they are."""

    found: bool
    frozen_in: list[int]


class Labelling:
    """Serves pairs to pages and takes in their clicks; one object for the whole web process."""

    def __init__(
        self, studio: Studio, leases: Leases | None = None, *, overlap: bool | None = None
    ) -> None:
        """With `overlap` everybody chooses on every pair, else one person does; None: as set."""
        self._studio = studio
        self._leases = leases or Leases()
        self._overlap = studio.settings.overlap if overlap is None else overlap
        self._own_leases: dict[str, Leases] = {}
        self._serving = threading.Lock()

    def _leases_of(self, annotator: str) -> Leases:
        """With overlap only the pages of one person keep out of each other's way."""
        if not self._overlap:
            return self._leases
        return self._own_leases.setdefault(annotator, Leases())

    def serve(self, annotator: str, page: str, holding: Sequence[str], want: int) -> Batch:
        """Return up to `want` pairs for a page beside those it holds.

        Two pages never get the same pair, unless they are different people's and overlap is
        asked for. What the page holds stays reserved for it, unless it was chosen on or retired
        meanwhile (`lost`).
        """
        model = self._studio.settings.model
        want = max(0, min(want, MOST_AT_ONCE))
        holder = f"{annotator}\x1f{page}"
        with self._serving, self._studio.database.read() as session:
            leases = self._leases_of(annotator)
            kept = self._still_open(session, annotator, leases.hold(holder, holding))
            leases.keep_only(holder, kept)
            policy = policy_adapter(session, model)
            found = next_unlabelled(
                session,
                model,
                policy,
                want,
                annotator if self._overlap else None,
                exclude={*leases.held_by_others(holder), *kept},
                own_first=True,
            )
            leases.hold(holder, [pair.id for pair in found])
        return Batch([_shuffled(pair) for pair in found], [p for p in holding if p not in kept])

    def _still_open(self, session: Session, annotator: str, pair_ids: Collection[str]) -> set[str]:
        chosen = exists().where(Choice.pair_id == Pair.id, Choice.undone_at.is_(None))
        if self._overlap:
            chosen = chosen.where(Choice.annotator == annotator)
        query = select(Pair.id).where(
            Pair.id.in_(list(pair_ids)),
            Pair.state == "ready",
            ~chosen,
            Pair.model == self._studio.settings.model,  # a page may not know of a change of model
        )
        return set(session.scalars(query))

    def commit(self, annotator: str, click: Click) -> None:
        """Record a click durably; the same key again changes nothing.

        Raises AlreadyChosen when the person chose on this pair elsewhere or, without overlap,
        somebody else did; InvalidInput and NotFound for what cannot be a click.
        """
        annotator = check_annotator(annotator)
        with self._studio.database.write() as session:
            if not self._overlap:
                _refuse_second(session, click, annotator)
            record_choice(
                session,
                key=click.key,
                pair_id=click.pair_id,
                choice=click.choice,
                left_image_id=click.left_image_id,
                right_image_id=click.right_image_id,
                annotator=annotator,
                milliseconds=click.milliseconds,
            )
        self._leases_of(annotator).free(click.pair_id)

    def undo(self, annotator: str, page: str, key: str) -> Undone:
        """Undo the choice with this key, if it is the annotator's; again changes nothing.

        The pair stays reserved for the page, which shows it again.
        """
        annotator = check_annotator(annotator)
        with self._studio.database.write() as session:
            row = session.scalar(select(Choice).where(Choice.key == key))
            if row is None:
                return Undone(False, [])
            if row.annotator != annotator:
                raise NotFound("That choice is somebody else's; only they can undo it.")
            undo_choice(session, row.id)
            frozen = [found.number for found in rounds_that_froze(session, row.id)]
            pair_id = row.pair_id
        self._leases_of(annotator).hold(f"{annotator}\x1f{page}", [pair_id])
        return Undone(True, frozen)

    def history(self, annotator: str, before: int | None, limit: int) -> list[Past]:
        """Return the annotator's last choices on the present model, latest first.

        `before` is the position to go back from. Choices of files that were taken in count too.
        """
        query = (
            select(Choice)
            .join(Choice.pair)
            .where(
                Choice.annotator == annotator,
                Choice.undone_at.is_(None),
                Pair.model == self._studio.settings.model,
            )
            .order_by(Choice.position.desc())
            .limit(max(1, min(limit, MOST_AT_ONCE)))
        )
        if before is not None:
            query = query.where(Choice.position < before)
        with self._studio.database.read() as session:
            return [_past(choice) for choice in session.scalars(query)]


def _refuse_second(session: Session, click: Click, annotator: str) -> None:
    """Another web process on the same database may have shown the pair to somebody else."""
    other = select(Choice.id).where(
        Choice.pair_id == click.pair_id,
        Choice.undone_at.is_(None),
        Choice.annotator != annotator,
    )
    if session.scalar(other.limit(1)) is not None:
        raise AlreadyChosen("Somebody else has chosen on this pair meanwhile; go on with the next.")


def _past(choice: Choice) -> Past:
    shown = _show(choice.pair, choice.left_image_id, choice.right_image_id)
    return Past(choice.key, choice.choice, choice.position, shown)


def _shuffled(pair: Pair) -> Shown:
    sides = [pair.first_image_id, pair.second_image_id]
    if secrets.randbits(1):
        sides.reverse()
    return _show(pair, *sides)


def _show(pair: Pair, left_image_id: str, right_image_id: str) -> Shown:
    counts = pair.prompt.split == "train"
    return Shown(pair.id, pair.prompt.text, left_image_id, right_image_id, counts)
