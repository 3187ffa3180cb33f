"""The training process's side of the database: what a round needs, and what it reports.

Every write is fenced by the attempt this process was started for: once another attempt owns the
round, the next write raises and the process ends. A database that is busy or away for a moment
ends nothing: what the training can do without this time is done the next, the rest is waited for.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import threading
import time
from collections.abc import Callable, Sequence

from PIL import Image

from inpo_studio.settings import Settings
from inpo_studio.training.inputs import read_inputs
from inpo_studio.training.loop import Request, StepRecord, Trainer
from inpo_studio.training.prepare import RoundInputs
from inpo_studio.training.samples import SamplePrompt
from inpo_studio.training.snapshots import publish_adapter
from storage.adapters import add_adapter, add_snapshot, drop_snapshots_after
from storage.engines import Database, open_database
from storage.errors import StorageError, Transient
from storage.files import FileStore
from storage.metrics import drop_metrics_after, record_metrics
from storage.patience import Patience, persisting
from storage.progress import set_progress
from storage.remarks import note_remark
from storage.rounds import get_round, set_state, update_progress
from storage.samples import add_sample, drop_samples_after, list_samples
from storage.schema import Adapter, RoundStage
from storage.timings import machine_name, note_timings
from storage.transitions import WORKED_ON

# A commit is synced to the disk, so the metrics of quick steps are written together.
FLUSH_EVERY_S = 0.7
TELL_EVERY_S = 1.0
LOG_EVERY = 10
"""Steps between lines in the log."""

log = logging.getLogger("inpo_studio.round")


class Stopped(Exception):
    """The round was asked to stop before training began; ``request`` says how."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.request = request


