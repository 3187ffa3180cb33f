"""The before/after slider: copies of two pictures under names of chance.

Gradio serves what a component shows by the path of a file. A path that named the stored picture
would tell which is which, so the slider gets copies: encoded anew, of equal size.
"""

from __future__ import annotations

import secrets
import threading
from collections import deque
from pathlib import Path

from PIL import Image

from inpo_studio.studio import Studio
from storage.comparisons import get_comparison

KEPT = 60
"""Copies that are kept; a page shows two at a time."""
LEAST_SIDE = 512
"""Pixels; smaller pictures are enlarged by a whole factor, so that the slider shows them smooth."""


class Copies:
    """Makes copies in the folder of what Gradio serves, and deletes the oldest ones."""

    def __init__(self, served: Path) -> None:
        """Name the folder; it is made with the first copy."""
        self._folder = served / f"compared-{secrets.token_hex(8)}"
        self._made: deque[Path] = deque()
        self._making = threading.Lock()

    def of_comparison(self, studio: Studio, comparison_id: str) -> tuple[str, str]:
        """Return the paths of fresh copies, base first. Raises NotFound."""
        with studio.database.read() as session:
            row = get_comparison(session, comparison_id)
        stored = [
            studio.files.image_path(image.sha256) for image in (row.base_image, row.aligned_image)
        ]
        with Image.open(stored[0]) as base, Image.open(stored[1]) as aligned:
            size = _shown_size(base.size)
            return self._keep(base, size), self._keep(aligned, size)

    def _keep(self, picture: Image.Image, size: tuple[int, int]) -> str:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{secrets.token_hex(16)}.png"
        copy = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
        copy.save(path, format="PNG", compress_level=1)
        with self._making:
            self._made.append(path)
            while len(self._made) > KEPT:
                self._made.popleft().unlink(missing_ok=True)
        return str(path)


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    factor = max(1, -(-LEAST_SIDE // max(size)))
    return size[0] * factor, size[1] * factor
