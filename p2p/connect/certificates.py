"""How this machine's own signaling server speaks https: certificate files, or its own authority."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..protocol.errors import Failure
from ..protocol.paths import shown
from ..protocol.sentences import Detail, os_detail
from ..storage.strict import read_strictly, unusable
from .addresses import reachable

if TYPE_CHECKING:
    from signaling.certificates import Authority, Served

logger = logging.getLogger("handover.signaling")

MAX_PEM = 1024 * 1024  # bytes of a chain or a key
RENEW_SECONDS = 10.0  # between looks at the files
RENEW_BEFORE = timedelta(days=30)  # that a certificate of the local authority expires


@dataclass(frozen=True)
class Tls:
    """How a server speaks https, and how to have that again after a restart."""

    context: ssl.SSLContext
    hosts: Sequence[str]  # names and addresses that its certificate is good for
    kind: Literal["local-ca", "files"]
    expires: datetime  # when its certificate does, in UTC
    pem: bytes = field(repr=False)  # the certificate chain and the private key
    certificate: str = ""  # files: where they are
    key: str = ""
    left_out: Sequence[str] = ()  # hosts that the local authority cannot vouch for
    names: Sequence[str] = ()  # local-ca: further ones of this machine
    version: tuple[object, ...] = ()  # files: what is another one once they are others


def client_context(ca: Path | None, *, alone: bool = False) -> ssl.SSLContext:
    """Trust in the system's authorities, and in `ca` (PEM); or `alone` in that, where it is given.
    Raises `Failure` (not_readable)."""
    if ca is None:
        return ssl.create_default_context()
    try:
        # Neither a pipe nor a device is waited for.
        data = read_strictly(ca, MAX_PEM, own=False).decode("ascii", "ignore")
        if not data.strip():  # which would be taken for the system's
            raise ValueError("no certificate")
        if alone:
            return ssl.create_default_context(cadata=data)
        context = ssl.create_default_context()
        context.load_verify_locations(cadata=data)
    except (OSError, ValueError):  # ssl.SSLError is an OSError
        raise Failure("not_readable", Detail("certificate_file", path=shown(str(ca)))) from None
    return context


def tls_from_files(certificate: Path, key: Path) -> Tls:
    """A certificate chain and its key, PEM. Raises `Failure` (certificate_unusable)."""
    from signaling.certificates import KeyLocked, from_pem

    version = _version(certificate, key)  # before they are read: what comes later is found later
    try:
        # Others may own them, or have linked them there; neither a pipe nor a device is waited for.
        chain, private = (read_strictly(path, MAX_PEM, own=False) for path in (certificate, key))
        served = from_pem(chain, private)
    except KeyLocked:
        raise Failure("certificate_unusable", Detail("key_locked")) from None
    except (ssl.SSLError, ValueError):  # OpenSSL's reasons help nobody
        raise Failure("certificate_unusable", Detail("certificate_not_a_pair")) from None
    except OSError as error:
        raise Failure("certificate_unusable", os_detail(error, "unreadable")) from None
    kept = served.expires, served.pem, str(certificate), str(key)
    return Tls(served.context, served.hosts, "files", *kept, version=version)


async def renewed(tls: Tls, folder: Path) -> AsyncIterator[Tls]:
    """What is in force from now on, whenever that is another certificate: of files that have
    changed, or of the local authority in `folder` before the last one expires. Files that cannot be
    used are logged, and the certificate before goes on being served."""
    version = tls.version
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        if tls.kind == "files":
            now = await asyncio.to_thread(_version, tls.certificate, tls.key)
            if now == version:
                continue
            version = now
        elif tls.expires - datetime.now(UTC) > RENEW_BEFORE:
            continue
        try:
            if tls.kind == "files":
                new = await asyncio.to_thread(tls_from_files, Path(tls.certificate), Path(tls.key))
            else:
                new = await asyncio.to_thread(tls_from_local_ca, folder, tls.names)
        except Exception as error:  # whatever is in a file, the next one may be better
            why = error.code if isinstance(error, Failure) else type(error).__name__
            logger.warning("the new certificate cannot be used: %s", why)
            continue
        if tls.kind == "files" or new.expires > tls.expires:  # else the authority's own end is near
            tls = new
            yield tls


def _version(*paths: str | Path) -> tuple[object, ...]:
    """What is another one once these files are others."""
    found: list[object] = []
    for path in paths:
        with suppress(OSError):  # it is being replaced
            stat = os.stat(path)
            found.append((stat.st_mtime_ns, stat.st_ino, stat.st_size))
    return tuple(found)


def tls_from_local_ca(folder: Path, names: Sequence[str] = (), *, strict: bool = False) -> Tls:
    """A certificate for this machine and these names by its own authority, made where there is
    none. Raises `Failure`; with `strict` also when the authority cannot vouch for one of them."""
    served = _issue(local_authority(folder, names if strict else ()), folder, names)
    left_out = tuple(served.left_out)
    kept = served.expires, served.pem
    return Tls(served.context, served.hosts, "local-ca", *kept, left_out=left_out, names=names)


def local_authority(folder: Path, names: Sequence[str] = ()) -> Authority:
    """The local certificate authority in `folder`, made where there is none.

    Raises `Failure`, also when it was made without one of these names.
    """
    from signaling import certificates

    with _told(folder):
        known = [*certificates.own_names(), *names]
        authority = certificates.open_authority(folder, known, reachable(), _read)
        for name in names:
            if not authority.permits(name):
                raise Failure("local_ca_uncovered", shown(name))
        return authority


def _read(path: Path) -> bytes:
    """A file of the local authority. Raises `Failure`, and `FileNotFoundError`."""
    from signaling import certificates

    try:
        return read_strictly(path, MAX_PEM, secret=path.name == certificates.KEY)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unusable(path, "local_ca_file", error) from None


def _issue(authority: Authority, folder: Path, names: Sequence[str]) -> Served:
    from signaling import certificates

    with _told(folder):
        return authority.issue([*certificates.own_names(), *names], reachable())


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    from signaling.certificates import BadName, Unusable

    try:
        yield
    except BadName as error:
        raise Failure("host_invalid", shown(str(error)) or Detail("empty_name")) from None
    except Unusable:
        raise Failure("local_ca_unusable", str(folder)) from None
    except OSError as error:
        raise Failure("home_unwritable", os_detail(error)) from None
