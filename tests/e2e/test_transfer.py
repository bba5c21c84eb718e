"""Whole transfers between real processes."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys

import pytest
from joserfc import jws as joserfc_jws
from joserfc.jwk import OKPKey
from jwcrypto import jwk as jwcrypto_jwk
from jwcrypto import jws as jwcrypto_jws

from p2p.lanes.webrtc import available

from .harness import Peer, sha256sums


def finish(*processes):
    return [process.end() for process in processes]


@pytest.mark.parametrize("engines", list(itertools.product(available(), repeat=2)), ids="-".join)
def test_every_pairing_of_engines_delivers_dicom_files_unaltered(
    sender, recipient, out, dicom, engines
):
    sending, link = sender.send("--auto", "--engine", engines[0], dicom)
    receiving = recipient.receive(link, out, "--auto", "--engine", engines[1])
    (code, last), (sent_code, sent_last) = finish(receiving, sending)
    assert (code, sent_code) == (0, 0)
    assert last["event"] == sent_last["event"] == "complete"
    assert sha256sums(out / "test_files") == sha256sums(dicom)
    assert len(sha256sums(dicom)) > 100
    assert sorted(p.name for p in out.iterdir()) == ["test_files"]
    # Both hold the same receipt, and the same digits were shown.
    one, other = recipient.receipts()[0], sender.receipts()[0]
    assert one.read_bytes() == other.read_bytes()
    assert str(one) == last["receipt"]
    digits = [e["digits"] for p in (sending, receiving) for e in p.events if e["event"] == "digits"]
    assert len(set(digits)) == 1
    assert len(digits) == 2
    progress = [e for e in receiving.events if e["event"] == "progress"]
    assert progress[-1]["verified"] == progress[-1]["total"]


def test_both_sides_may_have_one_home(sender, some, out):
    """A person tries it on one machine. What one side notes is not the other's."""
    (out / some.name).mkdir(parents=True)  # so that it is placed under another name
    sending, link = sender.send("--auto", some)
    receiving = sender.receive(link, out, "--auto")
    assert [code for code, _ in finish(receiving, sending)] == [0, 0]
    (receipt,) = sender.receipts()
    assert sender.run("transfers").stderr.startswith("There are no unfinished")
    assert sender.run("audit", "verify").returncode == 0
    ends = [one["role"] for one in sender.audit() if one["event"] == "transfer"]
    assert ends == ["recipient", "sender"]
    done = sender.run("receipt", "verify", str(receipt), "--files", str(out))
    assert "unchanged" in done.stdout, done.stderr


