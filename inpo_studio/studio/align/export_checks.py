"""The round trip of exported adapters: asked of the worker, and what it found.

A check loads a file with plain diffusers and compares pictures with those that the studio draws
with the round's own adapter.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, ValidationError

from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError
from storage.files import write_durably
from storage.schema import Round

KIND = "check"
ROUNDING = 1
"""Of 255: what two ways of computing the same may differ by."""
FORM_NAMES = {"diffusers": "plain diffusers", "peft": "plain PEFT", "kohya": "plain diffusers"}
_LOST = "The check was lost; ask for it again."


class CheckItem(BaseModel):
    """A file, or with `peft` a folder, to be checked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    form: Literal["diffusers", "peft", "kohya"]
    path: str
    """Absolute, or within the workspace."""
    report: str = ""
    """A file in the workspace that takes the result; empty is none."""


class CheckPayload(BaseModel):
    """What a `check` job is told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    round_id: str
    items: list[CheckItem]


class CheckResult(BaseModel):
    """What a check found."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    form: Literal["diffusers", "peft", "kohya"]
    pictures: int
    difference: int
    """Largest of any pixel's channel, of 255, against the studio's own pictures."""
    effect: int
    """Largest difference between the studio's own pictures with and without the adapter."""
    failure: str = ""
    """Why the file could not be loaded; empty where it could."""

    @property
    def passed(self) -> bool:
        """Whether the file draws what the round's adapter draws."""
        return not self.failure and self.difference <= ROUNDING

    @property
    def sentence(self) -> str:
        """The result for a person."""
        by = FORM_NAMES[self.form]
        if self.failure:
            return f"Does not load in {by}: {self.failure}"
        found = f"pictures differ by at most {self.difference}/255"
        if not self.passed:
            return f"Loads in {by}, but {found}, which is more than rounding; use another form."
        if self.effect <= ROUNDING:
            return (
                f"Loads in {by}: {found}. The adapter hardly changes these {self.pictures} "
                "pictures, so that says little."
            )
        return f"Loads in {by}: {found}, where the adapter changes them by up to {self.effect}."


@dataclass(frozen=True)
class CheckState:
    """Where a check stands."""

    state: Literal["none", "waiting", "working", "passed", "failed"]
    sentence: str = ""


def request_check(studio: Studio, round_: Round, items: Sequence[CheckItem]) -> str:
    """Ask the worker to check exported files of a round; returns the job's id."""
    if round_.adapter_id is None:
        raise StudioError(f"Round {round_.number} has no adapter; check one that is done.")
    job_id = uuid4().hex
    for item in items:
        if item.report:
            note(studio.settings.workspace / item.report, {"job_id": job_id})
    payload = CheckPayload(round_id=round_.id, items=list(items))
    studio.engine.enqueue(KIND, payload.model_dump(), job_id=job_id)
    return job_id


def note(report: Path, found: dict[str, Any]) -> None:
    """Write what is known of a check, whole or not at all."""
    write_durably(report, json.dumps(found, sort_keys=True).encode("utf-8"))


def check_state(studio: Studio, report: Path) -> CheckState:
    """Read where the check that writes to `report` stands."""
    try:
        found = json.loads(report.read_text("utf-8"))
        job_id = str(found["job_id"])
        if "result" in found:
            result = CheckResult.model_validate(found["result"])
            return CheckState("passed" if result.passed else "failed", result.sentence)
    except FileNotFoundError:
        return CheckState("none")
    except (OSError, ValueError, KeyError, TypeError, ValidationError):
        return CheckState("failed", _LOST)
    job = studio.engine.find(job_id)
    if job is None or job.state in ("done", "cancelled"):
        return CheckState("failed", _LOST)
    if job.state == "failed":
        return CheckState("failed", job.error or _LOST)
    if job.state == "running":
        return CheckState("working", "Being checked.")
    return CheckState("waiting", "Waits for the worker.")
