"""`inpo-studio serve`, `worker` and `doctor`: the processes, and what they would run on."""

from __future__ import annotations

import os
from typing import Any

from inpo_studio.cli.console import Console
from inpo_studio.cli.opening import settings_from


def serve(arguments: Any, console: Console) -> int:
    """Open the studio; the result, printed once it answers, is where it is."""
    from inpo_studio.ui.address import listen

    settings = settings_from(arguments)
    listener = listen(settings.host, settings.port)
    from inpo_studio.ui.server import serve as serve_studio

    def announce(url: str) -> None:
        values = {
            "url": url,
            "workspace": str(settings.workspace),
            "model": settings.model,
            "pid": os.getpid(),
        }
        where = f"Workspace: {settings.workspace}"
        console.result(values, f"{where}\nInPO Studio: {url} (Ctrl-C closes it)")

    with listener:
        serve_studio(settings, listener, announce)
    return 0


def worker(arguments: Any, console: Console) -> int:
    """Work for a workspace until interrupted."""
    from inpo_studio.jobs.worker import run_worker

    settings = settings_from(arguments)
    values = {"workspace": str(settings.workspace), "slot": arguments.slot, "pid": os.getpid()}
    console.result(values, f"Worker {arguments.slot} for {settings.workspace}")
    run_worker(settings, slot=arguments.slot)
    return 0


def doctor(arguments: Any, console: Console) -> int:
    """Look at everything the studio needs; exit code 1 when something will not do."""
    from inpo_studio.doctor import examine

    found = list(examine(settings_from(arguments)))
    well = all(finding.ok for finding in found)
    values: dict[str, Any] = {"ok": well}
    for finding in found:
        values[finding.name] = {"ok": finding.ok, "text": finding.text, **finding.details}
    width = max(len(finding.name) for finding in found)
    lines = [f"{'ok ' if f.ok else '!! '} {f.name:<{width}}  {f.text}" for f in found]
    console.result(values, "\n".join(lines))
    return 0 if well else 1
