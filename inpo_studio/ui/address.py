"""The address the studio is served on, taken before anything heavy is loaded or started."""

from __future__ import annotations

import socket

from inpo_studio.settings import is_loopback
from inpo_studio.studio.errors import StudioError


def listen(host: str, port: int) -> socket.socket:
    """Take the address, so that a second studio on it is refused at once.

    Raises StudioError when other machines could reach it or it is in use.
    """
    if not is_loopback(host):
        raise StudioError(
            f"{host} can be reached from other machines and the studio has no log-in; serve on "
            "127.0.0.1 and reach it through an SSH tunnel."
        )
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise StudioError(
            f"Port {port} on {host} cannot be used ({error.strerror}); choose another with --port."
        ) from error
    return listener
