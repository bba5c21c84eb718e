"""What stays on the machine."""

from __future__ import annotations

import multiprocessing
import os
import stat

import pytest

from p2p.connect.addresses import reachable
from p2p.protocol.audit import GENESIS, BadLine
from p2p.protocol.errors import Failure
from p2p.protocol.manifest import CHANGED, Entry, Manifest, Results, results_root
from p2p.protocol.receipt import fingerprint
from p2p.state.folder import Folder, default_path, now_text
from p2p.state.home import Home

ONE, OTHER = b"\x01" * 32, b"\x02" * 32


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path / "home")


def test_an_identity_is_made_once_and_kept_to_its_owner(home):
    first = home.identity.load()
    assert home.identity.load() == first
    assert first.label
    assert stat.S_IMODE((home.path / "identity.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.path.stat().st_mode) == 0o700
    assert home.identity.set_label(" Radiology ").label == "Radiology"
    assert home.identity.load().public == first.public


@pytest.mark.parametrize("label", ["", "  ", "x" * 129, "a\nb", "a\x1b[31m", "\u202ex"])
def test_a_label_is_plain_text(home, label):
    with pytest.raises(Failure):
        home.identity.set_label(label)


def test_a_damaged_identity_is_said_and_not_replaced(home):
    home.identity.load()
    (home.path / "identity.json").write_text("{}")
    with pytest.raises(Failure) as caught:
        home.identity.load()
    assert caught.value.code == "not_readable"
    assert (home.path / "identity.json").read_text() == "{}"


def test_contacts_are_pinned_found_renamed_and_removed(home):
    home.contacts.pin(ONE, "Mary", verified=False)
    home.contacts.pin(ONE, "Mary", verified=True)
    home.contacts.pin(ONE, "another label", verified=False)
    assert list(home.contacts.all()) == ["Mary"]
    assert home.contacts.get("MARY").verified
    assert home.contacts.known(ONE, "whatever")[0].name == "Mary"
    assert home.contacts.known(OTHER, "John") == (None, "")
    for label in ("Mary ", " MARY", "mary"):
        assert home.contacts.known(OTHER, label) == (None, "Mary")
    home.contacts.pin(OTHER, " Mary", verified=False)  # not over another's key, whoever calls
    assert home.contacts.get("Mary").identity == ONE
    home.contacts.remove(next(n for n, c in home.contacts.all().items() if c.identity == OTHER))
    home.contacts.pin(OTHER, "", verified=False)
    assert len(home.contacts.all()) == 2
    home.contacts.rename("mary", "St. Mary")
    assert home.contacts.get("st. mary").identity == ONE
    with pytest.raises(Failure):
        home.contacts.rename("St. Mary", "a\nb")
    home.contacts.pin(b"\x03" * 32, "John", verified=False)
    with pytest.raises(Failure):
        home.contacts.rename("John", "ST. MARY")
    home.contacts.remove("John")
    with pytest.raises(Failure) as caught:
        home.contacts.get("John")
    assert caught.value.code == "contact_unknown"


def test_a_key_that_is_known_is_never_taken_for_another(home):
    home.contacts.pin(ONE, "pc", verified=False)
    home.contacts.rename("pc", "Bob")
    home.contacts.pin(OTHER, "pc", verified=False)
    assert home.contacts.known(ONE, "pc")[0].name == "Bob"
    assert home.contacts.known(OTHER, "pc")[0].name == "pc"


@pytest.mark.parametrize(
    "imitation",
    ["Klinik  Nord", "Klinik\u00a0Nord", "Klinik\u3164Nord", "Kl\u0456nik Nord", "KIinik N0rd",
     "\uff2blinik Nord", "K\u034flinik Nord", "K\u0323linik Nord", "Klinik\u2800Nord"],
)  # fmt: skip
def test_no_two_contacts_look_alike(home, imitation):
    """Whoever imitates a contact is told of it, is pinned by key, and nothing is renamed to that."""
    home.contacts.pin(ONE, "Klinik Nord", verified=True)
    assert home.contacts.known(OTHER, imitation) == (None, "Klinik Nord")
    home.contacts.pin(OTHER, imitation, verified=False)
    name = fingerprint(OTHER)
    assert list(home.contacts.all()) == ["Klinik Nord", name]
    for new in (imitation, "klinik nord"):
        with pytest.raises(Failure) as caught:
            home.contacts.rename(name, new)
        assert caught.value.code == "name_refused"
    home.contacts.rename("Klinik Nord", "KLINIK NORD")  # its own name


def test_a_contact_that_takes_anothers_name_is_warned_of(home):
    home.contacts.pin(ONE, "Klinik Nord", verified=True)
    home.contacts.pin(OTHER, "Mallory", verified=True)
    contact, changed = home.contacts.known(OTHER, "Klinik N\u043erd")
    assert (contact.name, changed) == ("Mallory", "Klinik Nord")
    assert home.contacts.known(OTHER, "mallory")[1] == ""


def test_a_contact_is_pinned_under_what_is_shown_of_its_label(home):
    home.contacts.pin(ONE, " Klinik\u200b\u00a0 \u201eNord\u201c", verified=False)
    assert list(home.contacts.all()) == ["Klinik 'Nord'"]


def test_damaged_contacts_are_said(home):
    (home.path / "contacts.json").write_text("[1]")
    with pytest.raises(Failure):
        home.contacts.all()


def test_an_annex_gives_back_what_the_root_is_made_of(home):
    manifest = Manifest(
        (Entry("d", "directory", 0, 5), Entry("d/a", "file", 3, 5), Entry("b", "file", 1, 5)),
        b"\x09" * 32,
    )
    results = Results(3)
    results.delivered(1, b"\x0a" * 32)
    results.failed(2, CHANGED)
    home.receipts.store_annex(ONE[:16], manifest, results, {0: "d (1)", 1: "d (1)/a"})
    again, found, placed = home.receipts.annex(ONE[:16])
    assert results_root(again, found) == results_root(manifest, results)
    assert placed == {0: "d (1)", 1: "d (1)/a", 2: "b"}
    with pytest.raises(Failure):
        home.receipts.annex(OTHER[:16])
    home.receipts.annex_path(ONE[:16]).write_text("{}")
    with pytest.raises(Failure):
        home.receipts.annex(ONE[:16])


@pytest.mark.parametrize("placed", ["/etc/passwd", "../d", "d/../../d", "d//a"])
def test_an_annex_that_leads_out_of_the_folder_is_damaged(home, placed):
    """The root does not say where an entry was placed."""
    manifest = Manifest((Entry("d", "directory", 0, 5),), b"\x09" * 32)
    home.receipts.store_annex(ONE[:16], manifest, Results(1), {0: placed})
    with pytest.raises(Failure):
        home.receipts.annex(ONE[:16])


def test_the_audit_log_chains_and_its_head_moves(home):
    assert home.audit.head() == GENESIS
    assert home.audit.verify().lines == 0
    heads = set()
    for number in range(5):
        home.audit.append("transfer", {"n": number})
        heads.add(home.audit.head())
    assert len(heads) == 5
    assert home.audit.verify() == (5, home.audit.head(), 0)
    assert stat.S_IMODE(home.audit.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("keep", [1, 40, -1])
@pytest.mark.parametrize("lines", [1, 3])
def test_a_line_torn_by_a_crash_is_closed_and_the_log_still_holds(home, keep, lines):
    for number in range(lines):
        home.audit.append("transfer", {"n": number})
    data = home.audit.path.read_bytes()
    last = data.rstrip(b"\n").rfind(b"\n") + 1
    home.audit.path.write_bytes(data[: last + keep] if keep > 0 else data[:keep])
    with pytest.raises(BadLine):
        home.audit.verify()
    home.audit.append("transfer", {"n": 9})
    assert home.audit.verify().lines == lines + 2


def test_tampering_is_named_by_its_line(home):
    for number in range(5):
        home.audit.append("transfer", {"n": number})
    lines = home.audit.path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b'"n":2', b'"n":7')
    home.audit.path.write_bytes(b"".join(lines))
    with pytest.raises(BadLine) as caught:
        home.audit.verify()
    assert caught.value.number == 4


def append_many(path, count):
    for _ in range(count):
        Home(path).audit.append("transfer", {})


@pytest.mark.process
def test_two_processes_append_to_one_log(home):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(home.path, 20)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert home.audit.verify().lines == 40


def test_a_home_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(Failure) as caught:
        Home(tmp_path / "file")
    assert caught.value.code == "home_unwritable"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch):
    """As services and containers run: no HOME, and a number that no user has."""

    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("HANDOVER_HOME", raising=False)
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    with pytest.raises(Failure, match="HANDOVER_HOME") as caught:
        Home()
    assert caught.value.code == "home_unwritable"


def test_the_environment_moves_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HANDOVER_HOME", str(tmp_path))
    assert default_path() == tmp_path
    monkeypatch.delenv("HANDOVER_HOME")
    assert default_path().name == "handover"


def test_a_failed_replacement_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    Folder(tmp_path).write(path.name, b"old")

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(Failure) as caught:
        Folder(tmp_path).write(path.name, b"new")
    assert "no space left" in caught.value.sentence
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_times_are_rfc_3339_in_utc():
    assert now_text().endswith("Z")
    assert "T" in now_text()


def test_addresses_of_this_machine_are_ones_a_colleague_can_reach():
    for address in reachable():
        assert not address.startswith(("127.", "::1", "fe80", "169.254"))
