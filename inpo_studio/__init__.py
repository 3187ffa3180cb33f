"""InPO Studio: teach a text-to-image model your taste by picking between two pictures."""

from __future__ import annotations

from inpo_studio.hiding import hide_in_logs

__version__ = "0.1.0"

hide_in_logs()  # whatever process this is, and whoever sets up its logs
