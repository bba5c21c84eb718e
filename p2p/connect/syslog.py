"""Messages to a syslog server: RFC 5424 over TLS, RFC 5425.

Neither says what a server has read. But one that answers our `close_notify` (RFC 8446, 6.1) by its
own, and then ends the connection with nothing unread, has read everything, and nobody between the
two can make that up. Some servers close without it, and so might whatever cuts a connection: that
is told apart.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..protocol.paths import shown
from ..protocol.sentences import Detail, os_detail
from .certificates import client_context, tls_from_files

PORT = 6514  # RFC 5425, 4.1
PRIORITY = 10 * 8 + 5  # security messages, normal but significant: DICOM PS3.15, A.6.2
APP_NAME = "handover"
MAX_NAME = 255  # characters of HOSTNAME, RFC 5424, 6
SECONDS = 30.0  # for each step of the network, ...
BATCH_SECONDS = 120.0  # ... and for all of a batch
MAX_FRAME = 1 << 16  # octets that are taken at once
MAX_ANSWERS = 64  # of a server that is to say nothing


class SyslogFailed(Exception):
    """A batch is not known to have been read."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Message(NamedTuple):
    """One to send: when it happened (RFC 3339 in UTC), its MSGID, and its text."""

    time: str
    kind: str
    text: str


class Server(NamedTuple):
    """A syslog server, and how it is known: by this authority, else by those of the system. With a
    certificate and its key (PEM), this side is known as well."""

    host: str
    port: int = PORT
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def name(self) -> str:
        """Host and port, as a person writes them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def encode(message: Message, host: str) -> bytes:
    """A message as RFC 5424 has it, framed by its length (RFC 5425, 4.3)."""
    header = f"<{PRIORITY}>1 {message.time} {host} {APP_NAME} {os.getpid()} {message.kind} - "
    line = header.encode("ascii") + b"\xef\xbb\xbf" + message.text.encode()
    return b"%d %s" % (len(line), line)


def own_name() -> str:
    """This machine's name as HOSTNAME may be: printable ASCII without spaces, or "-"."""
    name = "".join(one for one in socket.gethostname() if "!" <= one <= "~")
    return name[:MAX_NAME] or "-"


def send(server: Server, messages: Iterable[Message]) -> bool:
    """Send a batch, in order, and wait until the server closes; whether it has confirmed that it
    has read everything. Raises `SyslogFailed`; then it may have read any part of it. Raises
    `Failure` for files that cannot be used. In a thread."""
    host, context = own_name(), _context(server)
    try:
        with socket.create_connection((server.host, server.port), SECONDS) as connection:
            stream = _Stream(connection, context, server.host)
            for message in messages:
                stream.send(encode(message, host))
            return stream.close()
    except ssl.SSLCertVerificationError as error:
        why = shown(error.verify_message)
        raise SyslogFailed(Detail("certificate_foreign_because", why=why)) from None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        raise SyslogFailed(Detail("closed_early")) from None
    except ssl.SSLError as error:  # its errno is OpenSSL's
        refused = "ALERT" in (error.reason or "")
        raise SyslogFailed(Detail("tls_refused" if refused else "no_tls")) from None
    except (socket.gaierror, UnicodeError):
        raise SyslogFailed(Detail("no_such_host")) from None
    except TimeoutError:
        raise SyslogFailed(Detail("no_answer")) from None
    except OSError as error:
        raise SyslogFailed(os_detail(error, "no_answer")) from None


class _Stream:
    """TLS over a connection, told apart to its very end. An `SSLSocket` cannot: it takes the alert
    by which a server refuses a certificate for an end in order, as OpenSSL's SSL_shutdown does."""

    def __init__(self, connection: socket.socket, context: ssl.SSLContext, host: str) -> None:
        self._connection, self._ends = connection, time.monotonic() + BATCH_SECONDS
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._flush()
                self._take()
        self._flush()

    def send(self, data: bytes) -> None:
        """Send octets. Raises `OSError`."""
        self._tls.write(data)
        try:
            self._flush()
        except OSError:
            self._look()  # perhaps it has said why
            raise

    def close(self) -> bool:
        """Send `close_notify`, and wait for the other's, and for the end of the connection; False
        where that comes alone. Raises `OSError`."""
        self._look()
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        self._flush()
        for _ in range(MAX_ANSWERS):
            try:
                if not self._tls.read(4096):
                    break
            except ssl.SSLWantReadError:
                self._take()
            except ssl.SSLZeroReturnError:
                break
            except ssl.SSLEOFError:
                return False
        else:
            raise ssl.SSLEOFError
        # To its end: a server that has left anything unread resets the connection.
        self._connection.shutdown(socket.SHUT_WR)
        while self._receive():
            pass
        return True

    def _look(self) -> None:
        """What has come by now. A server that closes before it is asked to has not read all.
        Raises `OSError`."""
        self._connection.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            data = self._connection.recv(MAX_FRAME)
            self._in.write(data) if data else self._in.write_eof()
        with contextlib.suppress(ssl.SSLWantReadError):
            while self._tls.read(4096):
                pass
            raise ssl.SSLEOFError

    def _take(self) -> None:
        """Wait for what comes."""
        if data := self._receive():
            self._in.write(data)
        else:
            self._in.write_eof()

    def _receive(self) -> bytes:
        self._connection.settimeout(self._left())
        return self._connection.recv(MAX_FRAME)

    def _flush(self) -> None:
        if data := self._out.read():
            self._connection.settimeout(self._left())
            self._connection.sendall(data)

    def _left(self) -> float:
        """Seconds, for the next step. Raises `TimeoutError`."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return min(left, SECONDS)


def _context(server: Server) -> ssl.SSLContext:
    """Raises `Failure` (not_readable, certificate_unusable)."""
    context = client_context(server.authority, alone=True)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Python 3.13 refuses what many a facility's authority leaves out, such as its key usage.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if server.certificate is not None and server.key is not None:
        tls_from_files(server.certificate, server.key)  # which says what is wrong with them
        context.load_cert_chain(server.certificate, server.key)
    return context
