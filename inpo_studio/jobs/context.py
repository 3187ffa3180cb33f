"""What a job is given: where its data is, and how to say how far it is and to be stopped."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from dbos import DBOS

from inpo_studio.engine import SPARE, USUAL, Engine
from inpo_studio.settings import Settings
from storage.engines import Database, translated_errors
from storage.files import FileStore
from storage.progress import get_progress, set_progress

if TYPE_CHECKING:
    from inpo_studio.jobs.pipelines import Pipelines

Result = TypeVar("Result")

CANCEL_POLL_S = 0.5


class JobFailed(Exception):
    """A job that cannot be done; the message is one sentence for the user."""


class HandBack(BaseException):
    """The worker stops: the job goes back to the queue as it is.

    Not an Exception, so that neither a job nor the engine takes it for a failure of the job.
    """


class JobCancelled(BaseException):
    """The user has cancelled the job. Not an Exception either: its end is recorded already."""


@dataclass
class JobContext:
    """One run of one job in this worker."""

    job_id: str
    kind: str
    settings: Settings
    database: Database
    files: FileStore
    engine: Engine
    pipelines: Pipelines
    stopping: threading.Event
    keeps_ready: bool = False
    """Whether this worker makes pairs without being asked."""
    priority: int = USUAL
    _looked_at: float = field(default=0.0, repr=False)

    def checkpoint(self) -> None:
        """Call between items: raises HandBack or JobCancelled when the job is to stop here.

        StorageError where the engine's database cannot be read.
        What only fills idle time is put back at once while a person waits for something brief.
        """
        if self.stopping.is_set():
            raise HandBack
        now = time.monotonic()
        if now - self._looked_at < CANCEL_POLL_S:
            return
        self._looked_at = now
        with translated_errors():
            found = self.engine.find(self.job_id)
        if found is not None and found.state == "cancelled":
            raise JobCancelled
        if self.priority >= SPARE:
            self._make_way(USUAL)

    def give_way(self) -> None:
        """Call between items that are stored: hands the job back while a more urgent one waits.

        It is taken up again after that one, and must then go on where it was.
        """
        self._make_way(self.priority)

    def _make_way(self, priority: int) -> None:
        if self.engine.waits_before(priority):
            self.engine.hand_back([self.job_id])
            raise HandBack

    def progress(self, done: int, total: int, note: str = "") -> None:
        """Say how far the job is; the studio's progress bars read it."""
        with self.database.write() as session:
            set_progress(session, self.job_id, kind=self.kind, done=done, total=total, note=note)

    def done_so_far(self) -> int:
        """Return how far an earlier run of this job said it was; 0 without one."""
        with self.database.read() as session:
            row = get_progress(session, self.job_id)
            return 0 if row is None else row.done

    def stage(self, name: str, work: Callable[[], Result]) -> Result:
        """Run a stage and record its result, which must be JSON.

        A job that is taken up again gets the recorded result and does not run the stage twice.
        Stages must come in the same order at every run.
        """
        result: Result = DBOS.run_step({"name": name}, work)
        return result

    def item_id(self, *parts: Any) -> str:
        """Return an id that is the same for the same item at every run of this job."""
        return stable_id(self.job_id, *parts)


def stable_id(*parts: Any) -> str:
    """Return an opaque id (32 hex digits) that is a function of `parts` and their order."""
    text = "\x1f".join(str(part) for part in parts)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:32]
