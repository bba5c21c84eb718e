"""Messages to a syslog server: RFC 5424 over TLS, RFC 5425.

Neither says what a server has read. So a batch counts as delivered once the server has closed the
connection, in order, in answer to its end: by then it has read everything before that.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..protocol.errors import Failure
from ..protocol.sentences import Detail, os_detail

PORT = 6514  # RFC 5425, 4.1
PRIORITY = 10 * 8 + 5  # security messages, normal but significant: DICOM PS3.15, A.6.2
APP_NAME = "handover"
MAX_NAME = 255  # characters of HOSTNAME, RFC 5424, 6
SECONDS = 15.0  # for each step of the network


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


def encode(message: Message, host: str) -> bytes:
    """A message as RFC 5424 has it, framed by its length (RFC 5425, 4.3)."""
    header = f"<{PRIORITY}>1 {message.time} {host} {APP_NAME} {os.getpid()} {message.kind} - "
    line = header.encode("ascii") + b"\xef\xbb\xbf" + message.text.encode()
    return b"%d %s" % (len(line), line)


def own_name() -> str:
    """This machine's name as HOSTNAME may be: printable ASCII without spaces, or "-"."""
    name = "".join(one for one in socket.gethostname() if "!" <= one <= "~")
    return name[:MAX_NAME] or "-"


def send(server: Server, messages: Iterable[Message]) -> None:
    """Send a batch, in order, and wait until the server has read it. Raises `SyslogFailed`; then it
    may have read any part of it. Raises `Failure` (certificate_unusable). In a thread."""
    host, context = own_name(), _context(server)
    try:
        with (
            socket.create_connection((server.host, server.port), SECONDS) as connection,
            context.wrap_socket(connection, server_hostname=server.host) as stream,
        ):
            for message in messages:
                stream.sendall(encode(message, host))
            with contextlib.suppress(ssl.SSLEOFError):  # many close without a word by TLS
                stream.unwrap()
    except ssl.SSLCertVerificationError:
        raise SyslogFailed(Detail("certificate_foreign")) from None
    except ssl.SSLError:  # its errno is OpenSSL's
        raise SyslogFailed(Detail("no_tls")) from None
    except TimeoutError:
        raise SyslogFailed(Detail("no_answer")) from None
    except OSError as error:
        raise SyslogFailed(os_detail(error, "no_answer")) from None
    except UnicodeError:  # a host that is no name
        raise SyslogFailed(Detail("no_answer")) from None


def _context(server: Server) -> ssl.SSLContext:
    """Raises `Failure` (certificate_unusable) for files that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=server.authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # Python 3.13 refuses what many a facility's authority leaves out, such as its key usage.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        if server.certificate is not None:
            context.load_cert_chain(server.certificate, server.key, password=lambda: "")
    except (ssl.SSLError, ValueError):
        raise Failure("certificate_unusable", Detail("certificate_not_a_pair")) from None
    except OSError as error:
        raise Failure("certificate_unusable", os_detail(error, "unreadable")) from None
    return context
