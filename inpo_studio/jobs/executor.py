"""Does jobs as the engine hands them out, one at a time; what stops, is handed back.

When the process dies instead, the next one of its slot takes its job up again.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from dbos import DBOS, DBOSPortableJSONSerializer

from inpo_studio.engine import APPLICATION, VERSION, WORKFLOW, Engine, JobStatus, executor_id
from inpo_studio.jobs.context import HandBack, JobCancelled, JobContext, JobFailed
from inpo_studio.jobs.kinds import KINDS, Kind
from inpo_studio.jobs.lease import Lease
from inpo_studio.jobs.pipelines import Pipelines
from inpo_studio.jobs.supply import Supply
from inpo_studio.jobs.upkeep import settle_rounds, sweep_rounds
from inpo_studio.settings import Settings
from storage.engines import open_database
from storage.errors import StorageError
from storage.files import FileStore
from storage.migrate import migrate

MAX_RECOVERY_ATTEMPTS = 3
"""How often a job is taken up again after its worker died on it without getting any further."""
STOP_GRACE_S = 2.0
LONGEST_STOP_S = 30.0
"""A bound on waiting for the engine to stop; it takes well below a second."""
UPKEEP_EVERY_S = 2.0

log = logging.getLogger("inpo_studio.jobs")
_working: Executor | None = None


@DBOS.workflow(name=WORKFLOW, max_recovery_attempts=MAX_RECOVERY_ATTEMPTS)
def _job(kind: str, payload: dict[str, Any]) -> Any:
    executor, job_id = _working, DBOS.workflow_id
    if executor is None or job_id is None:
        raise HandBack
    try:
        return executor.work(job_id, kind, payload)
    except HandBack:
        executor.hold_back()
        raise


class Executor:
    """Does jobs between `start` and `stop`; the caller holds the worker lock. One a process."""

    def __init__(
        self,
        settings: Settings,
        slot: int = 0,
        kinds: Mapping[str, Kind] = KINDS,
        *,
        keeps_ready: bool = False,
    ) -> None:
        """Take the kinds of job it knows; nothing is opened before `start`.

        With `keeps_ready` it makes pairs without being asked, so that labelling never waits.
        """
        self._settings = settings
        self._slot = slot
        self._kinds = kinds
        self._keeps_ready = keeps_ready and "pairs" in kinds
        self._stopping = threading.Event()
        self._let_go = threading.Event()
        self._at_work: set[str] = set()
        self._handed_back: set[str] = set()

    def start(self) -> None:
        """Open the workspace and begin; what was under way in this slot is taken up again."""
        global _working
        if _working is not None:
            raise RuntimeError("There is a worker in this process already; use that one.")
        settings = self._settings
        with contextlib.ExitStack() as on_failure:
            self._database = open_database(settings.database_url)
            on_failure.callback(self._database.dispose)
            migrate(self._database)
            self._engine = Engine(settings)
            on_failure.callback(self._engine.close)
            self._engine.prepare()
            self._files = FileStore(settings.files)
            self._pipelines = Pipelines(settings)
            on_failure.callback(DBOS.destroy)
            _working = self
            on_failure.callback(self._leave)
            self._launch()
            on_failure.pop_all()
        self._upkeep = threading.Thread(target=self._keep_up, name="upkeep", daemon=True)
        self._upkeep.start()

    def _launch(self) -> None:
        DBOS(
            config={
                "name": APPLICATION,
                "system_database_url": self._settings.jobs_url,
                "application_version": VERSION,
                "executor_id": executor_id(self._settings, self._slot),
                "serializer": DBOSPortableJSONSerializer(),
                "log_level": "WARNING",
                "notification_listener_polling_interval_sec": 0.2,
            }
        )
        DBOS.launch()

    def _leave(self) -> None:
        global _working
        _working = None

    def stop(self, grace_s: float = STOP_GRACE_S) -> bool:
        """Let go of the jobs at work and hand them back; False if one did not stop in time.

        In that case the job's thread still runs, and the process should be ended.
        """
        self._stopping.set()
        deadline = time.monotonic() + grace_s
        while self._at_work and time.monotonic() < deadline:
            time.sleep(0.02)
        DBOS.destroy()
        self._let_go.set()
        self._upkeep.join(timeout=5.0)
        stuck = set(self._at_work)
        self._engine.hand_back(stuck | self._handed_back)
        self._pipelines.release()
        self._engine.close()
        self._database.dispose()
        self._leave()
        return not stuck

    def hold_back(self) -> None:
        """Wait, when the worker stops, until the engine has stopped too.

        To an engine that still runs a job that returns is room for the next one, which it would
        take out of the queue and then find nobody to give it to.
        """
        if self._stopping.is_set():
            self._let_go.wait(LONGEST_STOP_S)

    def work(self, job_id: str, kind: str, payload: dict[str, Any]) -> Any:
        """Do one job; called by the engine, in a thread of its own."""
        self._at_work.add(job_id)
        try:
            return self._do(job_id, kind, payload)
        except HandBack:
            if self._stopping.is_set():  # else the job has put itself back into the queue
                self._handed_back.add(job_id)
            raise
        except JobCancelled:
            log.info("job %s was cancelled", job_id)
            raise
        except JobFailed as failure:
            log.warning("job %s: %s", job_id, failure)
            raise
        except (StorageError, ValueError):
            log.exception("job %s failed", job_id)
            raise
        except Exception as error:
            log.exception("job %s failed", job_id)
            raise JobFailed(
                f"The job failed with {type(error).__name__}: {error}; the worker's log, "
                f"worker-{self._slot}.log in the workspace's logs folder, says more."
            ) from error
        finally:
            self._at_work.discard(job_id)

    def _do(self, job_id: str, kind: str, payload: dict[str, Any]) -> Any:
        status = self._engine.status(job_id)
        context = JobContext(
            job_id=job_id,
            kind=kind,
            settings=self._settings,
            database=self._database,
            files=self._files,
            engine=self._engine,
            pipelines=self._pipelines,
            stopping=self._stopping,
            keeps_ready=self._keeps_ready,
            priority=status.priority,
        )
        context.checkpoint()
        known = self._kinds.get(kind)
        if known is None:
            raise JobFailed(
                f"This worker does not know jobs of the kind {kind!r}; upgrade it and try again."
            )
        self._renew_attempts(context, status)
        return known(context, payload)

    def _renew_attempts(self, context: JobContext, status: JobStatus) -> None:
        """A job that got further since its worker died last has all its attempts again."""
        if status.dispatches <= 1:
            return
        done = context.done_so_far()
        if done > int(status.attributes.get("done_at_death", 0)):
            self._engine.remember(context.job_id, done_at_death=done)
            self._engine.hand_back([context.job_id])
            raise HandBack

    def _keep_up(self) -> None:
        """In a thread beside the jobs: forget old jobs once; settle rounds, keep pairs ready."""
        pruned = False
        supply = Supply(self._settings, self._database, self._engine)
        name = executor_id(self._settings, self._slot)
        lease = Lease(self._settings.workspace / "workers", name, self._engine)
        while True:
            try:
                lease.renew()
                settle_rounds(self._database, self._engine)
                sweep_rounds(self._database, self._settings.workspace)
                if self._keeps_ready:
                    supply.top_up()
                if not pruned:
                    self._engine.prune()
                    pruned = True
            except Exception:
                if not self._stopping.is_set():
                    log.exception("upkeep")
            if self._stopping.wait(UPKEEP_EVERY_S):
                return
