"""Settings: which source wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from inpo_studio.settings import Settings, SettingsError, is_loopback, load_settings


def test_defaults_lie_in_the_workspace(tmp_path: Path) -> None:
    settings = load_settings({"workspace": tmp_path}, {})
    assert settings == Settings(workspace=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/studio.db"
    assert settings.jobs_url == f"sqlite:///{tmp_path}/jobs.db"
    assert settings.model == "postcards"


def test_flag_beats_variable_beats_file_beats_default(tmp_path: Path) -> None:
    (tmp_path / "studio.toml").write_text('port = 1\nhost = "localhost"\nthreads = 3\n')
    environment = {
        "INPO_STUDIO_WORKSPACE": str(tmp_path),
        "INPO_STUDIO_PORT": "2",
        "INPO_STUDIO_HOST": "127.0.0.2",
    }
    settings = load_settings({"port": 3, "host": None, "other": 1}, environment)
    assert (settings.port, settings.host, settings.threads) == (3, "127.0.0.2", 3)


def test_overlap_is_off_unless_asked_for(tmp_path: Path) -> None:
    workspace = {"workspace": tmp_path, "overlap": None}
    assert not load_settings(workspace, {}).overlap
    (tmp_path / "studio.toml").write_text('overlap = true\nannotator = "Ada"\n')
    assert load_settings(workspace, {}).overlap
    assert load_settings(workspace, {}).annotator == "Ada"
    assert not load_settings(workspace, {"INPO_STUDIO_OVERLAP": "no"}).overlap
    assert load_settings({**workspace, "overlap": True}, {"INPO_STUDIO_OVERLAP": "no"}).overlap


def test_a_child_gets_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(
        workspace=tmp_path, model="a/b", open_browser=False, threads=2, port=0, overlap=True
    )
    assert load_settings({}, settings.to_environment()) == settings


def test_an_empty_variable_is_unset(tmp_path: Path) -> None:
    settings = load_settings({"workspace": tmp_path}, {"INPO_STUDIO_DATABASE_URL": ""})
    assert settings.database_url.startswith("sqlite")


def test_jobs_share_a_postgresql_database(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path, database_url="postgresql://host/name")
    assert settings.jobs_url == "postgresql://host/name"


@pytest.mark.parametrize(
    ("environment", "file", "word"),
    [
        ({"INPO_STUDIO_PORT": "http"}, "", "INPO_STUDIO_PORT"),
        ({"INPO_STUDIO_THREADS": "-1"}, "", "INPO_STUDIO_THREADS"),
        ({"INPO_STUDIO_OPEN_BROWSER": "perhaps"}, "", "INPO_STUDIO_OPEN_BROWSER"),
        ({"INPO_STUDIO_OVERLAP": "perhaps"}, "", "INPO_STUDIO_OVERLAP"),
        ({"INPO_STUDIO_VARIATION": "0"}, "", "INPO_STUDIO_VARIATION"),
        ({"INPO_STUDIO_VARIATION": "nan"}, "", "above 0 and up to 1"),
        ({}, "variation = 1.5", "studio.toml"),
        ({}, "variation = true", "studio.toml"),
        ({}, 'annotator = " "', "studio.toml"),
        ({"INPO_STUDIO_MODEL": "./nowhere"}, "", "nowhere"),
        ({"INPO_STUDIO_MODEL": "a/b/c"}, "", "a/b/c"),
        ({"INPO_STUDIO_MODEL": "x.safetensors"}, "", "x.safetensors"),
        ({}, "colour = 1", "colour"),
        ({}, "port = ", "TOML"),
        ({}, "port = true", "studio.toml"),
        ({}, 'model = ""', "studio.toml"),
    ],
)
def test_refusals_name_the_source(
    tmp_path: Path, environment: dict[str, str], file: str, word: str
) -> None:
    (tmp_path / "studio.toml").write_text(file)
    with pytest.raises(SettingsError, match=word):
        load_settings({"workspace": tmp_path}, environment)


def test_a_models_folder_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    names = {load_settings({"model": name}, {}).model for name in ("./model", "model", "model/")}
    assert names == {str(tmp_path / "model")}


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("localhost", True), ("::1", True), ("0.0.0.0", False), ("a.b", False)],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
