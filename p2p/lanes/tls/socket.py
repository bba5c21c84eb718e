"""TLS over a blocking socket, and what is asked of TCP."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

from ...protocol.seal import Message
from ...protocol.signal import MAX_MESSAGE_SIZE

TLS_SECONDS = 5.0  # for a TLS handshake
# Seconds of silence, between probes, and probes, until a connection that says nothing is given up.
KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
CONGESTION_CONTROL = b"bbr"  # keeps its rate when packets are lost, where the kernel has it


class TlsSocket:
    """TLS over a blocking socket, in few system calls: the sockets of `ssl` make one or two for
    each record of 16 KiB (measured: 1.8 CPU seconds for a GB at both ends, against 1.2)."""

    def __init__(self, context: ssl.SSLContext, plain: socket.socket, *, server: bool) -> None:
        self.plain = plain
        self._arrived, self._leaving = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._arrived, self._leaving, server_side=server)
        self._buffer = memoryview(bytearray(MAX_MESSAGE_SIZE))

    def shake_hands(self) -> bytes:
        """The TLS handshake, in TLS_SECONDS at most, however slowly somebody sends: the other end's
        certificate (DER). Raises `OSError`."""
        until = time.monotonic() + TLS_SECONDS
        while True:
            self.plain.settimeout(max(0.001, until - time.monotonic()))
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._fill()
            except ssl.SSLError:
                self._flush()  # what says why
                raise
            else:
                self._flush()
                self.plain.settimeout(None)
                return self._tls.getpeercert(True) or b""

    def write(self, *parts: Message) -> None:
        """Send all of it. Raises `OSError`."""
        for part in parts:
            view = memoryview(part)
            while view:
                view = view[self._tls.write(view) :]
        self._flush()

    def read(self, length: int) -> bytearray:
        """The next so many bytes. Raises `OSError`."""
        data = bytearray(length)
        view = memoryview(data)
        while view:
            try:
                count = int(self._tls.read(len(view), view))
            except ssl.SSLWantReadError:
                self._fill()
                continue
            if not count:
                raise OSError("the connection was closed")
            view = view[count:]
        return data

    def _flush(self) -> None:
        if self._leaving.pending:
            self.plain.sendall(self._leaving.read())

    def _fill(self) -> None:
        self._flush()  # what TLS itself has to say
        count = self.plain.recv_into(self._buffer)
        if not count:
            raise OSError("the connection was closed")
        self._arrived.write(self._buffer[:count])


def tune(plain: socket.socket) -> None:
    """What both ends ask of a TCP connection."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):
            plain.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    if hasattr(socket, "TCP_CONGESTION"):
        with contextlib.suppress(OSError):
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)


def has_congestion_control() -> bool:
    """Whether one connection keeps its rate when packets are lost; else it takes several."""
    if not hasattr(socket, "TCP_CONGESTION"):
        return False
    with socket.socket() as probe:
        try:
            probe.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION_CONTROL)
        except OSError:
            return False
    return True
