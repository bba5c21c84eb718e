"""The local certificate authority, judged by OpenSSL's command and by real TLS connections."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from signaling import certificates
from signaling.certificates import BadName, Unusable, from_pem, open_authority


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "local-ca"


@pytest.fixture
def authority(folder):
    return open_authority(folder, ["pacs.example.org"], ["192.0.2.7", "2001:db8:1:2::7"])


def openssl(*arguments):
    return subprocess.run(
        ["openssl", *map(str, arguments)], capture_output=True, text=True, timeout=30
    )


async def served(context, path):
    """The leaf, PEM in a file, as a client that asks nothing receives it."""
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    pem = await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))
    server.close()
    path.write_text(pem)
    return path


async def accepts(context, trusted, host):
    """Whether a client that trusts this certificate alone takes the server to be `host`."""
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    client = ssl.create_default_context(cafile=trusted)
    try:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client, server_hostname=host
        )
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    except ssl.SSLCertVerificationError:
        return False
    finally:
        server.close()
    return True


def issue_unbounded(authority, folder, path, host):
    """A certificate that the key's thief would make: for any name, past our own check."""
    authority._names, authority._networks = [host], []
    names = x509.SubjectAlternativeName([x509.DNSName(host)])
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        certificates._builder(
            authority.certificate.subject, certificates._named("a thief"), key, authority._key
        )
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .sign(authority._key, hashes.SHA256())
    )
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.mark.process
async def test_openssl_holds_the_chain_for_each_kind_of_host(authority, tmp_path):
    got = authority.issue(
        ["pacs.example.org", "scanner.local", "a.b.internal"],
        ["10.1.2.3", "192.0.2.7", "fd00::5", "2001:db8:1:2:aaaa::1"],
    )
    assert got.left_out == ()
    leaf = await served(got.context, tmp_path / "leaf.pem")
    for kind, host in (
        ("hostname", "pacs.example.org"),
        ("hostname", "scanner.local"),
        ("hostname", "localhost"),
        ("ip", "10.1.2.3"),
        ("ip", "192.0.2.7"),
        ("ip", "fd00::5"),
        ("ip", "2001:db8:1:2:aaaa::1"),
        ("ip", "127.0.0.1"),
        ("ip", "::1"),
    ):
        assert host in got.hosts
        options = ("-x509_strict", "-purpose", "sslserver", "-CAfile", authority.path)
        done = openssl("verify", *options, f"-verify_{kind}", host, leaf)
        assert done.returncode == 0, done.stderr
    done = openssl("verify", "-CAfile", authority.path, "-verify_hostname", "other.local", leaf)
    assert "hostname mismatch" in done.stderr
    assert openssl("verify", leaf).returncode != 0


@pytest.mark.process
@pytest.mark.parametrize(
    ("host", "held"),
    [
        ("scanner.local", True),  # so that it is the constraint that refuses the others
        ("below.pacs.example.org", True),
        ("example.org", False),
        ("bank.example", False),
        ("notlocal", False),
    ],
)
def test_openssl_refuses_what_a_stolen_key_signs_outside_the_constraints(
    authority, folder, tmp_path, host, held
):
    leaf = issue_unbounded(authority, folder, tmp_path / "leaf.pem", host)
    done = openssl("verify", "-CAfile", authority.path, "-verify_hostname", host, leaf)
    assert (done.returncode == 0) is held
    assert held or "permitted subtree violation" in done.stderr


async def test_a_client_that_trusts_it_connects_and_one_that_does_not_refuses(authority, tmp_path):
    other = open_authority(tmp_path / "other", [], [])
    got = authority.issue(["scanner.local"], ["10.1.2.3"])
    assert await accepts(got.context, authority.path, "scanner.local")
    assert await accepts(got.context, authority.path, "10.1.2.3")
    assert await accepts(got.context, authority.path, "127.0.0.1")
    assert not await accepts(got.context, authority.path, "elsewhere.local")
    assert not await accepts(got.context, other.path, "scanner.local")


async def test_a_host_outside_is_left_out_and_the_others_still_hold(authority):
    got = authority.issue(["www.example.com", "scanner.local"], ["198.51.100.1", "10.0.0.1"])
    assert got.left_out == ("www.example.com", "198.51.100.1")
    assert await accepts(got.context, authority.path, "scanner.local")
    assert not await accepts(got.context, authority.path, "www.example.com")


def test_the_authority_says_what_it_is_for_and_no_more(authority):
    found = authority.certificate.extensions
    constraints = found.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert found.get_extension_for_class(x509.NameConstraints).critical
    usage = found.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    certificate = authority.certificate
    lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert timedelta(days=3652) <= lasts <= timedelta(days=3654)


