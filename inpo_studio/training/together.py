"""The processes that train one round together, each with a share of every step's pairs.

`accelerate launch` and `torchrun` start and number them. All draw the same step and take their
own rows of it; what they add up is then the whole step's, so that the number of processes changes
nothing but rounding. The first one alone decides, measures on validation pairs, draws and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from inpo_studio.diffusion.devices import choose_device
from inpo_studio.training.launched import group_size, number_here, size_here

Result = TypeVar("Result")

PATIENCE = timedelta(hours=6)
"""How long processes wait for the first one, which draws pictures meanwhile."""


class PeerLost(RuntimeError):
    """Another process of the group has ended, so that this one cannot go on."""


@dataclass(frozen=True)
class Together:
    """This process's place in the group; one process alone by default."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the first process."""
        return self.rank == 0

    def share(self, total: int) -> range:
        """The rows of ``total`` that are this process's: consecutive, and none where it has more
        processes than rows."""
        return range(self.rank * total // self.size, (self.rank + 1) * total // self.size)

    def decide(self, choose: Callable[[], Result]) -> Result:
        """What ``choose`` says in the first process; it is called in no other."""
        if self.size == 1:
            return choose()
        said: list[Any] = [choose() if self.leads else None]
        with _listening():
            dist.broadcast_object_list(said, src=0)
        found: Result = said[0]
        return found

    def all(self, holds: bool) -> bool:
        """Whether something holds in every process."""
        if self.size == 1:
            return holds
        failed = torch.tensor(float(not holds), device=_meeting_place())
        with _listening():
            dist.all_reduce(failed)
        return not float(failed)

    def add_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Give every process the sum of all gradients; a process without any adds nothing."""
        if self.size == 1:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        with _listening():
            dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def join_columns(self, mine: Tensor, total: int) -> Tensor:
        """All processes' columns in order, ``(rows, total)``, of their shares ``(rows, n)``."""
        if self.size == 1:
            return mine
        whole = mine.new_zeros((len(mine), total))
        share = self.share(total)
        whole[:, share.start : share.stop] = mine
        with _listening():
            dist.all_reduce(whole)
        return whole

    def wait(self) -> None:
        """Until every process has come here."""
        self.all(True)

    def part(self) -> None:
        """Leave the group; call it in every process once the round has ended."""
        if self.size > 1:
            dist.destroy_process_group()


ALONE = Together()


def own_device(device: str) -> str:
    """The device of this process: with several, the card that has its number.

    Raises ValueError, in one sentence, where there is no such card.
    """
    if group_size() == 1:
        return device
    place = choose_device(device)
    if place.type == "cpu":
        return "cpu"
    if place.type != "cuda" or place.index is not None:
        raise ValueError(
            f"Several processes cannot train on the device {device}: use --device cuda or cpu, or "
            "--processes 1."
        )
    cards, number = torch.cuda.device_count(), number_here()
    if number >= cards:
        raise ValueError(
            f"{size_here()} processes need as many cards, and this machine has {cards}; use "
            f"--processes {cards}."
        )
    return f"cuda:{number}"


def join(device: str) -> Together:
    """Meet the other processes, over NCCL on cards and Gloo on the CPU; ALONE without any.

    ``device`` is from :func:`own_device`.
    """
    if group_size() == 1:
        return ALONE
    from accelerate import PartialState

    with _listening():
        state = PartialState(cpu=device == "cpu", timeout=PATIENCE)
    return Together(state.process_index, state.num_processes)


def _meeting_place() -> torch.device:
    """Where the tensors that the group exchanges have to be."""
    if dist.is_initialized() and dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@contextmanager
def _listening() -> Iterator[None]:
    """What goes wrong in speaking to the others is their end, not this process's mistake."""
    try:
        yield
    except RuntimeError as problem:
        raise PeerLost("Another process of the round has ended; the log says why.") from problem
