"""What a page is given in place of names while it votes: tickets and picture tokens.

They are new with every serving and bound to one user. A ticket can be read back with the item's
seed only, which no page is told before the vote: so a vote that was pressed while the studio was
away still counts. The pictures themselves are kept in memory; after a restart they are served anew.
"""

from __future__ import annotations

import base64
import hmac
import io
import secrets
import struct
import threading
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from storage.schema import Side, TrialItem

MOST_PICTURES = 80
_NONCE = 20
"""Letters of a ticket that are random; the others are the seal."""
_SEAL_BYTES = 18
_FILLER = 64
"""Random bytes in each picture at least, so that no two servings have the same bytes."""
_IEND = 12


@dataclass(frozen=True)
class Ticket:
    """One serving of one item to one user."""

    name: str
    position: int
    left: str
    right: str
    aligned: Side
    """Where the aligned picture was put; it never leaves this process."""

    def aligned_side(self, left: str) -> Side | None:
        """Return where the aligned picture is, with `left` on the left; None if it is not ours."""
        if left == self.left:
            return self.aligned
        if left == self.right:
            return "right" if self.aligned == "left" else "left"
        return None


def read_ticket(user: str, items: Iterable[TrialItem], name: str) -> Ticket | None:
    """Return the ticket of this name, if it was given to this user for one of these items."""
    for item in items:
        for aligned in _SIDES:
            if hmac.compare_digest(_name(user, item, name[:_NONCE], aligned), name):
                return _ticket(user, item, name[:_NONCE], aligned)
    return None


_SIDES: tuple[Side, Side] = ("left", "right")


def _ticket(user: str, item: TrialItem, nonce: str, aligned: Side) -> Ticket:
    left, right = (_seal(user, item, nonce, "picture", side) for side in _SIDES)
    return Ticket(_name(user, item, nonce, aligned), item.position, left, right, aligned)


def _name(user: str, item: TrialItem, nonce: str, aligned: Side) -> str:
    return nonce + _seal(user, item, nonce, "aligned", aligned)


def _seal(user: str, item: TrialItem, *parts: str) -> str:
    """24 letters that nobody can tell from random ones without the trial's id and the seed."""
    key = f"{item.trial_id}\x1f{item.position}\x1f{item.seed}".encode()
    digest = hmac.digest(key, "\x1f".join((user, *parts)).encode(), "sha256")
    return base64.urlsafe_b64encode(digest[:_SEAL_BYTES]).decode("ascii")


class Tickets:
    """The pictures one process has served; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pictures: OrderedDict[str, tuple[str, bytes]] = OrderedDict()

    def issue(self, user: str, item: TrialItem, base: Path, aligned: Path) -> Ticket:
        """Serve two stored pictures under fresh names, on sides drawn by chance."""
        contents = disguise(base, aligned)
        nonce = secrets.token_urlsafe(_NONCE)[:_NONCE]
        ticket = _ticket(user, item, nonce, secrets.choice(_SIDES))
        on_left, on_right = contents if ticket.aligned == "right" else contents[::-1]
        with self._lock:
            self._pictures[ticket.left] = (user, on_left)
            self._pictures[ticket.right] = (user, on_right)
            while len(self._pictures) > MOST_PICTURES:
                self._pictures.popitem(last=False)
        return ticket

    def picture(self, user: str, token: str) -> bytes | None:
        """Return the PNG behind a token; None if it is not the user's or forgotten."""
        with self._lock:
            found = self._pictures.get(token)
        return found[1] if found is not None and found[0] == user else None


def disguise(base: Path, aligned: Path) -> tuple[bytes, bytes]:
    """Encode two stored pictures anew as PNG files of equal length without metadata.

    The lengths of PNG files follow what is in a picture; random filler makes both equal.
    """
    plain = [_encode(path) for path in (base, aligned)]
    length = max(len(content) for content in plain) + _IEND + _FILLER
    first, second = (_fill(content, length) for content in plain)
    return first, second


def _encode(path: Path) -> bytes:
    with Image.open(path, formats=["PNG"]) as stored:
        picture = stored.convert("RGB")
    fresh = Image.frombytes("RGB", picture.size, picture.tobytes())
    buffer = io.BytesIO()
    fresh.save(buffer, format="PNG")
    return buffer.getvalue()


def _fill(png: bytes, length: int) -> bytes:
    """Put one private chunk, which readers pass over, before the last chunk of a PNG file."""
    data = secrets.token_bytes(length - len(png) - 12)
    kind = b"fiLl"
    chunk = struct.pack(">I", len(data)) + kind + data
    chunk += struct.pack(">I", zlib.crc32(kind + data))
    return png[:-_IEND] + chunk + png[-_IEND:]


TICKETS = Tickets()
"""Those of this process: components give them out, the route below PATH takes them."""