def test_what_it_may_vouch_for(authority):
    permitted = (
        "10.9.9.9 172.31.0.1 192.168.1.1 127.3.2.1 169.254.1.1 100.64.0.1 fd12::1 fe80::1 ::1"
    )
    names = "a.local x.internal y.home.arpa localhost z.lan pacs.example.org"
    for host in (*permitted.split(), *names.split(), "192.0.2.7", "2001:db8:1:2:ffff::"):
        assert authority.permits(host), host
    refused = "8.8.8.8 172.32.0.1 192.0.2.8 100.128.0.1 2001:db8:1:3::1 ::2 example.org evillocal"
    for host in refused.split():
        assert not authority.permits(host), host


async def test_a_leaf_is_fresh_short_lived_and_leaves_nothing_on_the_disk(
    authority, folder, tmp_path, monkeypatch
):
    spare = tmp_path / "spare"
    spare.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(spare))
    paths = []
    for number in range(2):
        got = authority.issue(["scanner.local"], [])
        paths.append(await served(got.context, tmp_path / f"{number}.pem"))
    one, other = (x509.load_pem_x509_certificate(path.read_bytes()) for path in paths)
    assert one.public_key() != other.public_key()
    assert one.not_valid_after_utc - one.not_valid_before_utc == timedelta(days=397)
    assert one.not_valid_before_utc < datetime.now(UTC) - timedelta(hours=23)
    assert list(spare.iterdir()) == []
    assert sorted(p.name for p in folder.iterdir()) == ["handover-local-ca.crt", "key.pem"]


@pytest.mark.process
def test_it_is_made_once_kept_private_and_shown_as_openssl_shows_it(authority, folder):
    again = open_authority(folder, ["another.example.org"], [])
    assert again.fingerprint == authority.fingerprint
    assert not again.permits("another.example.org")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "key.pem").stat().st_mode & 0o777 == 0o600
    done = openssl("x509", "-in", authority.path, "-noout", "-fingerprint", "-sha256")
    assert done.stdout.strip().partition("=")[2] == authority.fingerprint
    assert [p.name for p in folder.parent.iterdir()] == ["local-ca"]


def test_many_at_once_get_one_and_the_same(folder):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: open_authority(folder, [], []).fingerprint, range(8)))
    assert len(set(found)) == 1
    assert [p.name for p in folder.parent.iterdir()] == ["local-ca"]


@pytest.mark.parametrize("harm", ["no key", "no certificate", "torn", "another's key", "empty"])
def test_damaged_files_are_never_used_and_never_replaced(authority, folder, tmp_path, harm):
    key = folder / "key.pem"
    if harm == "no key":
        key.unlink()
    elif harm == "no certificate":
        authority.path.unlink()
    elif harm == "torn":
        authority.path.write_bytes(authority.path.read_bytes()[:200])
    elif harm == "another's key":
        open_authority(tmp_path / "other", [], [])
        key.write_bytes((tmp_path / "other" / "key.pem").read_bytes())
    else:
        key.write_bytes(b"")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(Unusable):
        open_authority(folder, [], [])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_an_expired_authority_is_not_used(folder, monkeypatch):
    monkeypatch.setattr(certificates, "AUTHORITY_DAYS", 1)
    open_authority(folder, [], [])
    later = datetime.now(UTC) + timedelta(days=2)

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return later

    monkeypatch.setattr(certificates, "datetime", Later)
    with pytest.raises(Unusable):
        open_authority(folder, [], [])


@pytest.mark.parametrize(
    "name", ["", "a b", "ü.local", "*.local", "-a.local", "1.2.3.400", "-", "a" * 260]
)
def test_what_is_no_host_is_refused_before_anything_is_made(folder, name):
    with pytest.raises(BadName):
        open_authority(folder, [name], [])
    assert not folder.exists()


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("dev", ["dev.local"]),
        ("Scanner7.Clinic.Example", ["scanner7.local", "scanner7.clinic.example"]),
        ("under_score", []),
    ],
)
def test_a_bare_host_name_never_becomes_a_top_level_to_vouch_for(monkeypatch, host, names):
    monkeypatch.setattr("socket.gethostname", lambda: host)
    assert certificates.own_names() == names


@pytest.mark.process
async def test_files_serve_the_hosts_they_name(tmp_path):
    done = openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-days", "2", "-subj", "/CN=x"),
        *("-addext", "subjectAltName=DNS:files.example,DNS:*.example,IP:192.0.2.9"),
        *("-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"),
    )
    assert done.returncode == 0, done.stderr
    chain, key = ((tmp_path / name).read_bytes() for name in ("cert.pem", "key.pem"))
    got = from_pem(chain, key)
    assert got.hosts == ("files.example", "*.example", "192.0.2.9")
    assert await accepts(got.context, tmp_path / "cert.pem", "files.example")
    assert from_pem(chain + key, chain + key).hosts == got.hosts
    with pytest.raises(ssl.SSLError):
        from_pem(chain, b"not a key")
