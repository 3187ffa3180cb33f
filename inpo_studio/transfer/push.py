"""A round's adapter as a repository on the Hugging Face Hub, private unless asked otherwise.

The token is the Hub client's own business: it reads HF_TOKEN or what `hf auth login` has kept,
and nothing of it is stored, logged or passed on here.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from inpo_studio.studio import Studio
from inpo_studio.studio.errors import StudioError, WorkError
from inpo_studio.transfer.export_adapter import export_adapter, read_round_adapter
from storage.schema import Round


@dataclass(frozen=True)
class Pushed:
    """What was uploaded, and who can see it."""

    repository: str
    url: str
    private: bool
    files: list[str]


def push_adapter(studio: Studio, round_: Round, repository: str, *, public: bool = False) -> Pushed:
    """Upload all three forms of a round's adapter with a model card; makes the repository.

    One that is there already keeps its visibility. Raises StudioError for what is to be mended
    before anything is sent, WorkError where the Hub refuses or cannot be reached.
    """
    check_repository(repository)
    _check_access()
    title = read_round_adapter(studio, round_).facts.title
    with tempfile.TemporaryDirectory(prefix="inpo-studio-push-") as scratch:
        files = export_adapter(studio, round_, Path(scratch) / "adapter")
        url, private = _upload(repository, Path(scratch) / "adapter", title, public)
    return Pushed(repository, url, private, sorted(path.name for path in files))


def check_repository(repository: str) -> None:
    """Raise StudioError unless this is a full name of a repository."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        if repository.count("/") != 1:
            raise HFValidationError
        validate_repo_id(repository)
    except HFValidationError as error:
        raise StudioError(
            f"'{repository}' is no name of a repository; give OWNER/NAME, with letters, digits, "
            "'-', '_' and '.' only."
        ) from error


def _check_access() -> None:
    from huggingface_hub import get_token
    from huggingface_hub.constants import HF_HUB_OFFLINE

    if HF_HUB_OFFLINE:
        raise StudioError("HF_HUB_OFFLINE is set; unset it to upload to the Hub.")
    if get_token() is None:
        raise StudioError(
            "There is no access token for the Hub; log in with `hf auth login`, or set HF_TOKEN to "
            "one with write access."
        )


def _upload(repository: str, folder: Path, title: str, public: bool) -> tuple[str, bool]:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()
    api = HfApi()
    try:
        made = api.create_repo(repository, private=not public, exist_ok=True, repo_type="model")
        private = bool(api.model_info(repository).private)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message=f"Add {title}")
    except Exception as problem:  # the errors of whatever HTTP library the Hub's client uses
        raise WorkError(_explain(repository, problem)) from problem
    return str(made), private


def _explain(repository: str, problem: Exception) -> str:
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if isinstance(problem, OfflineModeIsEnabled):
        return "The Hub's client is offline; unset HF_HUB_OFFLINE to upload."
    cause: BaseException | None = problem
    while cause is not None and not isinstance(cause, HfHubHTTPError):
        cause = cause.__cause__  # an upload in a thread wraps what went wrong
    status = None if cause is None else cause.response.status_code
    if status == 401:
        return (
            "The Hub does not know this access token; log in again with `hf auth login`, or set "
            "HF_TOKEN to a valid one."
        )
    if status == 403:
        return (
            f"This access token may not write to '{repository}'; use one with write access, and "
            "an owner that is you or an organisation of yours."
        )
    if status == 404:
        return f"The Hub has no owner of '{repository}' that you may write to; check the name."
    if status is not None:
        return f"The Hub refused '{repository}' with the status {status}; try again later."
    return (
        f"The Hub cannot be reached ({type(problem).__name__}); check the connection, and try "
        "again: what is there already is not sent twice."
    )
