"""The use-cases: what a person does, whether on a page or in a terminal. No torch, no Gradio."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from inpo_studio.engine import Engine
from inpo_studio.settings import Settings
from inpo_studio.studio.errors import StudioError
from storage.engines import Database, open_database
from storage.files import FileStore
from storage.migrate import migrate


@dataclass(eq=False)
class Studio:
    """An open workspace: where its rows, files and jobs are."""

    settings: Settings
    """Only the model in it ever changes, by `renew`; read it anew for every piece of work."""
    database: Database
    files: FileStore
    engine: Engine
    on_renewed: list[Callable[[Settings], None]] = field(default_factory=list)
    """Told of the new settings, like the supervisor of a worker that was started with others."""

    def renew(self, settings: Settings) -> None:
        """Go on with other settings of the same workspace."""
        self.settings = settings
        for tell in self.on_renewed:
            tell(settings)

    def close(self) -> None:
        """Let go of the database's connections."""
        self.engine.close()
        self.database.dispose()


def open_studio(settings: Settings) -> Studio:
    """Open a workspace, making or upgrading it where needed.

    Raises StudioError when the folder cannot be made, StorageError when the database cannot be
    used.
    """
    try:
        settings.workspace.mkdir(parents=True, exist_ok=True)
        settings.logs.mkdir(exist_ok=True)
        settings.files.mkdir(exist_ok=True)
    except OSError as error:
        raise StudioError(
            f"The workspace {settings.workspace} cannot be written ({error.strerror}); choose "
            "another with --workspace."
        ) from error
    database = open_database(settings.database_url)
    try:
        migrate(database)
        engine = Engine(settings)
        engine.prepare()
    except BaseException:
        database.dispose()
        raise
    return Studio(settings, database, FileStore(settings.files), engine)
