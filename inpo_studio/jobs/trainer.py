"""The training process of a round, seen from the worker: started, watched, and its end read."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inpo_studio.processes import spawn, stop, thread_environment
from inpo_studio.settings import Settings

POLL_S = 0.2
LOG_LINES = 8
OOM_SCORE = 500
"""On Linux the training is the first to go when memory runs out, not the studio."""

Ending = Literal["done", "paused", "cancelled", "failed", "died"]
_EXITS: dict[int, Ending] = {0: "done", 3: "paused", 4: "cancelled", 5: "failed"}
_KERNEL_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


@dataclass(frozen=True)
class TrainerEnd:
    """How a training process ended, and one sentence about it where it went wrong."""

    ending: Ending
    sentence: str = ""


def train(settings: Settings, round_id: str, attempt: int, watch: Callable[[], None]) -> TrainerEnd:
    """Run the training process of one attempt to its end.

    `watch` is called a few times a second; when it raises, the process is stopped first.
    """
    log_path = settings.logs / f"round-{round_id}.log"
    killed_before = _out_of_memory_kills()
    child = spawn(
        command(settings, round_id, attempt), log_path=log_path, env=_environment(settings)
    )
    with contextlib.suppress(OSError):
        Path(f"/proc/{child.pid}/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")
    try:
        while True:
            try:
                code = child.wait(POLL_S)
                break
            except subprocess.TimeoutExpired:
                watch()
    finally:
        stop(child, grace_s=2.0)
    if code in _EXITS:
        return TrainerEnd(_EXITS[code], last_lines(log_path) if code == 5 else "")
    out_of_memory = code == -9 and _rises(_out_of_memory_kills, killed_before)
    return TrainerEnd("died", _death(code, out_of_memory, log_path))


def command(settings: Settings, round_id: str, attempt: int) -> list[str]:
    """Return the command line of a round's training process."""
    return [
        sys.executable,
        "-m",
        "inpo_studio.training.round",
        "--workspace",
        str(settings.workspace),
        "--round",
        round_id,
        "--attempt",
        str(attempt),
    ]


def last_lines(log_path: Path, count: int = LOG_LINES) -> str:
    """Return the end of a log, or an empty text."""
    try:
        with log_path.open("rb") as stream:
            stream.seek(max(0, log_path.stat().st_size - 4096))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return "\n".join(deque((line for line in lines if line.strip()), count))


def _environment(settings: Settings) -> dict[str, str]:
    return {**settings.to_environment(), **thread_environment(settings.threads)}


def _death(code: int, out_of_memory: bool, log_path: Path) -> str:
    if out_of_memory:
        why = (
            "The system ended the training because memory ran out; "
            "use a smaller micro_batch_pairs, or close other programs."
        )
    elif code < 0:
        why = f"The training was ended by signal {-code} ({_signal_name(-code)})."
    else:
        why = f"The training ended by itself with exit code {code}."
    lines = last_lines(log_path)
    return f"{why} The end of its log:\n{lines}" if lines else why


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unknown"


def _out_of_memory_kills() -> int:
    """How many processes the kernel has ended for want of memory; 0 where it does not say."""
    total = 0
    for path in _KERNEL_COUNTERS:
        with contextlib.suppress(OSError, ValueError):
            for line in path.read_text(encoding="ascii").splitlines():
                if line.startswith("oom_kill "):
                    total += int(line.split()[1])
    return total


def _rises(counter: Callable[[], int], before: int, within_s: float = 0.5) -> bool:
    """The kernel counts a moment after the process is gone."""
    deadline = time.monotonic() + within_s
    while counter() <= before:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
