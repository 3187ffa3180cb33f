"""Exports that a browser fetches: made once, kept in the round's folder, and checked there.

`rounds/ID/exports/FORM-KEY/` holds `files/`, as another program loads them, what is sent, and the
result of the check. The key changes with the weights that are used, and with the blind votes,
which stand in the name and in the card; what an older key made is removed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

from inpo_studio import __version__
from inpo_studio.studio import Studio
from inpo_studio.studio.align.export_checks import CheckItem
from inpo_studio.studio.errors import StudioError
from inpo_studio.transfer.adapters import Form
from inpo_studio.transfer.export_adapter import (
    CARD_FILE,
    RoundAdapter,
    read_round_adapter,
    write_folder,
)
from inpo_studio.transfer.folders import new_folder
from storage.schema import Round

REPORT = "check.json"
_FILES = "files"
_making = threading.Lock()


@dataclass(frozen=True)
class Handout:
    """An export that is ready to be sent."""

    form: Form
    path: Path
    """What is sent: the kohya form's one file, or a zip archive of the folder."""
    card: Path
    folder: Path

    @property
    def name(self) -> str:
        """Name of the file for the one who keeps it."""
        return self.path.name

    @property
    def report(self) -> Path:
        """Where the result of its check is."""
        return self.folder / REPORT

    def as_item(self, workspace: Path) -> CheckItem:
        """What a check of it is asked with."""
        files = self.folder / _FILES
        loaded = files if self.form == "peft" else files / _loaded(files)
        return CheckItem(
            form=self.form,
            path=loaded.relative_to(workspace).as_posix(),
            report=self.report.relative_to(workspace).as_posix(),
        )


def hand_out(studio: Studio, round_: Round, form: Form) -> Handout:
    """Make a form of a round's adapter ready, or find it; StudioError where there is none."""
    found = read_round_adapter(studio, round_)
    home = _home(studio, round_)
    with _making:
        folder = home / f"{form}-{_key(found)}"
        if not folder.is_dir():
            _make(found, folder, form)
            for older in home.glob(f"{form}-*"):
                if older != folder:
                    shutil.rmtree(older, ignore_errors=True)
    return _in(folder, form)


def ready(studio: Studio, round_: Round, form: Form) -> Handout | None:
    """The export that was made last, without making one; None without any."""
    folders = sorted(_home(studio, round_).glob(f"{form}-*"), key=lambda at: at.stat().st_mtime)
    return _in(folders[-1], form) if folders else None


def _home(studio: Studio, round_: Round) -> Path:
    return studio.settings.workspace / "rounds" / round_.id / "exports"


def _key(found: RoundAdapter) -> str:
    facts = found.facts
    trial = None if facts.trial is None else asdict(facts.trial)
    said = json.dumps([__version__, facts.sha256, trial, found.file_name], sort_keys=True)
    return hashlib.sha256(said.encode("utf-8")).hexdigest()[:12]


def _make(found: RoundAdapter, folder: Path, form: Form) -> None:
    with new_folder(folder) as scratch:
        files = scratch / _FILES
        files.mkdir()
        write_folder(found, files, (form,))
        if form != "kohya":
            name = f"{found.file_name}-{form}"
            _pack(files, scratch / f"{name}.zip", name, found.facts.made.timetuple()[:6])


def _pack(files: Path, target: Path, inner: str, made: tuple[int, ...]) -> None:
    """An archive of equal bytes for equal files; weights hardly shrink, so nothing is packed."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(files.iterdir()):
            entry = zipfile.ZipInfo(f"{inner}/{path.name}", made)  # type: ignore[arg-type]
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as into, path.open("rb") as stream:
                shutil.copyfileobj(stream, into, 2**20)


def _in(folder: Path, form: Form) -> Handout:
    files = folder / _FILES
    sent = sorted(folder.glob("*.zip"))
    path = files / _loaded(files) if form == "kohya" else sent[0] if sent else folder
    if not path.is_file():
        raise StudioError(f"{folder} is damaged; delete this folder and export again.")
    return Handout(form, path, files / CARD_FILE, folder)


def _loaded(files: Path) -> str:
    """The name of the one file of weights."""
    return next((path.name for path in sorted(files.glob("*.safetensors"))), "")
