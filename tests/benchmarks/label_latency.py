"""How fast labelling is: from the key to the next pair painted, and to the durable choice.

    python -m tests.benchmarks.label_latency [--presses 100] [--load 2] [--out FILE.json]

Chromium presses a key on a page of the studio, in both journal modes of SQLite; `--load N` keeps
N processes busy with matrix products meanwhile, at a training's priority. Times are the
browser's own: `painted` is the first frame after the new pictures are in the page, `durable` the
moment the page shows that all is saved, which it does only after the database has committed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from inpo_studio.jobs.worker import NICENESS
from inpo_studio.settings import Settings
from inpo_studio.studio import open_studio
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


def measure(journal_mode: Any, presses: int, load: int) -> dict[str, Any]:
    """Label in a fresh workspace and return the figures."""
    path = next(found for name in NAMES if (found := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder:
        studio = open_studio(Settings(workspace=Path(folder) / "workspace"))
        seed_pairs(studio, ["a red barn by a lake", "a lighthouse"], presses + WARM_UP + 10)
        server = Server(studio.settings.workspace)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        busy: list[subprocess.Popen[bytes]] = []
        try:
            server.start(journal_mode)
            with sync_playwright() as playwright:
                page = playwright.chromium.launch(executable_path=path, args=FLAGS).new_page()
                page.goto(server.url)
                on_screen(page)
                page.evaluate(_WATCH, PICKER)
                for _ in range(load):
                    command = ["nice", "-n", str(NICENESS), sys.executable, "-c", _BUSY]
                    busy.append(subprocess.Popen(command, env=environment))
                time.sleep(1 if load else 0)
                figures = press(page, presses)
            recorded = len(rows(studio))
        finally:
            for child in busy:
                child.kill()
                child.wait()
            server.kill()
            studio.close()
    return {
        "journal_mode": journal_mode,
        "presses": len(figures),
        "recorded": recorded - WARM_UP,
        "load": load,
        **summary("painted_ms", [one["painted"] - one["pressed"] for one in figures]),
        **summary("durable_ms", [one["durable"] - one["pressed"] for one in figures]),
    }


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
    parser.add_argument("--load", type=int, default=2)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    report = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_average": os.getloadavg(),
        "runs": [measure(mode, asked.presses, asked.load) for mode in ("delete", "wal")],
    }
    text = json.dumps(report, indent=2)
    if asked.out:
        asked.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
