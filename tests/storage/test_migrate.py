from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text

from storage import migrate as migration
from storage.comparisons import list_comparisons
from storage.engines import Database, open_database
from storage.errors import NewerSchema, StorageError
from storage.migrate import current_revision, head_revision, migrate
from storage.rounds import get_round
from storage.schema import Base, Choice, Image
from storage.trials import get_trial
from tests.storage.rows import a_choice, a_pair

NEXT = """
import sqlalchemy as sa
from alembic import op

revision = "9998"
down_revision = "0005"
branch_labels = depends_on = None


def upgrade() -> None:
    recreate = "always" if op.get_bind().dialect.name == "sqlite" else "never"
    with op.batch_alter_table("pairs", recreate=recreate) as table:
        table.add_column(sa.Column("note", sa.Text(), nullable=True))
"""


TIME = "'2026-01-01 00:00:00+00:00'"
STATE = f"'queued', NULL, 0, 0, NULL, 0, NULL, NULL, NULL, {TIME}, NULL, NULL"
IMAGE = f"'h', 8, 8, 'p', 7, 'm', NULL, 3, 20, '', NULL, {TIME}"
FIRST_SCHEMA_ROWS = [
    f"INSERT INTO prompts VALUES ('p', 'a house', 'held_out', 'own', 1, {TIME})",
    f"INSERT INTO rounds VALUES ('r', 1, 'm', NULL, '{{}}', 1, {STATE})",
    f"INSERT INTO images VALUES ('a', {IMAGE}), ('b', {IMAGE})",
    f"INSERT INTO comparisons VALUES ('c', 'r', NULL, 'p', 7, 'a', 'b', 1.0, 1, {TIME})",
]


class Only:
    """Alembic's commands of a version that knew no later schema than this one."""

    def __init__(self, revision: str) -> None:
        self.revision = revision

    def upgrade(self, config: Any, revision: str) -> None:
        command.upgrade(config, self.revision)


def described(connection: Connection) -> dict[str, Any]:
    """Columns and constraints with names, of all tables but Alembic's."""
    found: dict[str, Any] = {}
    reader = inspect(connection)
    for table in reader.get_table_names():
        if table != "alembic_version":
            indexes: list[Any] = [*reader.get_indexes(table)]
            for index in indexes:  # the condition of a partial index
                options = index.pop("dialect_options", {})
                index["options"] = {name: str(value) for name, value in options.items()}
            parts: list[list[Any]] = [
                [{**column, "type": str(column["type"])} for column in reader.get_columns(table)],
                reader.get_check_constraints(table),
                reader.get_unique_constraints(table),
                reader.get_foreign_keys(table),
                [reader.get_pk_constraint(table)],
                indexes,
            ]
            found[table] = [sorted(map(repr, part)) for part in parts]
    return found


def test_the_migrations_make_exactly_the_tables_of_the_schema(database: Database) -> None:
    with database.reader.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []
        migrated = described(connection)
    with database.writer.begin() as connection:
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
    with database.reader.connect() as connection:
        assert described(connection) == migrated


def test_every_constraint_has_a_name() -> None:
    for table in Base.metadata.tables.values():
        assert all(constraint.name for constraint in table.constraints), table.name


def test_migrating_twice_changes_nothing(database: Database) -> None:
    assert current_revision(database) == head_revision()
    assert migrate(database) is None


def test_processes_may_migrate_at_once(database_url: str) -> None:
    failures: list[BaseException] = []

    def start() -> None:
        database = open_database(database_url)
        try:
            migrate(database)
        except BaseException as error:
            failures.append(error)
        database.dispose()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_newer_schema_is_refused_and_left_alone(database: Database) -> None:
    with database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num='9999'"))
    before = database.path.read_bytes() if database.path else b""
    with pytest.raises(NewerSchema, match=r"newer version \(schema 9999.*update the program"):
        migrate(database)
    assert current_revision(database) == "9999"
    assert before == (database.path.read_bytes() if database.path else b"")


def test_tables_of_another_program_are_refused(database_url: str) -> None:
    database = open_database(database_url)
    with database.write() as session:
        session.execute(text("CREATE TABLE customers (id INTEGER)"))
    with pytest.raises(StorageError, match="another program"):
        migrate(database)
    database.dispose()


