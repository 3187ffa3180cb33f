"""Bearing with a database that is busy or away for a moment, for a bounded time."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ParamSpec, TypeVar

from storage.errors import Transient

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

PATIENCE_S = 60.0
"""How long errors that may pass are borne in a row; a server is started again in less."""
TRY_AGAIN_S = 1.0

log = logging.getLogger("storage.patience")


class Patience:
    """Lets pass what can be left out this time and done the next; one for each kind of access.

    Where reads work and writes do not, each must have its own: the one says nothing of the other.
    """

    def __init__(self) -> None:
        self._since: float | None = None

    @contextmanager
    def bearing(self) -> Iterator[None]:
        """Let a transient error of the block pass, unless there was nothing else for too long."""
        try:
            yield
        except Transient as error:
            now = time.monotonic()
            if self._since is None:
                self._since = now
                log.info("borne for now: %s", error)
            if now - self._since > PATIENCE_S:
                raise
        else:
            self._since = None


def persisting(work: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Make `work` begin again a moment after a transient error, and give up only after a while.

    For what must be done before anything else can; it must be harmless to do twice.
    """

    @functools.wraps(work)
    def persist(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return work(*args, **kwargs)
            except Transient as error:
                if time.monotonic() > deadline:
                    raise
                log.info("tried again in a moment: %s", error)
            time.sleep(TRY_AGAIN_S)

    return persist
