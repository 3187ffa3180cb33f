"""Checks of values before they are stored, alike on every database."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from storage.errors import InvalidInput, NotFound
from storage.schema import Base

Row = TypeVar("Row", bound=Base)


def get_row(session: Session, table: type[Row], row_id: str) -> Row:
    """The row with this id; NotFound if there is none."""
    row = session.get(table, row_id)
    if row is None:
        raise NotFound(f"There is no {table.__tablename__[:-1].replace('_', ' ')} {row_id!r}.")
    return row


def next_number(session: Session, column: InstrumentedAttribute[int]) -> int:
    """One more than the largest value of `column`, from 1.

    Right only inside `Database.write()`, which lets one writer in at a time.
    """
    return (session.scalar(select(func.max(column))) or 0) + 1


def checked_text(text: str, what: str, max_bytes: int) -> str:
    """`text` without surrounding white space; InvalidInput if a database could not keep it.

    `max_bytes` counts UTF-8 and stays below what PostgreSQL can index.
    """
    text = text.strip()
    if not text:
        raise InvalidInput(f"The {what} is empty; write something.")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidInput(f"The {what} holds characters that are no text; remove them.") from error
    if "\0" in text:
        raise InvalidInput(f"The {what} holds a NUL character; remove it.")
    if size > max_bytes:
        raise InvalidInput(f"The {what} is {size} bytes long; shorten it to at most {max_bytes}.")
    return text


def checked_seed(seed: int) -> int:
    """`seed`; InvalidInput unless 0 <= seed < 2**63."""
    if not 0 <= seed < 2**63:
        raise InvalidInput(f"The seed {seed} must be from 0 to 2**63 - 1.")
    return seed
