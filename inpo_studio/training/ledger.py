"""The training process's side of the database: what a round needs, and what it reports.

Every write is fenced by the attempt this process was started for: once another attempt owns the
round, the next write raises and the process ends.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
import time
from pathlib import Path

import torch

from inpo_studio.configs import RoundConfig
from inpo_studio.diffusion.adapters import save_adapter
from inpo_studio.settings import Settings
from inpo_studio.training.dataset import FrozenPair
from inpo_studio.training.loop import Request, StepRecord, Trainer
from inpo_studio.training.policy import POLICY
from inpo_studio.training.prepare import ImageSource, RoundInputs
from storage.adapters import add_adapter, get_adapter
from storage.engines import Database, open_database
from storage.errors import StorageError
from storage.files import FileStore
from storage.metrics import drop_metrics_after, record_metrics
from storage.rounds import get_round, round_pairs, set_state, update_progress
from storage.schema import Image, RoundPair, RoundStage
from storage.transitions import WORKED_ON

# A commit is synced to the disk, so the metrics of quick steps are written together.
FLUSH_EVERY_S = 0.7

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

    @staticmethod
    def open(settings: Settings, round_id: str, attempt: int) -> Ledger:
        return Ledger(settings, open_database(settings.database_url), round_id, attempt)

    def close(self) -> None:
        self.database.dispose()

    def inputs(self) -> RoundInputs:
        """Model, configuration, frozen pairs with their files, and the parent's adapter."""
        files = FileStore(self.settings.files)
        with self.database.read() as session:
            row = get_round(session, self.round_id)
            frozen = round_pairs(session, self.round_id)
            parent, parent_sha256 = None, ""
            if row.parent_id is not None:
                before = get_round(session, row.parent_id)
                if before.adapter_id is None:
                    raise ValueError(f"Round {before.number} has no adapter to start from.")
                adapter = get_adapter(session, before.adapter_id)
                parent = self.settings.workspace / adapter.folder
                parent_sha256 = adapter.sha256
            config = RoundConfig.model_validate({**row.config, "seed": row.seed})
        images = {i.id: i for pair in frozen for i in (pair.winner_image, pair.loser_image)}
        return RoundInputs(
            model=row.model,
            config=config,
            pairs=[_frozen(pair) for pair in frozen],
            images={key: _source(files, image) for key, image in images.items()},
            parent=parent,
            parent_sha256=parent_sha256,
            device=self.settings.device,
        )

    def request(self) -> Request | None:
        """What the user has asked of the round since it was started, if anything.

        Raises :class:`Stopped` with "cancel" when another attempt owns the round or it ended.
        """
        with self.database.read() as session:
            row = get_round(session, self.round_id)
            if row.attempt != self.attempt or row.state not in WORKED_ON:
                raise Stopped("cancel")
            return row.requested

    def stage(self, stage: RoundStage) -> None:
        with self.database.write() as session:
            update_progress(session, self.round_id, self.attempt, stage=stage)

    def start_at(self, step: int, total_steps: int) -> None:
        """Training goes on after ``step`` done steps: forget what was measured beyond."""
        with self.database.write() as session:
            drop_metrics_after(session, self.round_id, self.attempt, step)
            update_progress(
                session,
                self.round_id,
                self.attempt,
                stage="train",
                step=step,
                total_steps=total_steps,
            )

    def stop_if_asked(self, *_: object) -> None:
        """Before training there is nothing to keep: pause and cancel end the process at once."""
        request = self.request()
        if request in ("pause", "cancel"):
            raise Stopped(request)

    def on_step(self, record: StepRecord) -> None:
        """Keep a step's metrics; they reach the database within a second."""
        self._records.append(record)
        if time.monotonic() - self._flushed_at > FLUSH_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write the metrics gathered since the last time, in one transaction."""
        records, self._records = self._records, []
        self._flushed_at = time.monotonic()
        if not records:
            return
        with self.database.write() as session:
            for record in records:
                values = dataclasses.asdict(record)
                step = values.pop("step")
                record_metrics(session, self.round_id, self.attempt, step, **values)
            update_progress(session, self.round_id, self.attempt, step=records[-1].step)

    def fail(self, sentence: str) -> None:
        """The round has failed, and why; a round that others took over is left alone."""
        try:
            with self.database.write() as session:
                set_state(session, self.round_id, "failed", attempt=self.attempt, failure=sentence)
        except StorageError as error:
            log.warning("the failure could not be written: %s", error)

    def keep_adapter(self, trainer: Trainer) -> None:
        """Publish the adapter's folder by rename, then its row."""
        policy = trainer.policy
        with torch.no_grad():
            kept = trainer.adapter_tensors()
            for name, parameter in policy.parameters():
                parameter.copy_(kept[name])
        relative = Path("adapters") / self.round_id
        final = self.settings.workspace / relative
        temporary = final.with_name(f".{final.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        facts = {
            "base_model": policy.pipeline.model,
            "objective": trainer.config.objective,
            "steps": str(trainer.step),
        }
        sha256 = save_adapter(policy.pipeline.unet, POLICY, temporary, facts)
        shutil.rmtree(final, ignore_errors=True)
        temporary.replace(final)
        with self.database.write() as session:
            add_adapter(
                session,
                sha256=sha256,
                folder=relative.as_posix(),
                model=policy.pipeline.model,
                rank=policy.rank,
                alpha=policy.alpha,
                step=trainer.step,
                round_id=self.round_id,
                attempt=self.attempt,
            )
        log.info("adapter kept in %s", relative)


def _frozen(pair: RoundPair) -> FrozenPair:
    return FrozenPair(
        pair_id=pair.choice_id,
        prompt=pair.prompt.text,
        winner=pair.winner_image.id,
        loser=pair.loser_image.id,
        preference=pair.preference,
        split=pair.split,
    )


def _source(files: FileStore, image: Image) -> ImageSource:
    latents = None
    if image.latents_sha256 is not None:
        latents = files.path("latents", image.latents_sha256, ".safetensors")
    return ImageSource(latents=latents, picture=files.image_path(image.sha256))
