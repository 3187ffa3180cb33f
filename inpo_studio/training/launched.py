"""What the launcher of several processes tells each of them, by the environment. Torch-free."""

from __future__ import annotations

import os


def group_size() -> int:
    """How many processes train the round together; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE") or 1)


def number_here() -> int:
    """This process's number among those of its machine, from 0."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def size_here() -> int:
    """How many of the round's processes are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE") or group_size())
