"""The command that trains a round: one process, or a launcher of several that train together."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import psutil

from inpo_studio.machine import computing_threads
from inpo_studio.processes import stop, thread_environment
from inpo_studio.settings import Settings

ROUND = "inpo_studio.training.round"


def processes_of(settings: Settings) -> int:
    """How many processes a round is trained by: those asked for, or with 0 one for every card."""
    if settings.processes:
        return settings.processes
    import torch

    return max(1, torch.cuda.device_count())


def command(
    settings: Settings,
    round_id: str,
    attempt: int,
    processes: int = 1,
    ending: Path | None = None,
) -> list[str]:
    """The command line of a round's training.

    Cards are left to `accelerate launch`, with a configuration of our own; it trains on one CPU
    alone, so several processes there are left to `torchrun`. Launchers pass no exit code on: it is
    written to `ending`.
    """
    told = ["--workspace", str(settings.workspace), "--round", round_id, "--attempt", str(attempt)]
    if ending is not None:
        told += ["--ending", str(ending)]
    return [sys.executable, "-m", *_launcher(settings.device, processes), ROUND, *told]


def _launcher(device: str, processes: int) -> list[str]:
    if processes == 1:
        return []
    if _on_cpu(device):
        own = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
        return ["torch.distributed.run", *own, "-m"]
    import inpo_studio.training

    configuration = Path(inpo_studio.training.__file__).with_name("accelerate.yaml")
    return [
        "accelerate.commands.launch",
        *("--config_file", str(configuration)),
        *("--num_processes", str(processes)),
        *("--main_process_port", "0"),
        "-m",
    ]


def _on_cpu(device: str) -> bool:
    if device != "auto":
        return device == "cpu"
    import torch

    return not torch.cuda.is_available()


def environment(settings: Settings, processes: int = 1) -> dict[str, str]:
    """The variables of a training: the same settings, and CPU threads for each process."""
    threads = max(1, computing_threads(settings.threads) // processes)
    found = {**settings.to_environment(), **thread_environment(threads)}
    if processes == 1:
        found["WORLD_SIZE"] = "1"  # some machines set another, for programs that a launcher starts
    return found


def stop_all(child: subprocess.Popen[bytes], grace_s: float) -> None:
    """Stop a training and, where it is a launcher, what it has launched.

    A launcher gives each process a session of its own, so they are in no group with it. All are on
    one lifeline, and leave by themselves when it is cut; what is stuck is killed.
    """
    launched: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        launched = psutil.Process(child.pid).children(recursive=True)
    stop(child, grace_s=grace_s)
    for process in launched:
        with contextlib.suppress(psutil.Error):
            process.kill()