class Ledger:
    """One attempt at one round."""

    def __init__(self, settings: Settings, database: Database, round_id: str, attempt: int) -> None:
        self.settings = settings
        self.database = database
        self.round_id = round_id
        self.attempt = attempt
        self.folder = settings.workspace / "rounds" / round_id
        self._records: list[StepRecord] = []
        self._flushed_at = time.monotonic()
        self._flushing = threading.Lock()
        self._reading, self._writing = Patience(), Patience()
        self._told = ("", 0.0)

    @staticmethod
    @persisting
    def open(settings: Settings, round_id: str, attempt: int) -> Ledger:
        return Ledger(settings, open_database(settings.database_url), round_id, attempt)

    def close(self) -> None:
        self.database.dispose()

    @persisting
    def inputs(self) -> RoundInputs:
        """Model, configuration, frozen pairs with their files, and the parent's adapter."""
        with self.database.read() as session:
            return read_inputs(session, self.settings, self.round_id)

    def request(self) -> Request | None:
        """What the user has asked of the round since it was started, if anything.

        Raises :class:`Stopped` with "cancel" when another attempt owns the round or it ended. A
        database that cannot be read now tells nothing new.
        """
        with self._reading.bearing(), self.database.read() as session:
            row = get_round(session, self.round_id)
            if row.attempt != self.attempt or row.state not in WORKED_ON:
                raise Stopped("cancel")
            return row.requested
        return None

    @persisting
    def stage(self, stage: RoundStage) -> None:
        with self.database.write() as session:
            update_progress(session, self.round_id, self.attempt, stage=stage)

    @persisting
    def start_at(self, step: int, total_steps: int) -> None:
        """Training goes on after ``step`` done steps: forget what was reported beyond."""
        at = (self.round_id, self.attempt)
        with self.database.write() as session:
            drop_metrics_after(session, *at, step)
            drop_samples_after(session, *at, step)
            drop_snapshots_after(session, *at, step)
            update_progress(session, *at, stage="train", step=step, total_steps=total_steps)
        for folder in (self.folder / "adapters").glob("[0-9]*"):
            if folder.name.isdecimal() and int(folder.name) > step:
                shutil.rmtree(folder, ignore_errors=True)

    def before_training(self, sentence: str) -> None:
        """Say what the round waits for or prepares, as the progress of its job.

        There is nothing to keep yet: pause and cancel end the process at once.
        """
        request = self.request()
        if request in ("pause", "cancel"):
            raise Stopped(request)
        said, said_at = self._told
        if sentence == said or (said and time.monotonic() - said_at < TELL_EVERY_S):
            return
        self._told = (sentence, time.monotonic())
        with self._writing.bearing(), self.database.write() as session:
            row = get_round(session, self.round_id)
            if row.job_id is not None:
                progress = {"done": row.step, "total": row.total_steps, "note": sentence}
                set_progress(session, row.job_id, kind="round", **progress)  # type: ignore[arg-type]

    def tell(self, sentence: str) -> None:
        """Say what a person should know of this attempt, in log and page; an empty one takes it
        back from the page."""
        if sentence:
            log.warning(sentence)
        note_remark(self.folder, sentence)

    def on_step(self, record: StepRecord) -> None:
        """Keep a step's metrics; they reach the database within a second."""
        self._records.append(record)
        if record.step % LOG_EVERY == 0:
            right = record.train_ranked_right
            shown = "" if right is None else f", {right:.0%} ranked right"
            log.info("step %d: loss %.3f%s", record.step, record.loss, shown)
        if time.monotonic() - self._flushed_at > FLUSH_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write the metrics gathered since the last time, in one transaction; from any thread.

        What the database does not take now is written the next time.
        """
        with self._writing.bearing():
            self._write_records()

    @persisting
    def flush_all(self) -> None:
        """Write the metrics that are left: there is no next time."""
        self._write_records()

    def _write_records(self) -> None:
        with self._flushing:
            records, self._records = self._records, []
            self._flushed_at = time.monotonic()
            if not records:
                return
            try:
                with self.database.write() as session:
                    for record in records:
                        values = dataclasses.asdict(record)
                        step = values.pop("step")
                        record_metrics(session, self.round_id, self.attempt, step, **values)
                    update_progress(session, self.round_id, self.attempt, step=records[-1].step)
            except Transient:
                self._records[:0] = records
                raise

    def fail(self, sentence: str) -> None:
        """The round has failed, and why; a round that others took over is left alone."""
        try:
            with self.database.write() as session:
                set_state(session, self.round_id, "failed", attempt=self.attempt, failure=sentence)
        except StorageError as error:
            log.warning("the failure could not be written: %s", error)

    @persisting
    def has_samples(self, step: int, count: int) -> bool:
        """Whether all ``count`` pictures of a step are there."""
        with self.database.read() as session:
            found = list_samples(session, self.round_id)
        return sum(sample.step == step for sample in found) >= count

    @persisting
    def keep_samples(
        self, step: int, prompts: Sequence[SamplePrompt], pictures: Sequence[Image.Image]
    ) -> None:
        """Store the pictures drawn at a step, files first."""
        files = FileStore(self.settings.files)
        hashes = [files.put_image(picture) for picture in pictures]
        with self.database.write() as session:
            drawn = zip(prompts, pictures, hashes, strict=True)
            for position, (prompt, picture, sha256) in enumerate(drawn):
                add_sample(
                    session,
                    round_id=self.round_id,
                    attempt=self.attempt,
                    step=step,
                    position=position,
                    prompt_id=prompt.prompt_id,
                    seed=prompt.seed,
                    sha256=sha256,
                    width=picture.width,
                    height=picture.height,
                )

    def keep_snapshot(self, trainer: Trainer) -> None:
        """Publish the present adapter as one that can be kept instead of the last."""
        self._keep(trainer, add_snapshot)

    def keep_adapter(self, trainer: Trainer) -> None:
        """Publish the present adapter as the round's: its folder by rename, then its row."""
        log.info("adapter kept in %s", self._keep(trainer, add_adapter))

    @persisting
    def _keep(self, trainer: Trainer, add: Callable[..., Adapter]) -> str:
        folder = self.folder / "adapters" / f"{trainer.step:06d}"
        sha256 = publish_adapter(trainer, folder)
        relative = folder.relative_to(self.settings.workspace).as_posix()
        policy = trainer.policy
        with self.database.write() as session:
            add(
                session,
                sha256=sha256,
                folder=relative,
                model=policy.pipeline.model,
                rank=policy.rank,
                alpha=policy.alpha,
                step=trainer.step,
                round_id=self.round_id,
                attempt=self.attempt,
            )
        return relative

    def note_timings(self, **seconds: float) -> None:
        """Keep how long parts of the round took, for estimates of later ones."""
        machine = machine_name(self.settings.device, self.settings.threads)
        note_timings(self.folder, machine, **seconds)
