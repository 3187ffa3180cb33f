"""Seconds from starting the studio to its first answered request, beside an empty Gradio app's.

    python -m tests.benchmarks.startup [--times 5]

Both are started in turn, in fresh processes; the studio opens a fresh workspace with its worker.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_EMPTY = """
import os, sys
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
import gradio as gr
with gr.Blocks() as demo:
    pass
demo.launch(server_port=int(sys.argv[1]), quiet=True, run_history=False)
"""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def seconds(command: list[str], port: int) -> float:
    """Start a server, wait for its first answer, end it; returns seconds."""
    environment = {**os.environ, "GRADIO_ANALYTICS_ENABLED": "False"}
    begun = time.perf_counter()
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
                    answer.read()
                    return time.perf_counter() - begun
            except OSError:
                if child.poll() is not None:
                    raise SystemExit(f"{command} ended with {child.returncode}.") from None
                time.sleep(0.02)
    finally:
        child.terminate()
        child.wait()


def main() -> None:
    """Time both in turn and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5)
    asked = parser.parse_args()
    empty, studio = [], []
    for number in range(asked.times + 1):
        port = free_port()
        first = seconds([sys.executable, "-c", _EMPTY, str(port)], port)
        port = free_port()
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            command = [sys.executable, "app.py", "--no-browser", "--port", str(port)]
            second = seconds([*command, "--workspace", f"{folder}/workspace"], port)
        if number:  # the first of each warms the file cache
            empty.append(first)
            studio.append(second)
    report = {
        "times": asked.times,
        "empty_s": [round(one, 2) for one in empty],
        "studio_s": [round(one, 2) for one in studio],
        "ratio_of_medians": round(statistics.median(studio) / statistics.median(empty), 2),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
