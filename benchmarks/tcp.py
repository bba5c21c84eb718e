"""One plain TCP connection, to see what a path carries.

`python -m benchmarks.tcp receive HOST BYTES SECONDS` prints where it listens, and at the end how
much came in how many seconds, from the accept; `... send WHERE CONGESTION BYTES` sends.
"""

from __future__ import annotations

import json
import socket
import sys
import time

PIECE = 1 << 16


def receive(host: str, size: int, seconds: float) -> None:
    """Until all is there or time is up."""
    with socket.create_server((host, 0)) as server:
        print(f"{host}:{server.getsockname()[1]}", flush=True)
        connection, _ = server.accept()
    with connection:
        began, got = time.perf_counter(), 0
        while got < size and (left := began + seconds - time.perf_counter()) > 0:
            connection.settimeout(left)
            try:
                piece = len(connection.recv(PIECE))
            except TimeoutError:
                break
            if not piece:
                break
            got += piece
        took = time.perf_counter() - began
    print(json.dumps({"bytes": got, "seconds": took}), flush=True)


def send(where: str, congestion: str, size: int) -> None:
    """As much as is wanted of it."""
    host, port = where.rsplit(":", 1)
    with socket.socket() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        connection.connect((host, int(port)))
        piece = bytes(PIECE)
        try:
            for at in range(0, size, PIECE):
                connection.sendall(piece[: min(PIECE, size - at)])
        except ConnectionError:
            return  # the recipient's time was up


if __name__ == "__main__":
    role, *words = sys.argv[1:]
    if role == "receive":
        receive(words[0], int(words[1]), float(words[2]))
    else:
        send(words[0], words[1], int(words[2]))
