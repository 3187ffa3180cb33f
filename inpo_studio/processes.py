"""Child processes that end with their parent, and the locks that processes hold. Torch-free.

A child's standard input is its lifeline: a pipe whose write end only the parent holds. When the
parent ends, however it ends, the kernel closes that end, the child reads end-of-file and ends
too. The child's own children hang on it in the same way.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import platformdirs
import psutil
from filelock import FileLock, Timeout

from inpo_studio.machine import computing_threads

LOST = 75  # exit code of a child whose parent has gone
LOCK_WAIT_S = 2.0
"""How long a worker waits for its lock: others take it for a moment to see whether it is free."""
LOG_BYTES = 5_000_000
"""A longer log is put aside as `.old` when the next process starts writing it."""
_LIFELINE = "INPO_LIFELINE"
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Threads that spin long take a shared processor from the very thread they wait for; ones that
# sleep at once are woken for every little operation.
_PATIENT_THREADS = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}

log = logging.getLogger("inpo_studio.processes")
_children: weakref.WeakSet[subprocess.Popen[bytes]] = weakref.WeakSet()


class WorkerRunning(Exception):
    """Another worker works on this workspace and slot; the message says which."""


def thread_environment(threads: int = 0) -> dict[str, str]:
    """Return the variables that set a child's CPU threads, as `computing_threads` has them."""
    return dict.fromkeys(_THREAD_VARIABLES, str(computing_threads(threads))) | _PATIENT_THREADS


def spawn(
    args: Sequence[str], *, log_path: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a child in a process group of its own, on a lifeline, its output appended to a log.

    `env` is added to this process's environment; CPU threads are set if it does not set them.
    The child must call `watch_lifeline` first thing.
    """
    log_path.parent.mkdir(parents=True, exist_ok=True)
    if log_path.exists() and log_path.stat().st_size > LOG_BYTES:
        log_path.replace(log_path.with_name(log_path.name + ".old"))
    environment = {**os.environ, **thread_environment(), **(env or {}), _LIFELINE: "stdin"}
    # 0 except on Windows, where there are no sessions
    new_group = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with log_path.open("ab") as output:
        child = subprocess.Popen(
            list(args),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            close_fds=True,  # a sibling that held the write end would keep this child alive
            bufsize=0,
            start_new_session=not new_group,
            creationflags=new_group,
        )
    _children.add(child)
    return child


def step_back(niceness: int, pid: int | None = None) -> None:
    """Let others go before this process or a child, whose threads are yet to be started.

    `niceness` is 0 to 19. With `INPO_STUDIO_STEP_BACK=no` nothing steps back.
    """
    if os.environ.get("INPO_STUDIO_STEP_BACK", "").lower() in ("no", "off", "false", "0"):
        return
    pid = os.getpid() if pid is None else pid
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        if sys.platform == "win32":
            process.nice(psutil.BELOW_NORMAL_PRIORITY_CLASS)
            return
        niceness = max(niceness, process.nice())
        process.nice(niceness)
    # Linux may share the processors between sessions before it looks at niceness, and a child is
    # a session of its own; it takes one such change in a tenth of a second.
    autogroup = Path(f"/proc/{pid}/autogroup")
    for _ in range(5 if autogroup.exists() else 0):
        with contextlib.suppress(BlockingIOError, PermissionError, ProcessLookupError):
            if os.getsid(pid) == pid:
                autogroup.write_text(str(niceness), encoding="ascii")
            return
        time.sleep(0.12)


def stop(child: subprocess.Popen[bytes], grace_s: float = 5.0) -> int:
    """Cut a child's lifeline, kill its group if it does not end in time; return its exit code."""
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    try:
        child.wait(grace_s)
    except subprocess.TimeoutExpired:
        child.kill()
    if hasattr(os, "killpg"):
        # Also what it left behind: a group lives on while any member does.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def watch_lifeline(on_lost: Callable[[], None] | None = None, grace_s: float = 3.0) -> bool:
    """In a child: end this process and its group when the parent is gone.

    With `on_lost` the process is told first and has `grace_s` seconds to end by itself. Returns
    False, and watches nothing, in a process that `spawn` has not started.
    """
    if os.environ.pop(_LIFELINE, "") != "stdin":
        return False
    # Neither children nor a library that reads standard input may touch the lifeline.
    pipe = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)

    def watch() -> None:
        with contextlib.suppress(OSError):
            while os.read(pipe, 1):
                pass
        if on_lost is not None:
            on_lost()
            time.sleep(grace_s)
        if hasattr(os, "killpg") and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(LOST)

    threading.Thread(target=watch, name="lifeline", daemon=True).start()
    return True


