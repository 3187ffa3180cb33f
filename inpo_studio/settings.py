"""One frozen Settings for every process: flag > environment > studio.toml > default.

The file is `studio.toml` in the workspace; the environment variables are `INPO_STUDIO_` and the
field's name in capitals. An empty variable counts as unset. A model chosen on the page is kept in
the workspace, and comes before studio.toml.
"""

from __future__ import annotations

import ipaddress
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import platformdirs

PREFIX = "INPO_STUDIO_"
EMBEDDED_MODEL = "postcards"
USUAL_VARIATION = 0.67
"""Two thirds of the way from one seed's noise to another's: the same scene with other sizes,
places, colours and light."""
CHOSEN_MODEL_FILE = "model.json"
"""In the workspace: the model that was last chosen on the page."""
_TRUE = {"1", "true", "yes", "on"}
_FALSE = {"0", "false", "no", "off"}


class SettingsError(ValueError):
    """A setting that cannot be used; the message is one sentence that says what to do."""


@dataclass(frozen=True)
class Settings:
    """What one studio process works on. Every field but the workspace has a default."""

    workspace: Path
    """Folder that holds database, pictures, adapters and logs."""
    model: str = EMBEDDED_MODEL
    """`postcards`, a folder, a Hub id or a `.safetensors` file."""
    host: str = "127.0.0.1"
    port: int = 7860
    open_browser: bool = True
    database_url: str = ""
    """SQLAlchemy URL of the studio's tables; empty is `studio.db` in the workspace."""
    jobs_url: str = ""
    """URL of the job engine's tables; empty is `jobs.db`, or the PostgreSQL of database_url."""
    device: str = "auto"
    """`auto`, `cpu`, `mps`, `cuda` or `cuda:N`."""
    worker: bool = True
    """Whether the studio starts a worker; without, another machine's does the work."""
    processes: int = 1
    """Processes that train a round together, one a card; 0 is one for every card there is."""
    threads: int = 0
    """CPU threads of worker and training; 0 is every physical core they may use but one."""
    keep_ready: int = 60
    """Unlabelled pairs that a running worker keeps ready; 0 makes pairs only when asked."""
    variation: float = USUAL_VARIATION
    """How far apart the two pictures of a pair are drawn: 1 gives each a seed of its own, less
    makes the second a variation of the first, so that a choice says more of what was liked."""
    annotator: str = "me"
    """Name under which choices and votes are kept, those of the browser and of `choose`."""
    overlap: bool = False
    """Whether everybody who labels is shown every pair, instead of one person each."""

    def __post_init__(self) -> None:
        database = self.database_url or f"sqlite:///{self.workspace / 'studio.db'}"
        jobs = self.jobs_url
        if not jobs:
            jobs = f"sqlite:///{self.workspace / 'jobs.db'}"
            if database.startswith("postgresql"):
                jobs = database
        object.__setattr__(self, "database_url", database)
        object.__setattr__(self, "jobs_url", jobs)

    @property
    def files(self) -> Path:
        """Root of the files that are stored by the hash of their content."""
        return self.workspace / "files"

    @property
    def logs(self) -> Path:
        """Folder of the child processes' logs."""
        return self.workspace / "logs"

    def to_environment(self) -> dict[str, str]:
        """Return the variables that give a child process the same settings."""
        return {PREFIX + f.name.upper(): str(getattr(self, f.name)) for f in fields(self)}


def default_workspace() -> Path:
    """Return the workspace used when none is named: a folder under the user's data directory."""
    return Path(platformdirs.user_data_dir("inpo-studio", appauthor=False)) / "workspace"


