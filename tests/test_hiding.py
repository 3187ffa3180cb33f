"""No log of any process of this package holds an access token."""

from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest

import inpo_studio
from inpo_studio.hiding import HIDDEN, hide, hide_in_logs

TOKEN = "hf_" + "SecretSecretSecretSecretSecret42"


@pytest.fixture
def written() -> tuple[logging.Logger, io.StringIO]:
    stream = io.StringIO()
    logger = logging.getLogger("somebody.elses.library")
    logger.handlers = [logging.StreamHandler(stream)]
    logger.propagate = False
    return logger, stream


def test_messages_arguments_and_tracebacks(written: tuple[logging.Logger, io.StringIO]) -> None:
    assert inpo_studio.__version__
    logger, stream = written
    logger.warning("Authorization: Bearer %s", TOKEN)
    logger.warning("Authorization: Bearer " + TOKEN)
    try:
        raise ValueError(f"bad header {TOKEN}")
    except ValueError:
        logger.exception("it failed")
    logger.warning("%d of %d", 1, 2)
    said = stream.getvalue()
    assert TOKEN not in said
    assert said.count(HIDDEN) >= 3
    assert "ValueError: bad header" in said
    assert "1 of 2" in said


def test_tokens_of_another_look_are_known_by_their_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_TOKEN", "organisation-token-7")
    assert hide("with organisation-token-7 in it") == f"with {HIDDEN} in it"
    monkeypatch.setenv("HF_TOKEN", "a")
    assert hide("a plain sentence") == "a plain sentence"


def test_installing_again_changes_nothing() -> None:
    before = logging.getLogRecordFactory()
    hide_in_logs()
    assert logging.getLogRecordFactory() is before


@pytest.mark.parametrize("process", ["inpo_studio.jobs.worker", "inpo_studio.training.round"])
def test_every_process_hides_them(process: str) -> None:
    code = (
        f"import logging, {process}\n"
        "logging.basicConfig(level=logging.INFO)\n"
        f"logging.getLogger('x').info('%s', '{TOKEN}')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended.stderr
    assert TOKEN not in ended.stderr
    assert HIDDEN in ended.stderr
