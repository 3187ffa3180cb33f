"""The training process of one round: ``python -m inpo_studio.training.round``.

Standard input is its lifeline: when the process that started it dies, the pipe closes and this
process ends at once. Exit codes tell the parent how it ended (:class:`Exit`).
"""

from __future__ import annotations

import argparse
import enum
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from inpo_studio.processes import device_lock, physical_cores, watch_lifeline
from inpo_studio.settings import Settings, load_settings

if TYPE_CHECKING:
    from inpo_studio.training.ledger import Ledger

log = logging.getLogger("inpo_studio.round")


class Exit(enum.IntEnum):
    """How the training process ended."""

    DONE = 0
    PAUSED = 3
    CANCELLED = 4
    FAILED = 5


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, train, and return an :class:`Exit`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workspace", type=Path, required=True)
    parser.add_argument("--round", required=True, dest="round_id")
    parser.add_argument("--attempt", type=int, required=True)
    options = parser.parse_args(arguments)
    watch_lifeline()
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr, force=True
    )
    settings = load_settings({"workspace": options.workspace})
    return int(train_round(settings, options.round_id, options.attempt))


def train_round(settings: Settings, round_id: str, attempt: int) -> Exit:
    """Train one round to an end; a failure is written to its row as one sentence."""
    from inpo_studio.training.ledger import Ledger, Stopped
    from storage.errors import StaleAttempt

    ledger = Ledger.open(settings, round_id, attempt)
    try:
        with device_lock(settings.device, on_wait=ledger.stop_if_asked):
            return _train(settings, ledger)
    except Stopped as stopped:
        log.info("stopped on request: %s", stopped.request)
        return Exit.PAUSED if stopped.request == "pause" else Exit.CANCELLED
    except StaleAttempt as stale:
        log.info("%s", stale)
        return Exit.CANCELLED
    except Exception as error:
        log.exception("the round failed")
        ledger.fail(str(error) or type(error).__name__)
        return Exit.FAILED
    finally:
        ledger.close()


def _train(settings: Settings, ledger: Ledger) -> Exit:
    import torch

    from inpo_studio.training.prepare import prepare
    from inpo_studio.training.state import restore, save_state

    inputs = ledger.inputs()
    torch.set_num_threads(inputs.config.threads or settings.threads or physical_cores())
    ledger.stage("cache")
    inversions = settings.workspace / "cache" / "inversions"
    prepared = prepare(inputs, inversions, ledger.stop_if_asked)
    trainer = prepared.trainer
    checkpoints = ledger.folder / "checkpoints"
    restore(trainer, checkpoints, prepared.facts)
    ledger.start_at(trainer.step, inputs.config.steps)
    log.info("training from step %d to %d", trainer.step, inputs.config.steps)

    def on_checkpoint() -> None:
        ledger.flush()
        save_state(trainer, checkpoints, prepared.facts)

    ending = trainer.run(ledger.request, ledger.on_step, on_checkpoint)
    ledger.flush()
    if ending == "pause":
        return Exit.PAUSED
    if ending == "cancel":
        return Exit.CANCELLED
    if trainer.step == 0:
        raise ValueError("The round was finished before its first step: nothing was learnt.")
    ledger.keep_adapter(trainer)
    return Exit.DONE


if __name__ == "__main__":
    sys.exit(main())
