"""The pages. Gradio is imported in this room only, and only after `quiet_gradio`."""

from __future__ import annotations

import os

_SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_RUN_HISTORY": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
_REMOVED = ("GRADIO_SHARE", "GRADIO_ALLOWED_PATHS", "GRADIO_ROOT_PATH", "GRADIO_MCP_SERVER")


def quiet_gradio() -> None:
    """Set the environment that keeps Gradio on this machine; call it before importing gradio.

    Without the first Gradio reports every start to its maker; the removed variables would
    publish the studio or folders of this machine whatever the code says.
    """
    os.environ.update(_SETTINGS)
    for name in _REMOVED:
        os.environ.pop(name, None)


quiet_gradio()
