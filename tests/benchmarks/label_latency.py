"""How fast labelling is: from the key to the next pair painted, and to the durable choice.

    python -m tests.benchmarks.label_latency [--round] [--presses 100] [--load N] [--out FILE.json]

Chromium presses a key on a page of the studio, in both journal modes of SQLite. With `--round` a
round trains meanwhile on the postcards model, and its worker makes pairs all the while; `--load N`
keeps N processes busy with matrix products at a worker's priority. Times are the browser's own:
`painted` is the first frame after the new pictures are in the page, `durable` the moment the page
shows that all is saved, which it does only after the database has committed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from inpo_studio.jobs.worker import NICENESS
from inpo_studio.processes import step_back
from inpo_studio.settings import Settings
from inpo_studio.studio import open_studio
from tests.benchmarks.training_beside import Moment, copied, prepare, training_beside
from tests.browser.conftest import FLAGS, NAMES
from tests.browser.picking import PICKER, on_screen, rows
from tests.browser.serving import Server, seed_pairs

WARM_UP = 10
PAUSE_MS = 250
_BUSY = """
import numpy as np
a = np.random.rand(512, 512).astype(np.float32)
while True:
    a = a @ a; a /= np.abs(a).max()
"""
_WATCH = """(picker) => {
    const root = document.querySelector(picker);
    const mark = root.querySelector('[data-is=mark]');
    window.figures = [];
    let open = [];
    document.addEventListener('keydown', (event) => {
        if (event.key !== 'ArrowLeft') return;
        const entry = { pressed: event.timeStamp, painted: null, durable: null };
        window.figures.push(entry);
        open.push(entry);
    }, true);
    new MutationObserver(() => {
        const entry = open[open.length - 1];
        if (!entry || entry.painted !== null) return;
        entry.painted = -1;
        requestAnimationFrame(() => {
            const channel = new MessageChannel();
            channel.port1.onmessage = () => { entry.painted = performance.now(); };
            channel.port2.postMessage(null);
        });
    }).observe(root, { attributes: true, attributeFilter: ['data-pair'] });
    new MutationObserver(() => {
        if (mark.dataset.state !== 'saved') return;
        for (const entry of open) entry.durable = performance.now();
        open = [];
    }).observe(mark, { attributes: true, childList: true });
}"""


def press(page: Page, presses: int) -> list[dict[str, float]]:
    """Press the left arrow so often and return the browser's times of each press, in ms."""
    for number in range(WARM_UP + presses):
        if number == WARM_UP:
            page.evaluate("window.figures = []")
        seen = on_screen(page)
        page.keyboard.press("ArrowLeft")
        on_screen(page, other_than=seen.pair)
        page.wait_for_timeout(PAUSE_MS)
    page.wait_for_function("window.figures.every((one) => one.durable !== null)")
    return page.evaluate("window.figures")


def measure(
    journal_mode: Any, presses: int, load: int, prepared: Path | None, keep: Path | None
) -> dict[str, Any]:
    """Label in a workspace of its own and return the figures; a prepared one trains a round."""
    path = next(found for name in NAMES if (found := shutil.which(name)))
    with tempfile.TemporaryDirectory(dir=keep) as folder, contextlib.ExitStack() as ends:
        workspace = Path(folder) / "workspace"
        if prepared is not None:
            copied(prepared, workspace)
        studio = open_studio(Settings(workspace=workspace))
        ends.callback(studio.close)
        before = len(rows(studio))
        seed_pairs(studio, ["a red barn by a lake", "a lighthouse"], presses + WARM_UP + 10)
        server = Server(workspace)
        ends.callback(server.kill)
        server.start(journal_mode)
        playwright = ends.enter_context(sync_playwright())
        page = playwright.chromium.launch(executable_path=path, args=FLAGS).new_page()
        page.goto(server.url)
        on_screen(page)
        page.evaluate(_WATCH, PICKER)
        beside = ends.enter_context(training_beside(studio)) if prepared is not None else None
        ends.enter_context(busy(load))
        begun = beside.moment() if beside is not None else None
        figures = press(page, presses)
        report = {
            "journal_mode": journal_mode,
            "journal_mode_found": found_mode(workspace),
            "presses": len(figures),
            "recorded": len(rows(studio)) - before - WARM_UP,
            "load": load,
            **summary("painted_ms", [one["painted"] - one["pressed"] for one in figures]),
            **summary("durable_ms", [one["durable"] - one["pressed"] for one in figures]),
        }
        if beside is not None and begun is not None:
            report["round"] = meanwhile(begun, beside.moment())
    return report


def meanwhile(begun: Moment, ended: Moment) -> dict[str, Any]:
    """What the training and the making of pairs did while the keys were pressed."""
    seconds = ended.at - begun.at
    return {
        "state": ended.state,
        "seconds": round(seconds, 1),
        "steps": ended.step - begun.step,
        "pairs_made": ended.pairs - begun.pairs,
        "cores_used": round((ended.processor_s - begun.processor_s) / seconds, 2),
    }


def found_mode(workspace: Path) -> str:
    """The journal mode the database is in, whoever opened it."""
    with contextlib.closing(sqlite3.connect(workspace / "studio.db")) as connection:
        return str(connection.execute("PRAGMA journal_mode").fetchone()[0])


@contextlib.contextmanager
def busy(load: int) -> Iterator[None]:
    """Keep so many processes busy with matrix products, as a worker's would be."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    children = [
        subprocess.Popen([sys.executable, "-c", _BUSY], env=environment, start_new_session=True)
        for _ in range(load)
    ]
    for child in children:
        step_back(NICENESS, child.pid)
    time.sleep(1 if load else 0)
    try:
        yield
    finally:
        for child in children:
            child.kill()
            child.wait()


def summary(name: str, values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and largest of some times."""
    cuts = statistics.quantiles(values, n=20, method="inclusive")
    return {
        f"{name}_p50": round(statistics.median(values), 1),
        f"{name}_p95": round(cuts[18], 1),
        f"{name}_max": round(max(values), 1),
    }


def main() -> None:
    """Measure in both journal modes and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--presses", type=int, default=100)
    parser.add_argument("--load", type=int, default=0)
    parser.add_argument("--round", action="store_true")
    parser.add_argument("--modes", default="delete,wal")
    parser.add_argument("--folder", type=Path, help="where the workspaces are made (temporary)")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    report: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average": os.getloadavg(),
    }
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        prepared = Path(folder) / "prepared" if asked.round else None
        if prepared is not None:
            prepare(prepared)
        report["runs"] = [
            measure(mode, asked.presses, asked.load, prepared, asked.folder)
            for mode in asked.modes.split(",")
        ]
    text = json.dumps(report, indent=2)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