def runtime_folder() -> Path:
    """Return the folder of the locks: this user's, on this machine, outside any workspace.

    `INPO_STUDIO_LOCK_DIR` names another one.
    """
    named = os.environ.get("INPO_STUDIO_LOCK_DIR")
    if named:
        Path(named).mkdir(parents=True, exist_ok=True)
        return Path(named)
    with warnings.catch_warnings():
        # Without a login session there is no XDG_RUNTIME_DIR; the fallback is as good.
        warnings.simplefilter("ignore")
        return Path(platformdirs.user_runtime_dir("inpo-studio", False, ensure_exists=True))


@contextlib.contextmanager
def device_lock(
    device: str = "auto", on_wait: Callable[[str], None] | None = None, poll_s: float = 0.2
) -> Iterator[None]:
    """Hold a device of this machine for one training; waits while another one holds it.

    `on_wait` is called with a sentence at every poll while waiting, and may raise to give up.
    """
    name = _device_name(device)
    lock, holder = _lock(f"device-{name}")
    waiting = False
    while not _take(lock, holder, 0.0):
        sentence = f"Waiting: another training uses the device {name} ({_read(holder)})."
        if not waiting:
            log.info(sentence)
        waiting = True
        if on_wait is not None:
            on_wait(sentence)
        time.sleep(poll_s)
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def worker_lock(workspace: Path, slot: int = 0, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Be the one worker of a workspace and slot on this machine.

    Raises WorkerRunning when another process is.
    """
    lock, holder = _lock(f"worker-{_key(workspace)}-{slot}")
    if not _take(lock, holder, wait_s):
        raise WorkerRunning(
            f"Worker {slot} of {workspace} already runs ({_read(holder)}); "
            "stop it, or start this one with another --slot."
        )
    try:
        yield
    finally:
        lock.release()


def worker_runs(workspace: Path) -> bool:
    """Say whether any worker of this machine works on a workspace."""
    for path in runtime_folder().glob(f"worker-{_key(workspace)}-*.lock"):
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        lock.release()
    return False


def _lock(name: str) -> tuple[FileLock, Path]:
    folder = runtime_folder()
    return FileLock(folder / f"{name}.lock", thread_local=False), folder / f"{name}.holder"


def _take(lock: FileLock, holder: Path, wait_s: float) -> bool:
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        return False
    holder.write_text(f"process {os.getpid()}", encoding="ascii")
    return True


def _read(holder: Path) -> str:
    try:
        return holder.read_text(encoding="ascii") or "another process"
    except OSError:
        return "another process"


def _key(workspace: Path) -> str:
    return hashlib.sha256(os.fsencode(workspace.resolve())).hexdigest()[:16]


def _device_name(device: str) -> str:
    """Return one name per physical device: `cpu`, `mps`, `cuda-0`, …"""
    kind, _, index = device.partition(":")
    if kind == "auto":
        # Only a training asks for this, and it needs torch anyway.
        torch = importlib.import_module("torch")
        kind = "cuda" if torch.cuda.is_available() else "cpu"
        if kind == "cpu" and torch.backends.mps.is_available():
            kind = "mps"
    if kind != "cuda":
        return kind
    visible = [part for part in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if part]
    number = int(index or 0)
    return f"cuda-{visible[number] if number < len(visible) else number}"


def _close_lifelines() -> None:
    """A forked copy of this process must not keep the children of the original alive."""
    for child in list(_children):
        if child.stdin is not None:
            with contextlib.suppress(OSError):
                child.stdin.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_lifelines)
