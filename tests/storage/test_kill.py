"""Acknowledged choices survive `kill -9` of the process that wrote them."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from itertools import count

import pytest
from sqlalchemy import select, text

from storage.engines import Database, open_database
from storage.schema import Choice, Pair
from tests.storage.rows import a_choice, a_pair, a_prompt

KILLS = 20
PAIRS = 20

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="forks and sends SIGKILL")


def label(url: str, start: int, acknowledged: int) -> None:
    """What the writing process does: choose on pair after pair, say each after its commit."""
    database = open_database(url)
    with database.read() as session:
        pairs = list(session.scalars(select(Pair).order_by(Pair.position)))
    for number in count(start):
        lap, place = divmod(number, PAIRS)
        with database.write() as session:
            a_choice(session, pairs[place], key=f"click-{number}", annotator=f"ann-{lap}")
        os.write(acknowledged, b".")


def run_and_kill(url: str, start: int, after: int, delay_s: float) -> int:
    """Label from pair `start`, kill after so many acknowledgements; returns how many came."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            label(url, start, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as stream:
        received = 0
        while received < after and (got := stream.read(1)):
            received += len(got)
        time.sleep(delay_s)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        while got := stream.read(64):  # said before it died
            received += len(got)
    assert os.WIFSIGNALED(status), "the process ended by itself"
    return received


def test_no_acknowledged_choice_is_lost(database: Database) -> None:
    with database.write() as session:
        prompt = a_prompt(session)
        for _ in range(PAIRS):
            a_pair(session, prompt)
    database.dispose()  # nothing open is shared with the forked processes
    chance = random.Random(5)
    acknowledged = unsaid = 0
    for _ in range(KILLS):
        acknowledged += run_and_kill(
            database.url, acknowledged, chance.randrange(1, 5), chance.random() * 0.02
        )
        with database.read() as session:
            keys = set(session.scalars(select(Choice.key)))
        database.dispose()
        missing = {f"click-{number}" for number in range(acknowledged)} - keys
        assert not missing
        # at most the one under way was committed and not said; its click is sent again
        assert len(keys) - acknowledged in (0, 1)
        unsaid += len(keys) - acknowledged
    print(f"{KILLS} kills, {acknowledged} acknowledged, {unsaid} committed but not said")
    with database.read() as session:
        positions = sorted(session.scalars(select(Choice.position)))
        assert positions == list(range(1, len(positions) + 1))
        assert acknowledged >= KILLS
        if database.path:
            assert session.execute(text("PRAGMA integrity_check")).scalar() == "ok"
