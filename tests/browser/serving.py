"""A studio's pages in a process of their own, without a worker: `python -m tests.browser.serving`.

The pictures of its pairs are drawn from random numbers, so no model is needed.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from inpo_studio.settings import Settings
from inpo_studio.studio import Studio, open_studio
from storage.engines import open_database
from storage.images import add_image
from storage.pairs import add_pair
from storage.prompts import add_prompts
from storage.schema import Pair

ROOT = Path(__file__).resolve().parents[2]
SIDE = 128


def draw(seed: int) -> Image.Image:
    """A soft picture of random colours, another one for every seed."""
    rng = np.random.default_rng(seed)
    small = rng.integers(30, 230, size=(4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def seed_pairs(studio: Studio, texts: list[str], count: int) -> list[Pair]:
    """Add pairs, the prompts in turn, as a worker would."""
    hashes = [studio.files.put_image(draw(number)) for number in range(2 * count)]
    with studio.database.write() as session:
        prompts = add_prompts(session, texts, source="own", kind="label")
        made = []
        for index in range(count):
            prompt = prompts[index % len(prompts)]
            images = [
                add_image(
                    session,
                    sha256=hashes[2 * index + side],
                    width=SIDE,
                    height=SIDE,
                    prompt_id=prompt.id,
                    seed=2 * index + side,
                    model=studio.settings.model,
                    adapter_id=None,
                    guidance=3.0,
                    steps=20,
                )
                for side in (0, 1)
            ]
            made.append(
                add_pair(
                    session,
                    prompt_id=prompt.id,
                    first_image_id=images[0].id,
                    second_image_id=images[1].id,
                )
            )
    return made


class Server:
    """The web process on one port, which can be killed and started again."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._child: subprocess.Popen[bytes] | None = None

    def start(self, journal_mode: str = "auto") -> None:
        """Start it and wait until it answers."""
        path = self.workspace.parent / "server.log"
        command = [sys.executable, "-m", "tests.browser.serving"]
        with path.open("ab") as log:
            self._child = subprocess.Popen(
                [*command, str(self.workspace), str(self.port), journal_mode],
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 120
        while True:
            try:
                with urllib.request.urlopen(self.url, timeout=5) as answer:
                    assert answer.status == 200
                    return
            except OSError:
                assert self._child.poll() is None, path.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)

    def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._child is not None:
            self._child.send_signal(signal.SIGKILL)
            self._child.wait()
            self._child = None


def main(workspace: str, port: str, journal_mode: Any = "auto") -> None:
    """Serve the pages of a workspace; the port stays the same over restarts."""
    from inpo_studio.ui.address import listen
    from inpo_studio.ui.server import run

    settings = Settings(workspace=Path(workspace), port=int(port), open_browser=False, device="cpu")
    studio = open_studio(settings)
    database = open_database(settings.database_url, journal_mode=journal_mode)
    with listen(settings.host, settings.port) as listener:
        run(replace(studio, database=database), listener, lambda url: None)


if __name__ == "__main__":
    main(*sys.argv[1:])
