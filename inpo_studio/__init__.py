"""InPO Studio: teach a text-to-image model your taste by picking between two pictures."""

from __future__ import annotations

__version__ = "0.1.0"
