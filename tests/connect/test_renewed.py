"""A certificate that is replaced while the server runs."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from p2p.connect import certificates, rendezvous
from p2p.connect.certificates import tls_from_files, tls_from_local_ca
from signaling.certificates import open_authority


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Writes a new certificate into the files that a server was started with."""
    monkeypatch.setattr(certificates, "RENEW_SECONDS", 0.05)
    authority = open_authority(tmp_path / "ca", [], [])
    path = tmp_path / "server.pem"

    def write(data=None):
        beside = tmp_path / "new.pem"
        beside.write_bytes(data if data is not None else authority.issue([], []).pem)
        beside.replace(path)
        return path

    return write


def serial(port):
    """Of the certificate that a client is shown now."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain) as wire,
    ):
        shown = wire.getpeercert(binary_form=True)
    assert shown
    return x509.load_der_x509_certificate(shown).serial_number


async def until(port, known):
    """Wait for another certificate than these."""
    async with asyncio.timeout(10):
        while (now := await asyncio.to_thread(serial, port)) in known:
            await asyncio.sleep(0.05)
    return now


async def test_new_files_are_served_without_a_restart(files, caplog):
    caplog.set_level(logging.INFO)
    path = files()
    async with rendezvous.open_server(("127.0.0.1", 0), tls_from_files(path, path)) as server:
        first = await asyncio.to_thread(serial, server.port)
        files()
        second = await until(server.port, {first})
        files(b"no certificate")
        async with asyncio.timeout(10):
            while "cannot be used" not in caplog.text:
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(serial, server.port) == second
        path.unlink()
        await asyncio.sleep(0.3)
        files()
        await until(server.port, {first, second})
    assert "the new certificate cannot be used: certificate_unusable" in caplog.text
    assert caplog.text.count("certificate expires") == 3
    assert str(path) not in caplog.text


async def test_the_local_authority_renews_its_own_before_it_expires(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "RENEW_SECONDS", 0.05)
    folder = tmp_path / "ca"
    tls = tls_from_local_ca(folder, ["pacs.local"])
    listen = ("127.0.0.1", 0)
    async with rendezvous.open_server(listen, tls, local_ca=folder) as server:
        first = await asyncio.to_thread(serial, server.port)
        await asyncio.sleep(0.3)
        assert await asyncio.to_thread(serial, server.port) == first
    monkeypatch.setattr(certificates, "RENEW_BEFORE", timedelta(days=397))
    async with rendezvous.open_server(listen, tls, local_ca=folder) as server:
        await until(server.port, {first})
        assert server.certificate_expires
        assert server.certificate_expires > datetime.now(UTC) + timedelta(days=390)


async def test_a_certificate_that_expires_soon_is_a_warning(files, caplog):
    path = files()
    tls = tls_from_files(path, path)
    object.__setattr__(tls, "expires", datetime.now(UTC) + timedelta(days=3))
    async with rendezvous.open_server(("127.0.0.1", 0), tls):
        await asyncio.sleep(0.02)
    assert "certificate expires" in caplog.text


async def test_a_certificate_with_another_kind_of_key_takes_its_place(files):
    """OpenSSL keeps one of each kind, in one context."""
    path = files()
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    made = made.public_key(key.public_key()).serial_number(7)
    made = made.not_valid_before(now).not_valid_after(now + timedelta(days=90))
    shown = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    async with rendezvous.open_server(("127.0.0.1", 0), tls_from_files(path, path)) as server:
        first = await asyncio.to_thread(serial, server.port)
        files(shown + secret)
        assert await until(server.port, {first}) == 7


async def test_near_the_end_of_the_authority_nothing_is_made_over_and_over(tmp_path, monkeypatch):
    """A new certificate would end when the authority does, as the last one."""
    monkeypatch.setattr(certificates, "RENEW_SECONDS", 0.02)
    folder = tmp_path / "ca"
    tls = tls_from_local_ca(folder)
    made = []

    def of_the_last_day(where, names):
        new = tls_from_local_ca(where, names)
        made.append(new)
        object.__setattr__(new, "expires", datetime.now(UTC) + timedelta(days=1))
        return new

    monkeypatch.setattr(certificates, "tls_from_local_ca", of_the_last_day)
    last = of_the_last_day(folder, ())
    object.__setattr__(tls, "expires", last.expires + timedelta(days=1))
    async with rendezvous.open_server(("127.0.0.1", 0), tls, local_ca=folder) as server:
        first = await asyncio.to_thread(serial, server.port)
        async with asyncio.timeout(10):
            while len(made) < 4:
                await asyncio.sleep(0.02)
        assert await asyncio.to_thread(serial, server.port) == first


@pytest.mark.parametrize("error", [ValueError("x"), TypeError("x"), RecursionError()])
async def test_a_file_that_breaks_whoever_reads_it_leaves_the_last_one_in_force(
    files, monkeypatch, caplog, error
):
    path = files()
    async with rendezvous.open_server(("127.0.0.1", 0), tls_from_files(path, path)) as server:
        first = await asyncio.to_thread(serial, server.port)

        def breaks(*paths):
            raise error

        with monkeypatch.context() as broken:
            broken.setattr(certificates, "tls_from_files", breaks)
            files()
            async with asyncio.timeout(10):
                while "cannot be used" not in caplog.text:
                    await asyncio.sleep(0.02)
        assert f"cannot be used: {type(error).__name__}" in caplog.text
        assert await asyncio.to_thread(serial, server.port) == first
        files()
        await until(server.port, {first})