def test_the_receipt_verifies_with_the_files_with_two_jose_libraries_and_years_later(
    sender, recipient, out, dicom
):
    sending, link = sender.send("--auto", dicom)
    finish(recipient.receive(link, out, "--auto"), sending)
    (path,) = recipient.receipts()
    receipt = json.loads(path.read_bytes())
    payload = json.loads(jwcrypto_jws.base64url_decode(receipt["payload"]))
    for number, role in enumerate(("recipient", "sender")):
        key = payload[role]["jwk"]
        joserfc_jws.deserialize_json(
            {"payload": receipt["payload"], "signatures": [receipt["signatures"][number]]},
            OKPKey.import_key(key),
            algorithms=["Ed25519"],
        )
        token = jwcrypto_jws.JWS()
        token.deserialize(path.read_text())
        token.allowed_algs = ["Ed25519"]
        token.verify(jwcrypto_jwk.JWK(**key))
    text = json.dumps(payload)
    assert "test_files" not in text
    assert ".dcm" not in text
    done = recipient.run("receipt", "verify", str(path), "--files", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Valid: ")
    assert "recipient    this computer’s own key" in done.stdout
    assert "sender       contact “" in done.stdout
    assert "every delivered file is unchanged" in done.stdout
    for level in (dicom, dicom.parent):  # whichever of the two somebody thinks of
        mine = sender.run("receipt", "verify", str(sender.receipts()[0]), "--files", str(level))
        assert mine.returncode == 0, mine.stderr
    assert ".dcm" in recipient.run("receipt", "show", str(path)).stdout
    # One file can be shown to somebody else, with no other name.
    one, other = [p.relative_to(out).as_posix() for p in sorted(out.rglob("*.dcm"))[:2]]
    shown = out.parent / "shown.json"
    asked = ("receipt", "disclose", str(path), "--entry", one, "--output", str(shown))
    assert recipient.run(*asked).returncode == 0
    assert other not in shown.read_text()
    done = sender.run("receipt", "verify", str(path), "--disclosure", str(shown))
    assert done.returncode == 0, done.stderr
    assert one in done.stdout
    shown.write_text(shown.read_text().replace(one, other))
    assert sender.run("receipt", "verify", str(path), "--disclosure", str(shown)).returncode == 1
    # A changed file is named; a changed receipt does not hold.
    victim = next(p for p in (out / "test_files").rglob("*.dcm") if p.is_file())
    victim.write_bytes(b"changed")
    done = recipient.run("receipt", "verify", str(path), "--files", str(out))
    assert done.returncode == 1
    assert victim.name in done.stderr
    path.write_text(path.read_text().replace(receipt["payload"][:20], "A" * 20))
    done = recipient.run("receipt", "verify", str(path))
    assert done.returncode == 1
    assert done.stdout.startswith("Not valid: ")


def test_each_audit_log_holds_and_the_receipt_carries_both_heads(sender, recipient, out, some):
    for _ in range(2):
        sending, link = sender.send("--auto", some)
        finish(recipient.receive(link, out, "--auto"), sending)
    for peer in (sender, recipient):
        done = peer.run("audit", "verify")
        assert done.returncode == 0
        entries = peer.audit()
        assert f"{len(entries)} entries" in done.stdout
        ends = [one["ending"] for one in entries if one["event"] == "transfer"]
        assert ends == ["complete", "complete"]
        assert "study" not in json.dumps(entries)
    # The second receipt carries the heads as they were when it was signed.
    newest = max(recipient.receipts(), key=lambda p: p.stat().st_mtime_ns)
    payload = json.loads(jwcrypto_jws.base64url_decode(json.loads(newest.read_bytes())["payload"]))
    for peer, role in ((sender, "sender"), (recipient, "recipient")):
        told = [one["prev"] for one in peer.audit()]
        before = max(i for i, one in enumerate(peer.audit()) if one["event"] == "transfer")
        assert payload[role]["audit_head"] in told[2 : before + 1]
    log = sender.home / "audit.jsonl"
    whole = log.read_text()
    log.write_text(whole.splitlines(keepends=True)[0])
    done = sender.run("audit", "verify")
    assert done.returncode == 1
    assert ".receipt.json: " in done.stderr
    log.write_text(whole)
    changed = next(i for i, one in enumerate(whole.splitlines(), 1) if "complete" in one)
    log.write_text(log.read_text().replace("complete", "declined", 1))
    done = sender.run("audit", "verify")
    assert done.returncode == 1
    assert f"line {changed + 1}" in done.stderr
    assert [c for c in (out.iterdir())].__len__() == 2
    assert (out / "study (1)").is_dir()


def test_names_times_empties_and_long_paths_are_preserved(sender, recipient, out, tmp_path):
    root = tmp_path / "Übersicht 漢字"
    deep = root
    while len(os.fsencode(deep.relative_to(tmp_path))) < 750:
        deep /= "very long folder name " * 5 + "end"
    deep.mkdir(parents=True)
    (deep / "مرحبا.dcm").write_bytes(b"x")
    (root / "empty folder").mkdir()
    (root / "empty file").write_bytes(b"")
    (root / "scan 12:30.dcm").write_bytes(b"y")
    (root / "link").symlink_to("empty file")
    os.mkfifo(root / "fifo")
    os.utime(root / "empty file", ns=(0, 1_234_567_890_123_456_000))
    os.utime(root / "empty folder", ns=(0, 1_111_111_111_000_000_000))
    sending, link = sender.send("--auto", root)
    receiving = recipient.receive(link, out, "--auto")
    (code, _), (sent_code, _) = finish(receiving, sending)
    assert (code, sent_code) == (0, 0)
    warnings = {os.path.basename(e["path"]) for e in sending.events if e["event"] == "warning"}
    assert warnings == {"link", "fifo", "scan 12:30.dcm"}
    twin = out / root.name
    assert (twin / deep.relative_to(root) / "مرحبا.dcm").read_bytes() == b"x"
    assert (twin / "empty folder").stat().st_mtime_ns == 1_111_111_111_000_000_000
    assert (twin / "empty file").stat().st_mtime_ns == 1_234_567_890_123_456_000
    assert (twin / "scan 12_30.dcm").read_bytes() == b"y"
    assert not (twin / "link").exists()


def test_several_files_and_folders_go_in_one_transfer(sender, recipient, out, some, tmp_path):
    (tmp_path / "report.pdf").write_bytes(b"%PDF")
    sending, link = sender.send("--auto", some, tmp_path / "report.pdf")
    finish(recipient.receive(link, out, "--auto"), sending)
    assert sorted(p.name for p in out.iterdir()) == ["report.pdf", "study"]


def test_the_link_by_argument_or_standard_input_works_as_well(sender, recipient, out, some):
    sending, link = sender.send("--auto", some)
    done = recipient.run("receive", link, "--auto", "--output", str(out))
    assert done.returncode == 0, done.stderr
    assert "Delivered and verified" in done.stderr
    sending.end()
    sending, link = sender.send("--auto", some)
    done = subprocess.run(
        recipient.command("receive", "--auto", "--output", str(out)),
        input=link + "\n",
        env=recipient.environment(),
        text=True,
        capture_output=True,
        start_new_session=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    sending.end()


def test_a_sparse_file_stays_sparse(sender, recipient, out, tmp_path):
    with open(tmp_path / "sparse.img", "wb") as file:
        file.truncate(300_000_000)
        file.seek(100_000_123)
        file.write(os.urandom(100_000))
    sending, link = sender.send("--auto", tmp_path / "sparse.img")
    (code, _), _ = finish(recipient.receive(link, out, "--auto"), sending)
    assert code == 0
    assert (out / "sparse.img").stat().st_size == 300_000_000
    assert (out / "sparse.img").stat().st_blocks * 512 < 10**6
    assert subprocess.run(["cmp", tmp_path / "sparse.img", out / "sparse.img"]).returncode == 0


def test_a_source_that_changes_while_it_is_sent_fails_by_name_and_the_others_arrive(
    sender, recipient, out, tmp_path
):
    root = tmp_path / "study"
    root.mkdir()
    for name in ("1 before", "2 changing", "3 after"):
        (root / name).write_bytes(os.urandom(30_000_000))
    sending, link = sender.send("--auto", root)
    receiving = recipient.receive(link, out, "--auto")
    sending.wait_for("state", state="accepted")
    with open(root / "2 changing", "r+b") as file:
        file.seek(25_000_000)
        file.write(b"changed")
    (code, last), (sent_code, sent_last) = finish(receiving, sending)
    assert (code, sent_code) == (3, 3)
    for error in (last, sent_last):
        assert error["code"] == "incomplete"
        assert error["failed"] == [["study/2 changing", "changed while being sent"]]
        assert error["receipt"]
    assert sorted(p.name for p in (out / "study").iterdir()) == ["1 before", "3 after"]
    shown = recipient.run("receipt", "verify", last["receipt"], "--files", str(out))
    assert shown.returncode == 0
    assert "outcome      incomplete" in shown.stdout
    assert "3 of 4 entries" in shown.stdout
    assert recipient.audit()[-1]["ending"] == "incomplete"


def test_a_server_that_dies_and_comes_back_empty_disturbs_nothing(
    sender, recipient, out, tmp_path, unused_tcp_port
):
    (tmp_path / "big").write_bytes(os.urandom(60_000_000))
    operator = Peer(tmp_path / "operator")

    def serve():
        process = subprocess.Popen(
            operator.command(
                "serve", "--listen", f"127.0.0.1:{unused_tcp_port}", "--log-level", "warning"
            ),
            env=operator.environment(),
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr
        assert "Serving on port" in process.stderr.readline()
        return process

    server = serve()
    sending, link = sender.send(
        "--auto", tmp_path / "big", HANDOVER_SERVER=f"http://127.0.0.1:{unused_tcp_port}"
    )
    sending.wait_for("state", state="waiting")
    server.kill()
    server.wait()
    sending.wait_for("state", state="server_lost")
    server.stderr.close()
    server = serve()
    sending.wait_for("state", state="waiting")
    receiving = recipient.receive(link, out, "--auto")
    receiving.wait_for("state", state="accepted")
    server.kill()
    (code, _), (sent_code, _) = finish(receiving, sending)
    assert (code, sent_code) == (0, 0)
    assert sha256sums(out)["./big"] == sha256sums(tmp_path)["./big"]
    server.wait()
    server.stderr.close()


def test_the_demo_runs(recipient):
    done = recipient.run("demo")
    assert done.returncode == 0, done.stderr
    assert "every delivered file is unchanged" in done.stdout
    assert "carries 2 signatures" in done.stdout


def test_the_link_waits_for_no_engine_and_no_listing(sender, tmp_path):
    """Seconds are measured by the benchmark; here is why they are few, whatever the size."""
    code = "import sys, p2p.cli; print({'aiortc', 'aiolibdatachannel', 'av'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=sender.environment(), capture_output=True, text=True
    )
    assert done.stdout == "set()\n", done
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(10**12)
    sending, _ = sender.send("--auto", tmp_path / "huge")
    assert [event["event"] for event in sending.events] == ["link"]
    sending.signal(signal.SIGINT)
    assert sending.end()[0] == 8