def load_settings(
    flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Combine flags (None counts as not given), environment, studio.toml and defaults.

    Raises SettingsError when a value cannot be read, a name is unknown or a model's path is
    missing.
    """
    environment = os.environ if environment is None else environment
    names = [field.name for field in fields(Settings)]
    given: dict[str, tuple[Any, str]] = {}
    for name in names:
        text = environment.get(PREFIX + name.upper(), "")
        if text:
            given[name] = (text, PREFIX + name.upper())
    for name, value in (flags or {}).items():
        if name in names and value is not None:
            given[name] = (value, "--" + name.replace("_", "-"))
    place = given.get("workspace", (default_workspace(), ""))[0]
    workspace = Path(place).expanduser().resolve()
    chosen = None if "model" in given else chosen_model(workspace)
    if chosen is not None:
        given["model"] = (_still_there(chosen), CHOSEN_MODEL_FILE)
    for name, value in _read_file(workspace / "studio.toml", names).items():
        given.setdefault(name, (value, "studio.toml"))
    values = {name: _read(name, value, source) for name, (value, source) in given.items()}
    values["workspace"] = workspace
    if "model" in values:
        values["model"] = plain_model_name(values["model"])
    return Settings(**values)


def chosen_model(workspace: Path) -> str | None:
    """Return the model that was last chosen on a page of this workspace; None without a choice.

    Raises SettingsError when what is kept cannot be read.
    """
    path = workspace / CHOSEN_MODEL_FILE
    try:
        model = json.loads(path.read_text(encoding="utf-8"))["model"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} cannot be read; delete it, or start with --model.") from error
    return str(model)


def keep_chosen_model(workspace: Path, model: str) -> None:
    """Remember a model for the workspace's next start, whole or not at all."""
    path = workspace / CHOSEN_MODEL_FILE
    made = path.with_suffix(".tmp")
    with made.open("w", encoding="utf-8") as file:
        json.dump({"model": model}, file)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)


def _still_there(model: str) -> str:
    try:
        return plain_model_name(model)
    except SettingsError as error:
        raise SettingsError(
            f"The model {model}, which this workspace was last used with, is not there any more; "
            f"put it back, or start with --model {EMBEDDED_MODEL}."
        ) from error


def _read_file(path: Path, names: list[str]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            found = tomllib.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SettingsError(f"{path} cannot be read ({error.strerror}).") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is not valid TOML: {error}.") from error
    for name in found:
        if name not in names or name == "workspace":
            known = ", ".join(n for n in names if n != "workspace")
            raise SettingsError(f"{path} sets {name!r}, which is unknown; it may set {known}.")
    return found


def _read(name: str, value: Any, source: str) -> Any:
    if name in ("port", "processes", "threads", "keep_ready"):
        return _whole_number(name, value, source)
    if name == "variation":
        return _share(value, source)
    if name in ("open_browser", "overlap", "worker"):
        return _yes_or_no(value, source)
    text = str(value).strip()
    if not text:
        raise SettingsError(f"{source} is empty; give it a value or leave it out.")
    return text


def _whole_number(name: str, value: Any, source: str) -> int:
    most = 65535 if name == "port" else 4096
    try:
        number = int(str(value))
    except ValueError:
        number = -1
    if isinstance(value, bool) or not 0 <= number <= most:
        raise SettingsError(f"{source} must be a whole number from 0 to {most}, not {value!r}.")
    return number


def _share(value: Any, source: str) -> float:
    try:
        number = float(str(value))
    except ValueError:
        number = 0.0
    if isinstance(value, bool) or not 0 < number <= 1:
        raise SettingsError(f"{source} must be a number above 0 and up to 1, not {value!r}.")
    return number


def _yes_or_no(value: Any, source: str) -> bool:
    text = str(value).strip().lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise SettingsError(f"{source} must be true or false, not {value!r}.")


def plain_model_name(model: str) -> str:
    """Return the one name under which a model's pairs and rounds are kept.

    Paths become absolute, so that a model is the same from every folder. A name that looks like
    a path but is not there raises SettingsError.
    """
    if model == EMBEDDED_MODEL:
        return model
    path = Path(model).expanduser()
    if path.exists():
        return str(path.resolve())
    looks_like_path = model.startswith((".", "/", "~", "\\")) or model.endswith(".safetensors")
    if looks_like_path or path.is_absolute():
        raise SettingsError(f"The model {model} is not there; name a folder or a .safetensors.")
    if model.count("/") != 1:
        raise SettingsError(
            f"The model {model!r} is neither 'postcards', a path that exists, nor a Hub id like "
            "owner/name."
        )
    return model


def is_loopback(host: str) -> bool:
    """Say whether an address can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