@pytest.fixture
def scripts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The migrations with one more that rebuilds a table which others name."""
    copy = tmp_path / "migrations"
    shutil.copytree(migration.SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "versions" / "9998_next.py").write_text(NEXT)
    monkeypatch.setattr(migration, "SCRIPTS", copy)
    return copy


@pytest.fixture
def labelled(database: Database) -> Database:
    with database.write() as session:
        a_choice(session, a_pair(session))
    return database


def left_at(revision: str, url: str, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A new database as a version that knew no later schema left it."""
    database = open_database(url)
    with monkeypatch.context() as patched:
        patched.setattr(migration, "command", Only(revision))
        migrate(database)
    assert current_revision(database) == revision
    return database


def test_a_workspace_of_the_first_schema_keeps_its_comparisons(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = left_at("0001", database_url, monkeypatch)
    with database.write() as session:
        for statement in FIRST_SCHEMA_ROWS:
            session.execute(text(statement))
    migrate(database)
    assert current_revision(database) == head_revision()
    with database.read() as session:
        (found,) = list_comparisons(session, base_round_id=None)
        assert (found.seed, found.base_round_id, found.scale) == (7, None, 1.0)
        assert get_round(session, "r").selection is None
    database.dispose()


def test_pictures_from_before_say_what_their_adapter_was_on(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = left_at("0004", database_url, monkeypatch)
    image = (
        "INSERT INTO images (id, sha256, width, height, prompt_id, seed, model, adapter_id, "
        "guidance, steps, negative_prompt, created_at) VALUES"
    )
    trial = (
        "INSERT INTO trials (id, model, round_id, scale, generation, planned, position, created_at)"
    )
    rows = [
        FIRST_SCHEMA_ROWS[0],
        f"INSERT INTO rounds VALUES ('r', 1, 'm', NULL, '{{}}', 1, {STATE}, NULL)",
        f"INSERT INTO adapters VALUES ('x', 's', 'f', 'r', 'm', 8, 8.0, 80, {TIME})",
        f"{image} ('base', 'h', 8, 8, 'p', 7, 'm', NULL, 3, 20, '', {TIME})",
        f"{image} ('aligned', 'h', 8, 8, 'p', 7, 'm', 'x', 3, 20, '', {TIME})",
        f"{trial} VALUES ('t', 'm', 'r', 1, '{{\"steps\": 9}}', 20, 1, {TIME})",
    ]
    with database.write() as session:
        for statement in rows:
            session.connection().exec_driver_sql(statement)
    migrate(database)
    with database.read() as session:
        found = {image.id: image.adapter_on for image in session.scalars(select(Image))}
        assert found == {"base": None, "aligned": "both"}
        assert get_trial(session, "t").generation == {"steps": 9, "adapter_on": "both"}
    database.dispose()


def test_rebuilding_a_table_keeps_what_names_it(labelled: Database, scripts: Path) -> None:
    backup = migrate(labelled)
    assert current_revision(labelled) == "9998"
    with labelled.read() as session:
        assert session.execute(text("SELECT count(*) FROM choices")).scalar() == 1
        assert session.execute(text("SELECT count(*) FROM pairs")).scalar() == 1
    assert (backup is None) == (labelled.path is None)
    if labelled.path:
        with labelled.writer.connect() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1


def test_a_backup_is_made_before_an_existing_file_changes(
    sqlite_database: Database, scripts: Path
) -> None:
    with sqlite_database.write() as session:
        a_choice(session, a_pair(session))
    backup = migrate(sqlite_database)
    assert backup is not None
    with sqlite3.connect(backup) as copy:
        assert copy.execute("SELECT version_num FROM alembic_version").fetchone() == ("0005",)
        assert copy.execute("SELECT count(*) FROM choices").fetchone() == (1,)
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    copy.close()


def test_a_migration_that_fails_leaves_everything_as_it_was(
    labelled: Database, scripts: Path
) -> None:
    broken = NEXT + '    raise RuntimeError("broken on purpose")\n'
    (scripts / "versions" / "9998_next.py").write_text(broken)
    with labelled.reader.connect() as connection:
        before = described(connection)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        migrate(labelled)
    assert current_revision(labelled) == "0005"
    with labelled.reader.connect() as connection:
        assert described(connection) == before
    with labelled.read() as session:
        assert session.query(Choice).count() == 1


def test_storage_loads_no_heavy_library() -> None:
    program = (
        "import sys, storage.migrate, storage.model_states, storage.metrics, storage.progress,"
        "storage.comparisons, storage.adapters\n"
        "print(sorted({'torch', 'numpy', 'inpo_studio', 'gradio'} & set(sys.modules)))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"
