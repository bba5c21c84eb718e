"""The pipe between a transfer and its own server's process, one for each lane.

Each message stands behind its length (u32, big-endian), as in the body of a response. Two of no
length tell the transfer that its lane is there to be opened, and that a page has opened it.
"""

from __future__ import annotations

import socket

LENGTH = 4  # bytes of a message's length
READY = OPENED = bytes(LENGTH)
BUFFER = 1024 * 1024  # bytes in a pipe: a wake-up for four pieces, not for each


def make_pipe() -> tuple[socket.socket, socket.socket]:
    """Both ends of a lane's pipe. Raises `OSError`."""
    ends = socket.socketpair()
    for end in ends:
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, buffer, BUFFER)
    return ends
