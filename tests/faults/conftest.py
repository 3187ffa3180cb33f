"""The studio and the locks of the job tests serve here too."""

from __future__ import annotations

from tests.jobs.conftest import own_locks, studio

__all__ = ["own_locks", "studio"]
