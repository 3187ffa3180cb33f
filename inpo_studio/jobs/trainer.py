"""The training process of a round, seen from the worker: started, watched, and its end read."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inpo_studio.jobs.launching import command, environment, processes_of, stop_all
from inpo_studio.processes import spawn, step_back
from inpo_studio.settings import Settings
from inpo_studio.studio.logs import round_log_path

POLL_S = 0.2
LEAVE_S = 2.0
"""How long a training that is told to go may take to save what it has learnt."""
NICENESS = 7
"""A training goes after everything that a person waits for, pairs to label among it."""
OOM_SCORE = 500
"""On Linux the training is the first to go when memory runs out, not the studio."""

Ending = Literal["done", "paused", "cancelled", "failed", "left", "died"]
_EXITS: dict[int, Ending] = {
    0: "done",
    3: "paused",
    4: "cancelled",
    5: "failed",
    6: "left",
    -signal.SIGTERM: "left",  # told to go before it listened for that
}
_SENTENCES: dict[Ending, str] = {
    "failed": "The training failed; the end of its log says more.",
    "left": "The training was told to end from outside the studio.",
}
OUT_OF_MEMORY = (
    "The system ended the training because memory ran out; "
    "use a smaller micro_batch_pairs, or close other programs."
)
_KERNEL_COUNTERS = (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat"))


@dataclass(frozen=True)
class TrainerEnd:
    """How a training process ended, and one sentence about it where it went wrong."""

    ending: Ending
    sentence: str = ""


def train(settings: Settings, round_id: str, attempt: int, watch: Callable[[], None]) -> TrainerEnd:
    """Run the training process of one attempt to its end.

    `watch` is called a few times a second; when it raises, the process is told to go first, which
    saves what it has learnt.
    """
    log_path = round_log_path(settings, round_id)
    processes, killed_before = processes_of(settings), _out_of_memory_kills()
    with tempfile.TemporaryDirectory(prefix="inpo-round-") as folder:
        ending = Path(folder) / "ending" if processes > 1 else None
        child = spawn(
            command(settings, round_id, attempt, processes, ending),
            log_path=log_path,
            env=environment(settings, processes),
        )
        code = _run(child, watch)
        if ending is not None:
            code = _said(ending, code)
    # A launcher ends the other processes when one is killed, and they leave in order.
    killed = code == -9 or (processes > 1 and code not in (0, 3, 4, 5))
    if killed and _rises(_out_of_memory_kills, killed_before):
        return TrainerEnd("died", OUT_OF_MEMORY)
    if code in _EXITS:
        return TrainerEnd(_EXITS[code], _SENTENCES.get(_EXITS[code], ""))
    return TrainerEnd("died", _death(code))


def _run(child: subprocess.Popen[bytes], watch: Callable[[], None]) -> int:
    """Watch a training to its end; its exit code."""
    step_back(NICENESS, child.pid)
    with contextlib.suppress(OSError):
        Path(f"/proc/{child.pid}/oom_score_adj").write_text(str(OOM_SCORE), encoding="ascii")
    try:
        while True:
            try:
                return child.wait(POLL_S)
            except subprocess.TimeoutExpired:
                watch()
    finally:
        stop_all(child, grace_s=LEAVE_S)


def _said(ending: Path, code: int) -> int:
    """The exit code that the processes under a launcher have written; else the launcher's own."""
    try:
        return int(ending.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return code or 1


def _death(code: int) -> str:
    if code < 0:
        name = _signal_name(-code)
        return f"The training was ended by signal {-code} ({name}); resume the round to go on."
    return f"The training ended by itself with exit code {code}; the end of its log says why."


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
