"""From a command's flags to an open studio."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from inpo_studio.configs import GenerationConfig
from inpo_studio.settings import Settings, load_settings
from inpo_studio.studio import Studio, open_studio


def settings_from(arguments: Any) -> Settings:
    """Return the settings a command runs with."""
    return load_settings(vars(arguments))


@contextlib.contextmanager
def opened(arguments: Any) -> Iterator[Studio]:
    """Open the workspace for a command and close it again."""
    studio = open_studio(settings_from(arguments))
    try:
        yield studio
    finally:
        studio.close()


def generation_from(arguments: Any) -> GenerationConfig:
    """Return the generation settings a command asks for."""
    given = {
        "guidance": arguments.guidance,
        "steps": arguments.sampling_steps,
        "adapter_on": arguments.adapter_on,
    }
    return GenerationConfig(**{name: value for name, value in given.items() if value is not None})
