"""Writes the vectors beside it: `python tests/vectors/make.py`. Fixed inputs, so nothing changes.

Each file holds a list of cases: a `name`, what goes in, and `expect`, which is the result or
`{"error": code}`. Binary values are hex. `noise.json` is not ours: see `noise.source`.
A change here is a change of the wire format: PROTOCOL.md changes with it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import zstandard
from nacl import bindings
from nacl.signing import SigningKey

from p2p import compression
from p2p.protocol import (
    audit,
    checkpoint,
    codec,
    disclosure,
    handshake,
    ice,
    link,
    manifest,
    noise,
    policy,
    receipt,
    seal,
    signal,
)
from p2p.protocol.errors import FAILURES, HandoverError
from p2p.protocol.suite import SUITE_1

HERE = Path(__file__).parent
SECRET = bytes(range(32))
S_KEY, R_KEY = SigningKey(b"\x01" * 32), SigningKey(b"\x02" * 32)
S_ID, R_ID = bytes(S_KEY.verify_key), bytes(R_KEY.verify_key)
KEYS = link.derive_keys(SECRET)
ATTEMPT_ID, NONCE_R, NONCE_S = b"\x0a" * 16, b"\x0b" * 16, b"\x0c" * 16
FP_S, FP_R = b"\x5a" * 32, b"\x5b" * 32
TRANSFER = b"\x77" * 16

Case = dict[str, Any]
b64 = codec.encode_base64url


def write(name: str, cases: list[Case]) -> None:
    names = [case["name"] for case in cases]
    assert len(set(names)) == len(names), f"{name}: a name twice"
    text = json.dumps(cases, indent=1, ensure_ascii=True, sort_keys=True)
    (HERE / f"{name}.json").write_text(text + "\n")


def outcome(call: Callable[[], Any]) -> Any:
    """What a call gives, or the error it must keep giving."""
    try:
        return call()
    except HandoverError as error:
        return {"error": error.code}


# --- json, base64url ------------------------------------------------------------------------------


def make_json() -> None:
    valid = [
        "{}",
        "[]",
        '""',
        "0",
        "-1",
        "true",
        "null",
        '{"a":[{"b":[[1]]}]}',
        ' {"a" : 1 }\n',
        '"\\u00e9\\ud83d\\ude00"',
        "9007199254740991",
        "-9007199254740991",
        '{"":0}',
    ]
    invalid = {
        "empty": b"",
        "cut off": b'{"a":1',
        "two values": b"{} {}",
        "duplicate member": b'{"a":1,"a":2}',
        "duplicate by escape": b'{"a":1,"\\u0061":2}',
        "float": b"1.0",
        "exponent": b"1e3",
        "NaN": b"NaN",
        "Infinity": b"[Infinity]",
        "-Infinity": b"-Infinity",
        "minus zero": b"-0",
        "above 2^53-1": b"9007199254740992",
        "below -(2^53-1)": b"-9007199254740992",
        "huge integer": b"1" * 5000,
        "lone surrogate": b'"\\ud800"',
        "lone surrogate in a name": b'{"\\udc00":1}',
        "reversed surrogates": b'"\\udc00\\ud800"',
        "too deep": b"[[[[[[[1]]]]]]]",
        "too deep objects": b'{"a":{"a":{"a":{"a":{"a":{"a":{"a":1}}}}}}}',
        "absurdly deep": b"[" * 3000 + b"]" * 3000,
        "not UTF-8": b'"\xff"',
        "overlong UTF-8": b'"\xc0\x80"',
        "UTF-8 surrogate": b'"\xed\xa0\x80"',
        "byte order mark": b"\xef\xbb\xbf{}",
        "comment": b"{} // x",
        "single quotes": b"{'a':1}",
        "trailing comma": b"[1,]",
        "control character": b'"\x01"',
        "raw newline in text": b'"a\nb"',
        "leading zero": b"01",
        "plus": b"+1",
        "hex": b"0x1",
        "bad escape": b'"\\x41"',
        "UTF-16": '{"a":1}'.encode("utf-16"),
        "NUL behind": b"{}\x00",
    }
    cases: list[Case] = [
        {
            "name": f"valid {i}",
            "data": text.encode().hex(),
            "expect": codec.decode_json(text.encode(), 100),
        }
        for i, text in enumerate(valid)
    ]
    cases += [
        {"name": n, "data": d.hex(), "limit": 10_000, "expect": {"error": "protocol"}}
        for n, d in invalid.items()
    ]
    cases.append(
        {
            "name": "above the limit",
            "data": b'"aaaa"'.hex(),
            "limit": 5,
            "expect": {"error": "protocol"},
        }
    )
    write("json", cases)


def make_base64url() -> None:
    cases: list[Case] = [
        {"name": f"{n} bytes", "text": b64(bytes(range(n))), "expect": bytes(range(n)).hex()}
        for n in (0, 1, 2, 3, 16, 32)
    ]
    for name, text in {
        "padding": "AA==",
        "plus": "AA+A",
        "slash": "AA/A",
        "length 1": "A",
        "trailing bits": "AB",
        "trailing bits 3": "AAB",
        "space": "AA A",
        "newline": "AAA\n",
        "not ASCII": "AAé",
        "dot": "AA.A",
        "equals inside": "A=AA",
        "length 5": "AAAAA",
    }.items():
        cases.append({"name": name, "text": text, "expect": {"error": "malformed"}})
    write("base64url", cases)


# --- link and keys --------------------------------------------------------------------------------


def make_link() -> None:
    k, c = b64(SECRET), b64(link.host_commitment(SECRET, S_ID))
    good = f"https://example.org/#1.{k}.{c}"
    valid = {
        "plain": good,
        "passphrase": good + ".p",
        "port": good.replace("org", "org:8443"),
        "http": good.replace("https", "http"),
        "IPv4": good.replace("example.org", "192.0.2.7:8080"),
        "IPv6": good.replace("example.org", "[2001:db8::1]:8080"),
        "no slash": good.replace("/#", "#"),
        "spaces around": f"  {good}\n",
    }
    invalid = {
        "empty": "",
        "no fragment": "https://example.org/",
        "empty fragment": "https://example.org/#",
        "only a version": "https://example.org/#1",
        "no commitment": f"https://example.org/#1.{k}",
        "version 2": good.replace("#1.", "#2."),
        "version missing": good.replace("#1.", "#."),
        "version 01": good.replace("#1.", "#01."),
        "ftp": good.replace("https", "ftp"),
        "javascript": f"javascript:#1.{k}.{c}",
        "no scheme": good.removeprefix("https:"),
        "no host": f"https:///#1.{k}.{c}",
        "user in host": good.replace("example", "a:b@example"),
        "path": good.replace("/#", "/r#"),
        "query": good.replace("/#", "/?a=1#"),
        "secret cut off": good.replace(k, k[:-1]),
        "secret too long": good.replace(k, k + "A"),
        "secret of 31 bytes": good.replace(k, b64(SECRET[:31])),
        "secret of 33 bytes": good.replace(k, b64(SECRET + b"x")),
        "commitment cut off": good[:-1],
        "commitment of 15 bytes": good.replace(c, b64(bytes(15))),
        "commitment of 17 bytes": good.replace(c, b64(bytes(17))),
        "trailing bits": good[:-1] + chr(ord(good[-1]) + 1),
        "padding": good.replace(k, k + "="),
        "unknown flag": good + ".q",
        "two flags": good + ".p.p",
        "empty flag": good + ".",
        "space inside": good.replace(k, k[:9] + " " + k[9:]),
        "not base64url": good.replace(k, "*" + k[1:]),
        "too long": good + ".p" * 2000,
        "bad port": good.replace("org", "org:port"),
        "port 65536": good.replace("org", "org:65536"),
        "bad IPv6": good.replace("example.org", "[2001:db8"),
        "control character in host": good.replace("example", "exa\x1bmple"),
        "percent in host": good.replace("example", "exa%2fmple"),
    }

    def read(text: str) -> Any:
        found = link.parse_link(text)
        return {
            "origin": found.origin,
            "secret": found.secret.hex(),
            "commitment": found.commitment.hex(),
            "passphrase": found.passphrase,
            "text": str(found),
        }

    cases = [
        {"name": n, "link": t, "expect": outcome(partial(read, t))}
        for n, t in {**valid, **invalid}.items()
    ]
    assert sum("error" in case["expect"] for case in cases) == len(invalid)
    write("link", cases)


def make_found_links() -> None:
    """A link in what people paste and browsers are given; and what has none."""
    k, c = b64(SECRET), b64(link.host_commitment(SECRET, S_ID))
    plain = f"https://example.org/#1.{k}.{c}"
    locked = plain + ".p"
    escaped = plain.replace(":", "%3A").replace("/", "%2F").replace("#", "%23")
    defended = plain.replace("-", "-2D").replace("_", "-5F").replace(":", "-3A")
    defended = defended.replace("#", "-23").replace("/", "_")
    starred = plain.replace("#", "*")
    texts = {
        "itself": plain,
        "itself with passphrase": locked,
        "in angle brackets": f"<{plain}>",
        "defended and wrapped behind its equals sign": (
            f"https://urldefense.proofpoint.com/v2/url?u=\n{defended}&d=x"
        ),
        "in parentheses": f"({locked})",
        "in quotation marks": f"\u201c{plain}\u201d",
        "full stop": plain + ".",
        "full stop after the flag": locked + ".",
        "comma": plain + ",",
        "greater than": plain + ">",
        "parenthesis": plain + ")",
        "blank": plain + " ",
        "line break": plain + "\r\n",
        "in a sentence": f"Please open {plain}, then call me. Thanks",
        "before a sentence": f"{plain}. please call",
        "wrapped": f"{plain[:40]}\n{plain[40:80]}\r\n{plain[80:]}\nRegards\n",
        "wrapped with blanks": f"{plain[:40]}  \n    {plain[40:]}",
        "wrapped in the host": f"{plain[:12]}\n{plain[12:]}",
        "wrapped before the flag": f"{plain}\n.p\n",
        "wrapped at a carriage return": f"{plain[:40]}\r{plain[40:]}",
        "quoted": f"> Hello,\n> {plain[:50]}\n> {plain[50:]}\n> Bye",
        "quoted twice": f">> {plain[:50]}\n>> {plain[50:]}",
        "quoted-printable": f"{plain[:50]}=\n{plain[50:]}",
        "another address before": f"https://example.com/help\n{plain}",
        "a mistyped one before": f"{plain[:-1]}{chr(ord(plain[-1]) + 1)} {plain}",
        "two links": f"{plain} {plain.replace('example', 'other')}",
        "%23": plain.replace("#", "%23"),
        "%2E": plain.replace("#1.", "#1%2E"),
        "%2e in the path": plain.replace("#1.", "%231%2e"),
        "encoded": escaped,
        "encoded twice": escaped.replace("%", "%25"),
        "encoded and wrapped": f"{escaped[:20]}\n{escaped[20:]}",
        "wrapped in an escape": escaped.replace("%23", "%2\n3"),
        "zero-width space": plain + "\u200b",
        "zero-width space inside": plain[:50] + "\u200b" + plain[50:],
        "zero-width space, encoded": plain + "%E2%80%8B",
        "line break, encoded": plain[:50] + "%0D%0A" + plain[50:],
        "soft hyphens": plain[:30] + "\u00ad" + plain[30:60] + "\u00ad" + plain[60:],
        "byte order mark": "\ufeff" + plain,
        "HTTPS": plain.replace("https", "HTTPS"),
        "port": plain.replace(".org", ".org:8443"),
        "IPv6": plain.replace("example.org", "[2001:db8::1]:8080"),
        "safelinks": f"https://eur01.safelinks.protection.outlook.com/?url={escaped}"
        "&data=05%7C02%7C&sdata=abc%3D&reserved=0",
        "safelinks, wrapped": f"<https://eur01.safelinks.protection.outlook.com/?url={escaped[:30]}\n"
        f"{escaped[30:]}&data=05%7C02>",
        "urldefense 1": f"https://urldefense.proofpoint.com/v1/url?u={escaped}&k=abc",
        "urldefense 2": f"https://urldefense.proofpoint.com/v2/url?u={defended}&d=DwMF&c=x",
        "urldefense 3": f"https://urldefense.com/v3/__{starred}__;Iw!!abc$",
        "urldefense 3, wrapped": f"https://urldefense.com/v3/__{starred[:60]}\n{starred[60:]}__;Iw!!abc$",
        "a tracker's query": plain.replace("/#", "/?utm_source=mail&utm_medium=a-b_c.d+e#"),
        "a query without a path": plain.replace("/#", "?fbclid=x#"),
        "marks before the number": plain.replace("#", "#/"),
        "more marks, wrapped": plain.replace("#", "#!\n/"),
        "a host with an underscore": plain.replace("example", "pacs_2"),
        "another filter": f"https://linkprotect.example.com/url?a={escaped}&c=E,1,x",
        "a filter's in a filter's": "https://one.example/?url=https%3A%2F%2Ftwo.example%2F%3Fu%3D"
        + escaped.replace("%", "%25"),
    }
    nothing = {
        "a filter that does not carry the address": f"https://filter.example/?u=x%3A#1.{k}.{c}",
        "nothing": "",
        "a sentence": "Please call me; the link follows.",
        "an address": "see https://example.org/ for more",
        "no secret": "https://example.org/#1.",
        "cut off": plain[:-1],
        "cut off in a sentence": f"Open {plain[:-3]} now",
        "too long": plain + "A",
        "an unknown flag": plain + ".q",
        "two flags": locked + ".p",
        "no scheme": plain.removeprefix("https://"),
        "a path": plain.replace("/#", "/r#"),
        "version 2": plain.replace("#1.", "#2."),
        "ftp": plain.replace("https", "ftp"),
        "urldefense 3, damaged": f"https://urldefense.com/v3/__{starred}__;I!!abc$",
        "urldefense 3, nothing replaced": f"https://urldefense.com/v3/__{starred}__;!!abc$",
        "percent signs": "100 % of 50%, %zz and %C3",
    }

    def read(text: str) -> str:
        return str(link.find_link(text))

    cases = [
        {"name": n, "text": t, "expect": outcome(partial(read, t))}
        for n, t in {**texts, **nothing}.items()
    ]
    for case in cases:
        assert ("error" in case["expect"]) == (case["name"] in nothing), case
    write("found_links", cases)


def make_kdf() -> None:
    cases: list[Case] = []
    for name, secret in {"counting": SECRET, "zeros": bytes(32), "ones": b"\xff" * 32}.items():
        keys = link.derive_keys(secret)
        cases.append(
            {
                "name": name,
                "secret": secret.hex(),
                "identity": S_ID.hex(),
                "expect": {
                    **{k: v.hex() for k, v in keys.__dict__.items()},
                    "commitment": link.host_commitment(secret, S_ID).hex(),
                },
            }
        )

    def psk(passphrase: str | None) -> Case:
        return {"psk": SUITE_1.psk(link.psk_secrets(KEYS, passphrase)).hex()}

    for name, passphrase in {
        "no passphrase": None,
        "passphrase": "correct horse",
        "NFC": "caf\u00e9",
        "NFD gives the same as NFC": "cafe\u0301",
        "not ASCII": "\u5bc6\u7801",
        "empty": "",
        "too long": "x" * 1025,
        "too long in bytes": "\u00e9" * 600,
    }.items():
        cases.append(
            {
                "name": name,
                "secret": SECRET.hex(),
                "passphrase": passphrase,
                "expect": outcome(partial(psk, passphrase)),
            }
        )
    write("kdf", cases)


# --- signaling ------------------------------------------------------------------------------------


CANDIDATE = {
    "foundation": "1",
    "priority": 2114977791,
    "address": "192.0.2.2",
    "port": 40000,
    "kind": "host",
}
DESCRIPTION = {
    "type": "description",
    "nonce_guest": b64(NONCE_R),
    "nonce_host": b64(NONCE_S),
    "ufrag": "dqOu",
    "password": "4JOi0HlyBF5heoMlBCdEhc",
    "fingerprint": b64(FP_S),
    "setup": "actpass",
    "max_message_size": 262144,
    "candidates": [CANDIDATE],
    "relayed": False,
}
KNOCK = {
    "type": "knock",
    "nonce_guest": b64(NONCE_R),
    "kind": "native",
    "relay_only": False,
}
CANDIDATES = {"type": "candidates", "candidates": [CANDIDATE], "relayed": False}
DIRECT = {
    "type": "direct",
    "addresses": ["192.0.2.2", "2001:db8::2"],
    "port": 40000,
    "certificate": b64(bytes(range(256))),
}
OUTER = {"address": "192.0.2.9", "port": 40001}
HTTPS = {
    "type": "https",
    "nonce_guest": b64(NONCE_R),
    "nonce_host": b64(NONCE_S),
    "control": b64(bytes(range(32))),
    "data": b64(bytes(range(32, 64))),
}


def make_signal() -> None:
    def change(base: Case, **members: Any) -> Case:
        return {k: v for k, v in {**base, **members}.items() if v is not ...}

    def with_candidate(**members: Any) -> Case:
        return change(CANDIDATES, candidates=[change(CANDIDATE, **members)])

    valid = {
        "knock": KNOCK,
        "knock of a browser": change(KNOCK, kind="browser"),
        "knock for a relay": change(KNOCK, relay_only=True),
        "description of a relayed connection": change(DESCRIPTION, relayed=True),
        "candidates of a relayed connection": change(CANDIDATES, relayed=True),
        "description": DESCRIPTION,
        "small message size is raised": change(DESCRIPTION, max_message_size=16384),
        "large message size is lowered": change(DESCRIPTION, max_message_size=1073741823),
        "direct": DIRECT,
        "direct without addresses": change(DIRECT, addresses=[]),
        "direct with an outer address": change(DIRECT, outer=OUTER),
        "direct at 16 addresses": change(DIRECT, addresses=["192.0.2.2"] * 16),
        "direct certificate of 2,048 bytes": change(DIRECT, certificate=b64(bytes(2048))),
        "https": HTTPS,
        "no candidates": change(DESCRIPTION, candidates=[]),
        "candidates": with_candidate(),
        "IPv6": with_candidate(address="2001:db8::1"),
        "mDNS": with_candidate(address="0f3c1a2b-0000-4000-8000-00000000abcd.local"),
        "32 candidates": change(CANDIDATES, candidates=[CANDIDATE] * 32),
        "private addresses": change(
            CANDIDATES,
            candidates=[
                change(CANDIDATE, address=a)
                for a in ("10.0.0.1", "172.16.0.1", "192.168.1.1", "fd00::2")
            ],
        ),
    }
    dropped = [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "169.254.169.254",
        "fe80::1",
        "255.255.255.255",
        "example.org",
        "localhost",
        "192.0.2.2.local",
        "::ffff:127.0.0.1",
        "fe80::1%eth0",
        "0x7f000001",
        "2130706433",
        "127.1",
        "x.local",
    ]
    invalid: dict[str, Any] = {
        "not an object": [],
        "no type": {},
        "unknown type": {"type": "offer"},
        "type a number": {"type": 1},
        "SDP": {"type": "offer", "sdp": "v=0"},
        "knock without nonce": change(KNOCK, nonce_guest=...),
        "knock short nonce": change(KNOCK, nonce_guest=b64(bytes(15))),
        "knock long nonce": change(KNOCK, nonce_guest=b64(bytes(17))),
        "knock unknown kind": change(KNOCK, kind="phone"),
        "knock extra member": change(KNOCK, extra=1),
        "knock null": change(KNOCK, kind=None),
        "two fingerprints": change(DESCRIPTION, fingerprint=[b64(FP_S), b64(FP_R)]),
        "sha-384 fingerprint": change(DESCRIPTION, fingerprint=b64(bytes(48))),
        "no fingerprint": change(DESCRIPTION, fingerprint=...),
        "ufrag short": change(DESCRIPTION, ufrag="abc"),
        "ufrag long": change(DESCRIPTION, ufrag="a" * 257),
        "ufrag with a line break": change(DESCRIPTION, ufrag="abcd\r\na=x"),
        "ufrag with a space": change(DESCRIPTION, ufrag="ab cd"),
        "ufrag ends in newline": change(DESCRIPTION, ufrag="abcd\n"),
        "password short": change(DESCRIPTION, password="a" * 21),
        "password with a line break": change(DESCRIPTION, password="a" * 22 + "\n"),
        "setup holdconn": change(DESCRIPTION, setup="holdconn"),
        "message size 0": change(DESCRIPTION, max_message_size=0),
        "message size negative": change(DESCRIPTION, max_message_size=-1),
        "message size text": change(DESCRIPTION, max_message_size="262144"),
        "message size true": change(DESCRIPTION, max_message_size=True),
        "candidates missing": change(DESCRIPTION, candidates=...),
        "33 candidates": change(DESCRIPTION, candidates=[CANDIDATE] * 33),
        "candidates not a list": change(CANDIDATES, candidates=CANDIDATE),
        "candidate text": change(CANDIDATES, candidates=["candidate:1 1 UDP"]),
        "candidates of no connection": change(CANDIDATES, relayed=...),
        "description of no connection": change(DESCRIPTION, relayed=...),
        "description relayed as a number": change(DESCRIPTION, relayed=1),
        "knock without relay_only": change(KNOCK, relay_only=...),
        "port above": with_candidate(port=65536),
        "port negative": with_candidate(port=-1),
        "priority 0": with_candidate(priority=0),
        "priority above": with_candidate(priority=2**31),
        "kind prflx": with_candidate(kind="prflx"),
        "foundation empty": with_candidate(foundation=""),
        "foundation long": with_candidate(foundation="1" * 33),
        "foundation with a space": with_candidate(foundation="1 2"),
        "address empty": with_candidate(address=""),
        "address long": with_candidate(address="1" * 65),
        "candidate extra member": with_candidate(extra=1),
        "candidate without port": with_candidate(port=...),
        "direct at 17 addresses": change(DIRECT, addresses=["192.0.2.2"] * 17),
        "direct address empty": change(DIRECT, addresses=[""]),
        "direct address long": change(DIRECT, addresses=["1" * 46]),
        "direct address a number": change(DIRECT, addresses=[1]),
        "direct port low": change(DIRECT, port=1023),
        "direct port above": change(DIRECT, port=65536),
        "direct certificate too long": change(DIRECT, certificate=b64(bytes(2049))),
        "direct without certificate": change(DIRECT, certificate=...),
        "direct extra member": change(DIRECT, extra=1),
        "direct outer address empty": change(DIRECT, outer=OUTER | {"address": ""}),
        "direct outer port low": change(DIRECT, outer=OUTER | {"port": 1023}),
        "direct outer extra member": change(DIRECT, outer=OUTER | {"extra": 1}),
        "direct outer a list": change(DIRECT, outer=["192.0.2.9", 40000]),
        "https token short": change(HTTPS, control=b64(bytes(31))),
        "https token long": change(HTTPS, data=b64(bytes(33))),
        "https without data": change(HTTPS, data=...),
        "https nonce short": change(HTTPS, nonce_host=b64(bytes(15))),
        "https extra member": change(HTTPS, origin="https://192.0.2.1"),
    }

    def decode(data: bytes) -> Any:
        found = signal.decode_signal(data)
        return json.loads(signal.encode_signal(found))

    cases: list[Case] = []
    for name, value in {**valid, **invalid}.items():
        data = codec.encode_json(value)
        cases.append({"name": name, "data": data.hex(), "expect": outcome(partial(decode, data))})
        assert ("error" in cases[-1]["expect"]) == (name in invalid), name
    for address in dropped:
        data = codec.encode_json(with_candidate(address=address))
        cases.append(
            {
                "name": f"dropped: {address}",
                "data": data.hex(),
                "expect": outcome(partial(decode, data)),
            }
        )
        assert cases[-1]["expect"]["candidates"] == [], address
    for port in (0, 80, 1023):
        data = codec.encode_json(with_candidate(port=port))
        cases.append(
            {
                "name": f"dropped: port {port}",
                "data": data.hex(),
                "expect": outcome(partial(decode, data)),
            }
        )
        assert cases[-1]["expect"]["candidates"] == []
    cases.append({"name": "not JSON", "data": b"v=0".hex(), "expect": {"error": "protocol"}})
    write("signal", cases)


def make_ice() -> None:
    """One server each: whether it is taken, from a server elsewhere and from one of this machine."""
    login = {"username": "1:x", "credential": "y"}
    cases: list[Case] = []

    def case(told: Any) -> None:
        def found(local: bool) -> Any:
            return bool(ice.read_ice(told, local=local).servers)

        expect = {
            "elsewhere": outcome(partial(found, False)),
            "local": outcome(partial(found, True)),
        }
        name = json.dumps(told)
        cases.append({"name": f"{len(cases)}: {name[:60]}", "ice": told, "expect": expect})

    hosts = (
        "turn.hospital.example",
        "192.0.2.1",
        "10.0.0.1",
        "[2001:db8::1]",
        "127.0.0.1",
        "[::1]",
        "localhost",
        "a.LOCALHOST.",
        "169.254.1.1",
        "[fe80::1]",
        "224.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "[::ffff:192.0.2.1]",
        "[::]",
        "127.1",
        "2130706433",
        "[1:2]",
        "",
        "a b",
        "user@host",
        "ä.example",
        "x" * 254,
    )
    for host in hosts:
        case({"servers": [{"url": f"stun:{host}"}], "ttl": 60})
    for rest in (
        "",
        ":3478",
        ":0",
        ":65536",
        ":99999999",
        ":x",
        "?transport=tcp",
        "?transport=udp",
    ):
        case({"servers": [{"url": f"stun:192.0.2.1{rest}"}], "ttl": 60})
        for scheme in ("turn", "turns", "stuns", "http"):
            case({"servers": [{"url": f"{scheme}:192.0.2.1{rest}", **login}], "ttl": 60})
    good = {"url": "turn:192.0.2.1", **login}
    for wrong in (
        {"servers": [], "ttl": 60},
        {"servers": [{"url": "turn:192.0.2.1"}], "ttl": 60},
        {"servers": [{"url": "turn:192.0.2.1", "username": "x"}], "ttl": 60},
        {"servers": [{"url": "stun:192.0.2.1", **login}], "ttl": 60},
        {"servers": [good] * 9, "ttl": 60},
        {"servers": [good], "ttl": 0},
        {"servers": [good], "ttl": 604_801},
        {"servers": [good]},
        {"servers": [good], "ttl": 60, "extra": 1},
        {"servers": [{**good, "extra": 1}], "ttl": 60},
        {"servers": [{**good, "url": "turn:" + "x" * 320}], "ttl": 60},
        {"servers": [{**good, "username": ""}], "ttl": 60},
        {"servers": [{**good, "credential": "x" * 257}], "ttl": 60},
        {"servers": good, "ttl": 60},
        {"servers": ["turn:192.0.2.1"], "ttl": 60},
        {},
    ):
        case(wrong)
    write("ice", cases)


def make_policy() -> None:
    """What a server says that its operator asks."""
    whole = {
        "operator": "Example Hospital",
        "max_expires": 3600,
        "require": "passphrase",
        "relay": "required",
    }
    good: list[Any] = [
        None,
        {},
        whole,
        *({name: value} for name, value in whole.items()),
        *({"require": one} for one in ("digits", "either")),
        {"relay": "forbidden"},
        *({"max_expires": one} for one in (60, 86_400)),
        *({"operator": one} for one in ("x" * 64, "ä" * 32, "\u202e", "日")),
    ]
    bad: list[Any] = [
        [],
        "passphrase",
        1,
        {**whole, "more": 1},
        *({"require": one} for one in ("", "none", "Digits", None, True, ["digits"])),
        *({"relay": one} for one in ("", "allowed", None, 1)),
        *({"max_expires": one} for one in (0, 59, 86_401, -1, None, "3600", True, 60.5)),
        *({"operator": one} for one in ("", "x" * 65, "ä" * 33, "\ud800", None, 1, ["x"])),
    ]
    cases: list[Case] = []
    for told in good + bad:

        def read(told: Any = told) -> str:
            policy.read_policy(told)
            return "ok"

        name = f"{len(cases)}: {json.dumps(told)[:60]}"
        cases.append({"name": name, "policy": told, "expect": outcome(read)})
    assert [c["expect"] == "ok" for c in cases] == [True] * len(good) + [False] * len(bad)
    write("policy", cases)


def make_envelope() -> None:
    def sealed(sequence: int = 0, padded: bytes | None = None, **other: Any) -> bytes:
        where = {
            "key": KEYS.signal_to_guest,
            "room": KEYS.room,
            "attempt": ATTEMPT_ID,
            "direction": b"\x00",
            "label": signal.LABEL,
            **other,
        }
        data = codec.encode_json(KNOCK)
        plain = len(data).to_bytes(2, "big") + data
        plain += bytes(-len(plain) % 1024)
        associated = (
            codec.prefixed(where["label"], where["room"], where["attempt"])
            + where["direction"]
            + sequence.to_bytes(4, "big")
        )
        nonce = b"\x24" * 24
        return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(
            plain if padded is None else padded, associated, nonce, where["key"]
        )

    data = codec.encode_json(KNOCK)
    head = len(data).to_bytes(2, "big") + data
    good = sealed()
    envelopes = {
        "first": [good],
        "second": [good, sealed(1)],
        "replayed": [good, good],
        "out of order": [sealed(1)],
        "other direction": [sealed(direction=b"\x01")],
        "other key": [sealed(key=KEYS.signal_to_host)],
        "other room": [sealed(room=bytes(16))],
        "other attempt": [sealed(attempt=bytes(16))],
        "other label": [sealed(label=b"handover/2 signal")],
        "flipped bit": [good[:-1] + bytes([good[-1] ^ 1])],
        "flipped nonce": [bytes([good[0] ^ 1]) + good[1:]],
        "cut off": [good[:-1]],
        "empty": [b""],
        "short": [bytes(40)],
        "longer": [good + b"x"],
        "too long": [bytes(signal.MAX_ENVELOPE + 1)],
        "length beyond": [sealed(padded=b"\xff\xff" + bytes(1022))],
        "padding not zero": [sealed(padded=head.ljust(1023, b"\0") + b"x")],
        "length 0": [sealed(padded=bytes(1024))],
        "65 envelopes": [sealed(n) for n in range(65)],
    }

    def opened(parts: list[bytes]) -> Any:
        opener = signal.Sealer(KEYS.signal_to_guest, KEYS.room, ATTEMPT_ID, "to_guest")
        return [json.loads(signal.encode_signal(opener.open(part))) for part in parts]

    cases = [
        {
            "name": n,
            "key": KEYS.signal_to_guest.hex(),
            "room": KEYS.room.hex(),
            "attempt": ATTEMPT_ID.hex(),
            "direction": "to_guest",
            "envelopes": [e.hex() for e in es],
            "expect": outcome(partial(opened, es)),
        }
        for n, es in envelopes.items()
    ]
    assert sum("error" in case["expect"] for case in cases) == len(cases) - 2
    write("envelope", cases)


# --- handshake ------------------------------------------------------------------------------------


def entropy(seed: int) -> handshake.Entropy:
    return handshake.Entropy(*(bytes([seed + i]) * 32 for i in range(4)))


def binding(passphrase: bool, host_sends: bool = True) -> handshake.ChannelBinding:
    prints = FP_S, FP_R
    return handshake.ChannelBinding(
        KEYS.room, ATTEMPT_ID, NONCE_R, NONCE_S, *prints, passphrase, host_sends
    )


def parties(
    where: handshake.ChannelBinding, passphrase: str | None, verify: bool, fill: int
) -> tuple[handshake.GuestHandshake, handshake.HostHandshake]:
    secrets = link.psk_secrets(KEYS, passphrase)
    guest = handshake.GuestHandshake(
        where,
        secrets=secrets,
        secret=SECRET,
        commitment=link.host_commitment(SECRET, S_ID),
        identity=R_KEY,
        label="Reading room",
        software="test/1",
        verify=verify,
        entropy=entropy(0x20),
    )
    host = handshake.HostHandshake(
        where,
        secrets=secrets,
        identity=S_KEY,
        label="Klinik S\u00fcd",
        software="test/1",
        verify=False,
        entropy=entropy(0x40),
        fill=fill,
    )
    return guest, host


def make_handshake() -> None:
    cases = []
    for name, passphrase, verify, fill, host_sends in (
        ("plain", None, False, 0, True),
        ("passphrase", "correct horse", False, 0, True),
        ("verify", None, True, 0, True),
        ("message 2 fills a packet", None, False, 1500, True),
        ("the host is the recipient", None, False, 0, False),
        ("the host is the recipient, passphrase and verify", "correct horse", True, 0, False),
    ):
        where = binding(passphrase is not None, host_sends)
        g, h = parties(where, passphrase, verify, fill)
        m1 = g.message_1()
        m2 = h.receive_1(m1)
        m3 = g.receive_2(m2)
        at_host = h.receive_3(m3)
        m4 = h.message_4()
        at_guest = g.receive_4(m4)
        assert (at_host.digits, at_host.transcript) == (at_guest.digits, at_guest.transcript)
        assert at_host.session_key == at_guest.session_key
        to_guest = at_host.send.encrypt(b"host says")
        to_host = at_guest.send.encrypt(b"guest says")
        cases.append(
            {
                "name": name,
                "passphrase": passphrase,
                "verify": verify,
                "secret": SECRET.hex(),
                "binding": {
                    k: v.hex() if isinstance(v, bytes) else v for k, v in where.__dict__.items()
                },
                "host": {
                    "identity_seed": bytes(S_KEY).hex(),
                    "label": "Klinik S\u00fcd",
                    "fill": fill,
                    **{k: v.hex() for k, v in entropy(0x40).__dict__.items()},
                },
                "guest": {
                    "identity_seed": bytes(R_KEY).hex(),
                    "label": "Reading room",
                    **{k: v.hex() for k, v in entropy(0x20).__dict__.items()},
                },
                "software": "test/1",
                "expect": {
                    "prologue": where.prologue().hex(),
                    "messages": [m.hex() for m in (m1, m2, m3, m4)],
                    "digits": at_guest.digits,
                    "transcript": at_guest.transcript.hex(),
                    "session_key": at_guest.session_key.hex(),
                    "first_transport_to_guest": to_guest.hex(),
                    "first_transport_to_host": to_host.hex(),
                },
            }
        )
    write("handshake", cases)


# --- manifest, results, tree ----------------------------------------------------------------------


SALT = b"\x33" * 32
ENTRIES = (
    manifest.Entry("study", "directory", 0, 1_700_000_000_000_000),
    manifest.Entry("study/a.dcm", "file", 10, 1_700_000_000_000_001),
    manifest.Entry("study/\u00fcbersicht.dcm", "file", 0, -1),
    manifest.Entry("study/sparse", "file", 1_000_000, 0, 4096),
)
MANIFEST = manifest.Manifest(ENTRIES, SALT)


def make_manifest() -> None:
    text = manifest.encode_manifest(MANIFEST).decode()
    head = text.split("\n")[0]

    def lines(*entries: Any, head: str = head) -> bytes:
        return "\n".join(
            [
                head,
                *(e if isinstance(e, str) else codec.encode_json(e).decode() for e in entries),
                "",
            ]
        ).encode()

    def file(name: str, **members: Any) -> Case:
        return {
            k: v
            for k, v in {"path": name, "kind": "file", "size": 1, "modified": 0, **members}.items()
            if v is not ...
        }

    def saying(more: str) -> str:
        return f"{head[:-1]},{more}}}"

    def skipping(skipped: str) -> str:
        return saying(f'"skipped":{skipped}')

    valid = {
        "four entries": text.encode(),
        "one file": lines(file("a")),
        "one folder": lines(file("d", kind="directory", size=0)),
        "deep": lines(file("/".join("abcdefgh"))),
        "not ASCII": lines(file("\u6f22\u5b57/\u0645\u0631\u062d\u0628\u0627.dcm")),
        "size 2^53-1": lines(file("a", size=2**53 - 1)),
        "holes of 2^42": lines(file("a", size=2**41, data=0), file("b", size=2**42, data=2**41)),
        "left out": lines(file("a"), head=skipping('{"links":2,"special":2}')),
        "links left out": lines(file("a"), head=skipping('{"links":9007199254740991}')),
        **{
            f"for {code}": lines(file("a"), head=saying(f'"purpose":"{code}"'))
            for code in manifest.PURPOSES
        },
        "why": lines(file("a"), head=saying('"purpose":"ETREAT","reason":"Schlaganfall, Öz"')),
        "why, of 256 bytes": lines(file("a"), head=saying(f'"reason":"{"x" * 256}"')),
        "another name before": lines(file("M%FCller", original="TfxsbGVy")),
        "a long name before": lines(file("a", original="_" * 340)),
        "thrice as long, taken apart": lines(file("\u0390" * 127)),
        "U+FDFA as often as it fits": lines(file("\ufdfa" * 23)),
        "Hangul as long as it fits": lines(file("\uac01" * 85)),
        "30 marks": lines(file("e" + "\u0301" * 30 + "e" + "\u0301" * 30)),
        "a separator when taken apart": lines(file("a\uff0fb"), file("a/b"), file("c\u2105")),
        "folders between": lines(
            file("d", kind="directory", size=0), file("d!"), file("d/a"), file("d-"), file("d/b/c")
        ),
        "folder after what is in it": lines(file("d/a"), file("d", kind="directory", size=0)),
    }
    bad_paths = [
        "..",
        ".",
        "",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "./a",
        "../a",
        "C:/a",
        "a\\b",
        "\\\\host\\share",
        "a:b",
        "CON",
        "con.txt",
        "a/NUL",
        "COM1",
        "lpt9.dcm",
        "com\u00b9",
        "a.",
        "a ",
        "a/b./c",
        "a\x00b",
        "a\nb",
        "a\x1b[31m",
        "a\x7f",
        "a\x85",
        "a?",
        "a*",
        'a"b',
        "a<b",
        "a|b",
        "x" * 256,
        "/".join(["x" * 200] * 6),
        "/".join("a" * 65),
        "\ufdfa" * 24,
        "a/\ufdfa" + "\u0390" * 125 + "/b",
        "e" + "\u0301" * 31,
        "a/" + "\u0323\u0302" * 20 + "/b",
    ]
    invalid: dict[str, bytes] = {
        f"path {i}: {codec.encode_json(p[:24]).decode()}": lines(file(p))
        for i, p in enumerate(bad_paths)
    }
    invalid |= {
        "no entries": lines(),
        "no newline at the end": lines(file("a"))[:-1],
        "empty": b"",
        "no head": lines(file("a"), head="{}"),
        "short salt": lines(file("a"), head='{"salt":"AAAA"}'),
        "blank line": lines(file("a"), ""),
        "not JSON": lines("a"),
        "entry a list": lines([]),
        "no path": lines(file("a", path=...)),
        "no size": lines(file("a", size=...)),
        "no kind": lines(file("a", kind=...)),
        "no modified": lines(file("a", modified=...)),
        "negative size": lines(file("a", size=-1)),
        "size 2^53": lines('{"kind":"file","modified":0,"path":"a","size":9007199254740992}'),
        "size float": lines('{"kind":"file","modified":0,"path":"a","size":1.5}'),
        "size text": lines(file("a", size="1")),
        "size true": lines(file("a", size=True)),
        "kind link": lines(file("a", kind="symlink")),
        "directory with size": lines(file("a", kind="directory")),
        "directory with data": lines(file("a", kind="directory", size=0, data=0)),
        "extra member": lines(file("a", mode=493)),
        "null data": lines('{"data":null,"kind":"file","modified":0,"path":"a","size":1}'),
        "negative data": lines(file("a", data=-1)),
        "holes past 2^42": lines(
            file("a", size=2**41, data=0), file("b", size=2**42, data=2**41 - 1)
        ),
        "sum above 2^53-1": lines(file("a", size=2**53 - 1), file("b", size=1)),
        "same twice": lines(file("a"), file("a")),
        "case": lines(file("a.DCM"), file("A.dcm")),
        "case of a folder": lines(file("A/x"), file("a/y")),
        "NFC and NFD": lines(file("\u00e9"), file("e\u0301")),
        "ligature": lines(file("\ufb01"), file("fi")),
        "sharp s": lines(file("stra\u00dfe"), file("STRASSE")),
        "case of a folder deep down": lines(file("a/b/C/x"), file("a!"), file("a/b/c/y")),
        "case of a folder and a file": lines(file("x/A/b"), file("x/a")),
        "iota below": lines(file("\u1fb3\u0323"), file("\u03b1\u0323\u03b9")),
        "file and folder, others between": lines(file("a"), file("a!"), file("a/b")),
        "file that ends as a folder": lines(file("d/"), file("d/a")),
        "file and folder": lines(file("a"), file("a/b")),
        "folder and file": lines(file("a/b"), file("a")),
        "folder twice": lines(
            file("a", kind="directory", size=0), file("a", kind="directory", size=0)
        ),
        "duplicate member": lines('{"kind":"file","modified":0,"path":"a","path":"b","size":1}'),
        "lone surrogate": lines('{"kind":"file","modified":0,"path":"\\ud800","size":1}'),
        "line too long": lines(file("a" * 9000)),
        **{
            f"for {purpose}": lines(file("a"), head=saying(f'"purpose":{purpose}'))
            for purpose in (
                '"treatment"',
                '"treat"',
                '""',
                "null",
                '["TREAT"]',
                "1",
                '"TREAT\\u0000"',
            )
        },
        **{
            f"why: {reason[:8]}": lines(file("a"), head=saying(f'"reason":{reason}'))
            for reason in ('""', "null", f'"{"x" * 257}"', f'"{"ö" * 129}"', "[]", '"\\ud800"')
        },
        "left out none": lines(file("a"), head=skipping('{"links":0}')),
        "left out fewer than none": lines(file("a"), head=skipping('{"links":-1}')),
        "left out null": lines(file("a"), head=skipping("null")),
        "left out of no kind": lines(file("a"), head=skipping('{"doors":1}')),
        "left out a list": lines(file("a"), head=skipping("[1]")),
        "original too long": lines(file("a", original="_" * 342)),
        "original not base64url": lines(file("a", original="=")),
        "original null": lines('{"kind":"file","modified":0,"original":null,"path":"a","size":1}'),
    }

    def read(data: bytes) -> Any:
        found = manifest.decode_manifest(data)
        return {
            "entries": len(found.entries),
            "total": found.tape().total,
            "space": found.space(),
            "salt": found.salt.hex(),
            "skipped": found.skipped,
            "purpose": found.purpose,
            "reason": found.reason,
            "originals": [entry.original.hex() for entry in found.entries if entry.original],
        }

    cases = [
        {"name": n, "data": d.hex(), "expect": outcome(partial(read, d))}
        for n, d in {**valid, **invalid}.items()
    ]
    for case in cases:
        assert ("error" in case["expect"]) == (case["name"] in invalid), case["name"]
    # Too long to be written down: paths of 64 segments that have nothing in common, then files.
    for name, deep, files in [("200,000 names", 3125, 0), ("200,001 names", 3125, 1)]:
        data = lines(
            *(file("/".join([f"{i}"] * 64)) for i in range(deep)),
            *(file(f"file {i}") for i in range(files)),
        )
        case = {"name": name, "head": head, "deep": deep, "files": files}
        cases.append(
            case | {"sha256": codec.sha256(data).hex(), "expect": outcome(partial(read, data))}
        )
    write("manifest", cases)


NOT_SAID = ("", "")  # neither what it is for, nor why


def make_manifest_lines() -> None:
    """The bytes of a manifest as its sender writes them."""

    def file(path: str, **members: Any) -> Case:
        return {"path": path, "kind": "file", "size": 1, "modified": 0, **members}

    folder = file("d", kind="directory", size=0, modified=-1)
    contents: dict[str, list[Case]] = {
        "a file": [file("a.dcm", size=10, modified=1_700_000_000_000_001)],
        "a folder and its file": [folder, file("d/a", size=0)],
        "holes": [file("a", size=2**40, data=4096), file("b", size=5, data=0)],
        "a name that could not be kept": [file("a_b", original=b"a\xffb".hex())],
        "a name and holes": [file("a_b", size=9, data=8, original=b"a\xff\x00b".hex())],
        "not ASCII": [file("\u00fcbersicht/\U0001f9e0\u2028\u007f.dcm")],
        "escapes": [file('"\\\b\f\n\r\t\u0001\u001f')],
        "the largest numbers": [file("a", size=2**53 - 1, modified=-(2**53) + 1)],
        "holes of 2^42": [file("a", size=2**42, data=0)],
        "holes above 2^42": [file("a", size=2**42, data=0), file("b", data=0)],
    }
    skipped: dict[str, dict[manifest.SkippedKind, int]] = {
        "a folder and its file": {"links": 1},
        "not ASCII": {"links": 2, "special": 3},
    }
    said = {"a file": ("TREAT", ""), "not ASCII": ("ETREAT", 'Schlaganfall, "Öz"')}

    def encode(entries: list[Case], left_out: manifest.Skipped, why: tuple[str, str]) -> str:
        read = [
            manifest.Entry(**{**e, "original": bytes.fromhex(e.get("original", ""))})
            for e in entries
        ]
        whole = manifest.Manifest(tuple(read), SALT, left_out, *why)
        return manifest.encode_manifest(whole).decode()

    write(
        "manifest_lines",
        [
            {
                "name": name,
                "salt": SALT.hex(),
                "skipped": skipped.get(name, {}),
                "purpose": said.get(name, NOT_SAID)[0],
                "reason": said.get(name, NOT_SAID)[1],
                "entries": entries,
                "expect": outcome(
                    partial(encode, entries, skipped.get(name, {}), said.get(name, NOT_SAID))
                ),
            }
            for name, entries in contents.items()
        ],
    )


def make_results() -> None:
    good = manifest.Results(4)
    good.delivered(1, codec.sha256(b"0123456789"))
    good.delivered(2, codec.sha256(b""))
    good.failed(3, manifest.CHANGED)
    data = good.encode()
    changed = bytearray(data)
    variants = {
        "good": data,
        "short": data[:-1],
        "long": data + b"\0",
        "empty": b"",
        "status 3": data[:33] + b"\x03" + data[34:],
        "status of the recipient": data[:33] + b"\x10" + data[34:],
        "digest of a directory": b"\0" + b"\x01" * 32 + data[33:],
        "digest of a withdrawn entry": bytes(changed[:-32]) + b"\x01" * 32,
    }

    def read(octets: bytes) -> Any:
        found = manifest.Results.decode(octets, MANIFEST)
        return {
            "root": manifest.results_root(MANIFEST, found).hex(),
            "failures": [list(f) for f in found.failures()],
            "leaves": [manifest.leaf(MANIFEST, found, i).hex() for i in range(4)],
        }

    encoded = manifest.encode_manifest(MANIFEST).hex()
    cases: list[Case] = [
        {"name": n, "manifest": encoded, "results": d.hex(), "expect": outcome(partial(read, d))}
        for n, d in variants.items()
    ]
    for count in range(9):
        leaves = [codec.sha256(bytes([i])) for i in range(count)]
        cases.append(
            {
                "name": f"tree of {count}",
                "leaves": [x.hex() for x in leaves],
                "expect": manifest.merkle_root(leaves).hex(),
            }
        )

    def note(count: int, noted: list[Any]) -> Any:
        results = manifest.Results(count)
        for entry, what in noted:
            if isinstance(what, int):
                results.failed(entry, what)
            else:
                results.delivered(entry, bytes.fromhex(what))
        return {
            "results": results.encode().hex(),
            "failures": [list(f) for f in results.failures()],
            "known": [results.known(i) for i in range(count)],
        }

    digest = codec.sha256(b"x").hex()
    notes: dict[str, list[Any]] = {
        "nothing": [],
        "a digest": [[1, digest]],
        "every status": [[0, 1], [1, 2], [2, 16], [3, 17]],
        "what was delivered is given up": [[0, digest], [0, manifest.NOT_PLACED]],
        "what was given up is delivered": [[0, manifest.CHANGED], [0, digest]],
    }
    cases += [
        {"name": f"noted: {n}", "noted": noted, "count": 4, "expect": note(4, noted)}
        for n, noted in notes.items()
    ]
    kept = bytes.fromhex(note(4, notes["every status"])["results"])

    def recall(data: bytes) -> Any:
        return [list(f) for f in manifest.Results.recall(data, 4).failures()]

    for name, data in {"whole": kept, "short": kept[:-1], "long": kept + b"\0"}.items():
        cases.append(
            {
                "name": f"kept: {name}",
                "kept": data.hex(),
                "count": 4,
                "expect": outcome(partial(recall, data)),
            }
        )
    write("results", cases)


def make_paths() -> None:
    from p2p.protocol import paths

    cases: list[Case] = []
    for text in [
        "a",
        "a b",
        "a.dcm",
        "scan 12:30.dcm",
        "what?",
        "CON",
        "con.txt",
        "NUL .txt",
        "COM\u00b2",
        "console",
        "trailing.",
        "trailing. .",
        "tab\there",
        "new\nline",
        "back\\slash",
        "a/b",
        '<>|*"',
        "\u202egpj.exe",
        "\u00fcn\u00ef",
        "\U0001f4be",
        "...",
        ". .",
        "-rf",
        "~",
        ".hidden",
        " lead",
        "x" * 255,
        "x" * 256,
        "\u00e9" * 128,
        "",
        ".",
        "..",
        "\ud800",
        "M\udcfcller.dcm",
        "100 % \udce9",
        "\udc80" * 100,
        "\udcff\ud800",
        "nul." + "x" * 251,
        "\udce9" * 84 + "..",
        "\U0001f4be\udcbe",
    ]:

        def escape(text: str = text) -> Any:
            try:
                return paths.escape_segment(text)
            except paths.UnsafePath:
                return {"error": "unsafe"}

        cases.append(
            {
                "name": f"escape {json.dumps(text[:20])} ({len(text)})",
                "segment": text,
                "expect": escape(),
            }
        )
    for text in [
        "plain",
        "\u00fcn\u00ef",
        "a\x1b[31mred",
        "\u202egpj.exe",
        "zero\u200bwidth",
        "line\nbreak",
        "\x00",
        "\x85",
        "x" * 200,
        "\u2028",
        "\ue000",
        "\u0301 alone",
    ]:
        cases.append(
            {"name": f"shown {json.dumps(text[:20])}", "text": text, "expect": paths.shown(text)}
        )
    for one, other in [
        ("A", "a"),
        ("a", "b"),
        ("stra\u00dfe", "STRASSE"),
        ("\u1e9e", "ss"),
        ("\u0131", "i"),
        ("I", "\u0131"),
        ("\u0130", "i"),
        ("\u017f", "s"),
        ("\u03c3", "\u03c2"),
        ("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2"),
        ("\ufb01", "fi"),
        ("\ufb05", "\ufb06"),
        ("e\u0301", "\u00e9"),
        ("\u212a", "k"),
        ("\u00b5", "\u03bc"),
        ("\u13a0", "\uab70"),
        ("\u1e9b\u0323", "\u1e69"),
        ("\u0390", "\u1fd3"),
        ("\u1f80", "\u1f00\u03b9"),
        ("\u01c5", "\u01c6"),
        ("\u0345", "\u03b9"),
        ("\uff21", "a"),
        ("\u2160", "i"),
        ("\u10a0", "\u2d00"),
        ("\U00010400", "\U00010428"),
        ("a\u0323\u0345", "a\u0323\u03b9"),
        ("\u1fb3\u0323", "\u03b1\u03b9\u0323"),
        ("\u0301\u0316", "\u0316\u0301"),
        ("\u2105", "c/o"),
    ]:
        same = paths.collision_key(one) == paths.collision_key(other)
        cases.append({"name": f"pair {one!a} {other!a}", "pair": [one, other], "expect": same})
    long = "x" * 251
    for found in [
        ["a", "A", "\u00e9", "e\u0301"],
        ["scan.dcm", "Scan.dcm", "SCAN.DCM"],
        ["A", "a", "a~2"],
        ["A", "a~2", "a"],
        ["Study.1/", "study.1/", "study.1"],
        [".profile", ".Profile"],
        [f"{long}.dcm", f"{long.upper()}.dcm"],
        ["A." + long, "a." + long],
        ["\U00010000" * 63 + "ss", "\U00010000" * 63 + "\u00df"],
    ]:
        names = paths.FolderNames()
        kept = [names.add(one.rstrip("/"), directory=one.endswith("/")) for one in found]
        cases.append({"name": f"kept apart {found!a:.40}", "found": found, "expect": kept})
    write("paths", cases)


# --- ranges ---------------------------------------------------------------------------------------


def make_seal() -> None:
    private = b"\x44" * 32
    public = noise.public_key(private)

    def box(
        transfer: bytes = TRANSFER,
        stream: int = 1,
        flags: int = 0,
        offset: int = 5,
        length: int = 4,
        payload: bytes = b"data",
        to: bytes = public,
    ) -> bytes:
        head = (
            transfer
            + bytes([stream, flags])
            + offset.to_bytes(8, "big")
            + length.to_bytes(8, "big")
        )
        return bindings.crypto_box_seal(head + payload, to)

    good = box()
    messages = {
        "data": good,
        "manifest": box(stream=0),
        "digests": box(stream=2),
        "hole": box(flags=1, length=10**12, payload=b""),
        "far": box(offset=2**53 - 1),
        "stream 3": box(stream=3),
        "compressed": box(flags=2),
        "filtered": box(flags=6),
        "filtered, second byte first": box(flags=14),
        "filtered alone": box(flags=4),
        "phase alone": box(flags=10),
        "flag 16": box(flags=16),
        "compressed to nothing": box(flags=2, payload=b""),
        "compressed and too long": box(flags=2, length=seal.MAX_RANGE + 1),
        "compressed manifest": box(stream=0, flags=2),
        "hole and flag 2": box(flags=3, payload=b""),
        "offset 2^53": box(offset=2**53),
        "length 2^53": box(flags=1, length=2**53, payload=b""),
        "length 0": box(length=0, payload=b""),
        "hole of length 0": box(flags=1, length=0, payload=b""),
        "payload short": box(payload=b"dat"),
        "payload long": box(payload=b"data!"),
        "hole with payload": box(flags=1),
        "hole in the manifest": box(stream=0, flags=1, payload=b""),
        "hole in the digests": box(stream=2, flags=1, payload=b""),
        "to another key": box(to=noise.public_key(b"\x45" * 32)),
        "flipped bit": good[:-1] + bytes([good[-1] ^ 1]),
        "flipped ephemeral key": bytes([good[0] ^ 1]) + good[1:],
        "cut off": good[:-1],
        "empty": b"",
        "one byte": b"x",
        "overhead less one": bytes(seal.OVERHEAD - 1),
        "zeros": bytes(200),
        "in the clear": b"\x77" * 16 + bytes(18) + b"data" + bytes(48),
    }

    def opened(message: bytes) -> Any:
        header, payload = seal.Opener(private).open(message)
        return {
            "transfer_id": header.transfer_id.hex(),
            "stream": int(header.stream),
            "flags": header.flags,
            "offset": header.offset,
            "length": header.length,
            "payload": payload.hex(),
        }

    path = HERE / "seal.json"
    old = {c["name"]: c["message"] for c in json.loads(path.read_text())} if path.exists() else {}
    # A sealed box cannot be made twice alike (its key is drawn inside): what is there is kept.
    cases = []
    for name, message in messages.items():
        octets = bytes.fromhex(old.get(name, message.hex()))
        cases.append(
            {
                "name": name,
                "private": private.hex(),
                "message": octets.hex(),
                "expect": outcome(partial(opened, octets)),
            }
        )
    assert sum("error" in case["expect"] for case in cases) == len(cases) - 8
    write("seal", cases)


# --- receipt, audit -------------------------------------------------------------------------------


NO_TIMES = [  # not of RFC 3339 in UTC, or of no day that there is
    "", "Z", "x" * 40, "2026-01-02", "03:04:05Z", "2026-01-02T03:04:05",
    "2026-13-45T99:99:99Z", "2026-00-02T03:04:05Z", "2026-13-02T03:04:05Z",
    "2026-01-00T03:04:05Z", "2026-01-32T03:04:05Z", "2026-04-31T03:04:05Z",
    "2026-02-29T03:04:05Z", "2100-02-29T03:04:05Z", "0000-01-02T03:04:05Z",
    "2026-01-02T24:00:00Z", "2026-01-02T03:60:05Z", "2026-01-02T03:04:60Z",
    "2026-01-02t03:04:05Z", "2026-01-02T03:04:05z", "2026-01-02 03:04:05Z",
    "2026-01-02T03:04:05+00:00", "2026-01-02T03:04:05-00:00", "2026-01-02T03:04:05+01:00",
    "2026-01-02T03:04Z", "20260102T030405Z", "2026-W01-5T03:04:05Z", "+02026-01-02T03:04:05Z",
    "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05,5Z", "2026-01-02T03:04:05.0123456789Z",
    " 2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z\n", "2026-01-02T03:04:05Z\u0000",
    "\u0662\u0660\u0662\u0666-01-02T03:04:05Z", "2026-1-2T3:4:5Z", 1767322445, None, True, [], {},
]  # fmt: skip
TIMES = ["2024-02-29T23:59:59Z", "2000-02-29T00:00:00.1Z", "0001-01-01T00:00:00.123456789Z"]


def payload(**members: Any) -> Case:
    times = {
        "offered": "2026-01-02T03:04:05.000Z",
        "accepted": "2026-01-02T03:04:06.000Z",
        "closed": "2026-01-02T03:05:05.000Z",
        "verified": "2026-01-02T03:05:06.000Z",
    }
    h = b64(b"\x11" * 32)
    base = {
        "type": receipt.TYPE,
        "transfer_id": b64(TRANSFER),
        "outcome": "complete",
        "sender": receipt.party(S_ID, "Klinik S\u00fcd", "test/1", audit.GENESIS),
        "recipient": receipt.party(R_ID, "Reading room", "test/1", audit.GENESIS),
        "offer_sha256": h,
        "manifest_sha256": h,
        "closing_sha256": h,
        "content": {
            "hash": "sha-256",
            "tree": "rfc9162-salted",
            "root": h,
            "entries": 4,
            "bytes": 1_000_010,
            "delivered_entries": 4,
            "delivered_bytes": 1_000_010,
            "skipped": 0,
        },
        "stored": "file",
        "security": {
            "suite": SUITE_1.name,
            "transcript": h,
            "fingerprint_sender": b64(FP_S),
            "fingerprint_recipient": b64(FP_R),
            "path": "direct",
            "digits_confirmed": True,
            "passphrase": False,
        },
        "times": times,
    }
    return {k: v for k, v in {**base, **members}.items() if v is not ...}


def make_receipt() -> None:
    octets = codec.encode_json(payload())
    r_sig, s_sig = receipt.sign(R_KEY, octets), receipt.sign(S_KEY, octets)
    good = receipt.assemble(octets, [(R_ID, r_sig), (S_ID, s_sig)])
    outer = json.loads(good)

    def signed(value: Any) -> bytes:
        data = value if isinstance(value, bytes) else codec.encode_json(value)
        return receipt.assemble(
            data, [(R_ID, receipt.sign(R_KEY, data)), (S_ID, receipt.sign(S_KEY, data))]
        )

    def headed(header: Any, index: int = 0, key: SigningKey = R_KEY) -> bytes:
        """The good receipt with another protected header, correctly signed over it."""
        protected = b64(codec.encode_json(header) if not isinstance(header, bytes) else header)
        signature = key.sign(f"{protected}.{outer['payload']}".encode()).signature
        signatures = [dict(one) for one in outer["signatures"]]
        signatures[index] = {"protected": protected, "signature": b64(signature)}
        return codec.encode_json({**outer, "signatures": signatures})

    def outside(**members: Any) -> bytes:
        return codec.encode_json({**outer, **members})

    kid_r, sigs = receipt.thumbprint(R_ID), outer["signatures"]
    other = SigningKey(b"\x03" * 32)
    stranger = bytes(other.verify_key)
    content = payload()["content"]
    variants = {
        "complete": good,
        "half": receipt.assemble(octets, [(R_ID, r_sig)]),
        "incomplete": signed(payload(outcome="incomplete")),
        "spaces around": b" " + good + b"\n",
        "flipped payload": good.replace(b"Y2xvc2luZ", b"Y2xvc2luX")
        if b"Y2xvc2luZ" in good
        else good.replace(outer["payload"][40:44].encode(), b"AAAA", 1),
        "no signature": outside(signatures=[]),
        "three signatures": outside(signatures=[*sigs, sigs[0]]),
        "same signature twice": outside(signatures=[sigs[0], sigs[0]]),
        "wrong order": outside(signatures=sigs[::-1]),
        "sender only": outside(signatures=[sigs[1]]),
        "flipped first": receipt.assemble(octets, [(R_ID, bytes(64)), (S_ID, s_sig)]),
        "flipped second": receipt.assemble(octets, [(R_ID, r_sig), (S_ID, r_sig)]),
        "signed by a stranger": receipt.assemble(
            octets, [(stranger, receipt.sign(other, octets)), (S_ID, s_sig)]
        ),
        "alg none": headed({"alg": "none", "kid": kid_r}),
        "alg EdDSA": headed({"alg": "EdDSA", "kid": kid_r}),
        "alg HS256": headed({"alg": "HS256", "kid": kid_r}),
        "no alg": headed({"kid": kid_r}),
        "no kid": headed({"alg": "Ed25519"}),
        "kid of another": headed({"alg": "Ed25519", "kid": receipt.thumbprint(stranger)}),
        "jwk in the header": headed({"alg": "Ed25519", "kid": kid_r, "jwk": receipt.jwk(stranger)}),
        "jku in the header": headed(
            {"alg": "Ed25519", "kid": kid_r, "jku": "https://example.org/"}
        ),
        "x5c in the header": headed({"alg": "Ed25519", "kid": kid_r, "x5c": []}),
        "crit": headed({"alg": "Ed25519", "kid": kid_r, "crit": ["exp"]}),
        "b64 false": headed({"alg": "Ed25519", "kid": kid_r, "b64": False, "crit": ["b64"]}),
        "header with spaces": headed(b'{"alg": "Ed25519", "kid": "' + kid_r.encode() + b'"}'),
        "duplicate header member": headed(
            b'{"alg":"none","alg":"Ed25519","kid":"' + kid_r.encode() + b'"}'
        ),
        "unprotected header": outside(
            signatures=[{**sigs[0], "header": {"alg": "Ed25519"}}, sigs[1]]
        ),
        "extra member": outside(extra=1),
        "compact": f"{sigs[0]['protected']}.{outer['payload']}.{sigs[0]['signature']}".encode(),
        "flattened": codec.encode_json({"payload": outer["payload"], **sigs[0]}),
        "payload padded": outside(payload=outer["payload"] + "="),
        "payload not JSON": signed(b"hello"),
        "empty": b"",
        "not JSON": b"receipt",
        "array": b"[]",
        "payload duplicate member": signed(octets[:-1] + b',"outcome":"complete"}'),
        "payload extra member": signed(payload(patient="x")),
        "no outcome": signed(payload(outcome=...)),
        "outcome delivered": signed(payload(outcome="delivered")),
        "other type": signed(payload(type="handover-receipt/2")),
        "no sender": signed(payload(sender=...)),
        "kid of the payload wrong": signed(
            payload(sender={**receipt.party(S_ID, "", "", ""), "kid": kid_r})
        ),
        "stored elsewhere": signed(payload(stored="cloud")),
        "root short": signed(payload(content={**content, "root": "AAAA"})),
        "count negative": signed(payload(content={**content, "entries": -1})),
        "count float": signed(octets.replace(b'"entries":4', b'"entries":4.0')),
        "no times": signed(payload(times={})),
        "label too long": signed(payload(sender=receipt.party(S_ID, "x" * 129, "", ""))),
        "roles swapped": receipt.assemble(
            codec.encode_json(
                payload(sender=payload()["recipient"], recipient=payload()["sender"])
            ),
            [(R_ID, r_sig), (S_ID, s_sig)],
        ),
        "key of another curve": signed(
            payload(sender={**payload()["sender"], "jwk": {**receipt.jwk(S_ID), "crv": "X25519"}})
        ),
        **{
            f"time {time!r}": signed(payload(times={**payload()["times"], "closed": time}))
            for time in [*TIMES, *NO_TIMES]
        },
        **{
            f"no time of {name}": signed(payload(times={**payload()["times"], name: NO_TIMES[6]}))
            for name in payload()["times"]
        },
        "private key inside": signed(
            payload(
                sender={**payload()["sender"], "jwk": {**receipt.jwk(S_ID), "d": b64(bytes(32))}}
            )
        ),
        "too large": good + b" " * 70_000 + b"x",
        **hostile_receipts(octets, good),
    }

    def read(data: bytes) -> Any:
        try:
            found = receipt.verify(data)
        except receipt.BadReceipt as bad:
            return {"error": bad.reason.code}
        return {
            "sender": found.sender.hex(),
            "recipient": found.recipient.hex(),
            "confirmed": found.confirmed,
            "outcome": found.payload["outcome"],
        }

    cases = [
        {"name": n, "receipt": d.decode("latin-1"), "expect": read(d)} for n, d in variants.items()
    ]
    assert [c["name"] for c in cases if "error" not in c["expect"]] == [
        "complete",
        "half",
        "incomplete",
        "spaces around",
        *(f"time {time!r}" for time in TIMES),
        "one key for both",
    ], [c["name"] for c in cases if "error" not in c["expect"]]
    write("receipt", cases)


def hostile_receipts(octets: bytes, good: bytes) -> dict[str, bytes]:
    """What a forger might try, or a parser might stumble over. `octets` are the payload of `good`."""
    outer = json.loads(good)
    sigs, own = outer["signatures"], payload()
    kid_r = receipt.thumbprint(R_ID)

    def signed(value: Any) -> bytes:
        data = value if isinstance(value, bytes) else codec.encode_json(value)
        return receipt.assemble(
            data, [(R_ID, receipt.sign(R_KEY, data)), (S_ID, receipt.sign(S_KEY, data))]
        )

    def content(**members: Any) -> bytes:
        return signed(payload(content={**own["content"], **members}))

    def security(**members: Any) -> bytes:
        return signed(payload(security={**own["security"], **members}))

    def sender(**members: Any) -> bytes:
        return signed(payload(sender={**own["sender"], **members}))

    def number(text: str) -> bytes:
        """The payload with another text for the number of entries."""
        return signed(octets.replace(b'"entries":4', b'"entries":' + text.encode()))

    def headed(header: Any) -> bytes:
        """A first header of one's own, over which the recipient has signed correctly."""
        protected = b64(header if isinstance(header, bytes) else codec.encode_json(header))
        signature = R_KEY.sign(f"{protected}.{outer['payload']}".encode()).signature
        first = {"protected": protected, "signature": b64(signature)}
        return codec.encode_json({**outer, "signatures": [first, sigs[1]]})

    def first(**members: Any) -> bytes:
        """Other members of the first signature."""
        return codec.encode_json({**outer, "signatures": [{**sigs[0], **members}, sigs[1]]})

    signature = codec.decode_base64url(sigs[0]["signature"])
    order = 2**252 + 27742317777372353535851937790883648493  # of the group (RFC 8032 5.1)
    beyond = int.from_bytes(signature[32:], "little") + order
    # Alphabets and padding that a lenient decoder takes for the same bytes.
    standard = base64.b64encode(signature).decode()
    last = sigs[0]["signature"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    loose = last[:-1] + alphabet[alphabet.index(last[-1]) + 1]
    point = bytes([1]) + bytes(31)  # the neutral element: its signatures need no key
    weak = codec.encode_json(payload(recipient=receipt.party(point, "", "", "")))
    deep = b"[" * 20_000 + b"]" * 20_000
    same_key = codec.encode_json(payload(sender=receipt.party(R_ID, "", "test/1", audit.GENESIS)))
    return {
        "one key for both": receipt.assemble(same_key, [(R_ID, receipt.sign(R_KEY, same_key))] * 2),
        # keys and signatures
        "signature with s beyond the order": first(
            signature=b64(signature[:32] + beyond.to_bytes(32, "little"))
        ),
        "key of small order": receipt.assemble(weak, [(point, point + bytes(32))]),
        "signature of 63 bytes": first(signature=b64(signature[:63])),
        "signature of 65 bytes": first(signature=b64(signature + bytes(1))),
        "no signature at all": first(signature=""),
        "signature as hex": first(signature=signature.hex()),
        "signature in standard base64": first(signature=standard),
        "signature with loose bits": first(signature=loose),
        "signature with a newline": first(signature=last[:40] + "\n" + last[40:]),
        "signature null": first(signature=None),
        "signatures null": codec.encode_json({**outer, "signatures": None}),
        "signatures an object": codec.encode_json({**outer, "signatures": {"0": sigs[0]}}),
        "signatures in an array": codec.encode_json({**outer, "signatures": [sigs]}),
        "of another payload": codec.encode_json(
            {**outer, "payload": b64(codec.encode_json(payload(outcome="incomplete")))}
        ),
        "sender's key of 31 bytes": sender(jwk={**receipt.jwk(S_ID), "x": b64(bytes(31))}),
        "sender's key of another type": sender(jwk={**receipt.jwk(S_ID), "kty": "EC"}),
        "sender's key without a curve": sender(jwk={"kty": "OKP", "x": b64(S_ID)}),
        # headers
        "alg ed25519": headed({"alg": "ed25519", "kid": kid_r}),
        "alg null": headed({"alg": None, "kid": kid_r}),
        "alg in an array": headed({"alg": ["Ed25519"], "kid": kid_r}),
        "alg with a Cyrillic a": headed({"alg": "Ed25519", "\u0430lg": "none", "kid": kid_r}),
        "kid null": headed({"alg": "Ed25519", "kid": None}),
        "kid in capitals": headed({"alg": "Ed25519", "kid": kid_r.upper()}),
        "typ": headed({"alg": "Ed25519", "kid": kid_r, "typ": "JOSE"}),
        "x5u in the header": headed(
            {"alg": "Ed25519", "kid": kid_r, "x5u": "https://example.org/"}
        ),
        "header in another order": headed(b'{"kid":"' + kid_r.encode() + b'","alg":"Ed25519"}'),
        "header with an escape": headed(b'{"alg":"Ed2551\\u0039","kid":"' + kid_r.encode() + b'"}'),
        "header of nothing": headed(b""),
        "header an array": headed(b'["alg","Ed25519"]'),
        "header with __proto__": headed(
            b'{"__proto__":{"alg":"none"},"alg":"Ed25519","kid":"' + kid_r.encode() + b'"}'
        ),
        # the outside
        "payload twice": good[:-1] + b',"payload":"' + outer["payload"].encode() + b'"}',
        "signatures twice": good[:-1] + b',"signatures":[]}',
        "payload with a Cyrillic a": codec.encode_json({**outer, "p\u0430yload": ""}),
        "__proto__ outside": good[:-1] + b',"__proto__":{"payload":""}}',
        "payload of nothing": codec.encode_json({**outer, "payload": ""}),
        "payload a number": codec.encode_json({**outer, "payload": 1}),
        "cut in the middle": good[: len(good) // 2],
        "cut by one byte": good[:-1],
        "cut in the last signature": good[:-20],
        "two of them": good + good,
        "a NUL after it": good + b"\0",
        "a comma too many": good[:-1] + b",}",
        "a comment": b"/* receipt */" + good,
        "a byte order mark": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "nested deeply": deep,
        "nested deeply in a member": good[:-1] + b',"deep":' + deep + b"}",
        # the payload
        "payload nested deeply": signed(
            octets[:-1] + b',"deep":' + b"[" * 4000 + b"]" * 4000 + b"}"
        ),
        "payload with __proto__": signed(octets[:-1] + b',"__proto__":{}}'),
        "sender with a Cyrillic e": signed(octets.replace(b'"sender"', '"s\u0435nder"'.encode())),
        "outcome with a Cyrillic c": signed(payload(outcome="\u0441omplete")),
        "sender with one member more": sender(role="sender"),
        "label with half a surrogate": signed(octets.replace(b"Reading room", b"\\ud800")),
        "label that is no UTF-8": signed(octets.replace(b"Reading room", b"\xff\xfe")),
        "label overlong in UTF-8": signed(octets.replace(b"Reading room", b"\xc0\xaf")),
        "label with a control character": signed(octets.replace(b"Reading room", b"a\x01")),
        "audit head too long": sender(audit_head="0" * 65),
        "entries 2^53": number("9007199254740992"),
        "entries 2^64": number("18446744073709551616"),
        "entries 1e999": number("1e999"),
        "entries of 5,000 digits": number("9" * 5000),
        "entries 4e0": number("4e0"),
        "entries -0": number("-0"),
        "entries 04": number("04"),
        "entries +4": number("+4"),
        "entries hexadecimal": number("0x4"),
        "entries NaN": number("NaN"),
        "entries Infinity": number("Infinity"),
        "entries as text": number('"4"'),
        "entries true": number("true"),
        "skipped negative": content(skipped=-1),
        "skipped null": content(skipped=None),
        "hash sha-1": content(hash="sha-1"),
        "another tree": content(tree="rfc9162"),
        "root with a space": content(root=" " + own["content"]["root"]),
        "digits 1": security(digits_confirmed=1),
        "passphrase as text": security(passphrase="false"),
        "path unknown": security(path="pigeon"),
        "fingerprint of 16 bytes": security(fingerprint_sender=b64(bytes(16))),
        "transfer of 15 bytes": signed(payload(transfer_id=b64(bytes(15)))),
        "content an array": signed(payload(content=[])),
        "recipient null": signed(payload(recipient=None)),
        "payload an array": signed(b"[]"),
        "payload a text": signed(b'"receipt"'),
        "payload of nothing, signed": signed(b""),
    }


def make_same() -> None:
    """Whether a receipt says what happened: the first member in which it does not, or null."""
    said = {
        "outcome": "complete",
        "content": {"entries": 4, "skipped": 0},
        "sender": {"jwk": {"x": "AA"}, "label": ""},
        "security": {"passphrase": False},
    }
    expectations: dict[str, dict[str, Any]] = {
        "nothing": {},
        "itself": said,
        "a part": {"sender": {"label": ""}, "outcome": "complete"},
        "another text": {"outcome": "incomplete"},
        "another number": {"content": {"entries": 5}},
        "a number within": {"content": {"skipped": 0, "entries": 3}},
        "a member within a member within": {"sender": {"jwk": {"x": "AB"}}},
        "the first of two": {"content": {"skipped": 1}, "outcome": "incomplete"},
        "the second of two": {"content": {"skipped": 0}, "outcome": "incomplete"},
        "a member that is not said": {"closing_sha256": "AA"},
        "an object that is not said": {"times": {"closed": "x"}},
        "an object where a text is": {"outcome": {"of": "x"}},
        "a text where an object is": {"content": "x"},
        "a text where a number is": {"content": {"entries": "4"}},
        "true where false is": {"security": {"passphrase": True}},
        "a number where false is": {"security": {"passphrase": 0}},
    }

    def differs(expected: dict[str, Any]) -> str | None:
        try:
            receipt.require_same(said, expected)
        except receipt.BadReceipt as reason:
            return str(reason.reason.values["member"])
        return None

    write(
        "same",
        [
            # In order: the first that differs is named.
            {"name": n, "said": said, "expected": list(e.items()), "expect": differs(e)}
            for n, e in expectations.items()
        ],
    )


def make_checkpoint() -> None:
    """Trees of lines, proofs that one begins with another, and notes. (RFC 9162, C2SP)"""
    lines = [f'{{"seq":{number}}}'.encode() for number in range(1, 10)]

    def root(begin: int, end: int) -> bytes:
        """By the definition in RFC 9162 2.1.1."""
        if begin == end:
            return codec.sha256(b"")
        if end - begin == 1:
            return codec.sha256(b"\x00" + lines[begin])
        middle = 1
        while middle * 2 < end - begin:
            middle *= 2
        left, right = root(begin, begin + middle), root(begin + middle, end)
        return codec.sha256(b"\x01" + left + right)

    def consistent(old: int, before: bytes, new: int, after: bytes, proof: list[bytes]) -> str:
        try:
            checkpoint.check_consistency(old, before, new, after, proof)
        except checkpoint.BadCheckpoint as bad:
            return bad.reason.code
        return "ok"

    def case(name: str, old: int, new: int, proof: list[bytes], **changed: bytes) -> Case:
        before, after = changed.get("before", root(0, old)), changed.get("after", root(0, new))
        return {
            "name": name,
            "old": old,
            "old_root": before.hex(),
            "new": new,
            "new_root": after.hex(),
            "proof": [node.hex() for node in proof],
            "expect": consistent(old, before, new, after, proof),
        }

    def proof(old: int, new: int) -> list[bytes]:
        return [root(*span) for span in checkpoint.proof_ranges(old, new)]

    zeros = bytes(32)
    proofs = [
        *(
            case(f"{old} of {new}", old, new, proof(old, new))
            for new in range(1, 10)
            for old in range(1, new + 1)
        ),
        case("none of 3", 0, 3, []),
        case("none of 3, with a node", 0, 3, [zeros]),
        case("3 of 7, another old root", 3, 7, proof(3, 7), before=zeros),
        case("3 of 7, another new root", 3, 7, proof(3, 7), after=zeros),
        case("3 of 7, a node too few", 3, 7, proof(3, 7)[:-1]),
        case("3 of 7, a node too many", 3, 7, [*proof(3, 7), zeros]),
        case("3 of 7, nodes in another order", 3, 7, proof(3, 7)[::-1]),
        case("3 of 7, no node", 3, 7, []),
        case("4 of 7, no node", 4, 7, []),
        case("7 of 3", 7, 3, proof(3, 7)),
        case("5 of 5, with a node", 5, 5, [zeros]),
        case("5 of 5, another root", 5, 5, [], after=zeros),
    ]
    good = checkpoint.sign(S_KEY, 9, root(0, 9))
    both = checkpoint.cosign(R_KEY, good, 1_700_000_000)
    text, signature = good.checkpoint.text().decode(), good.encode().decode().split("\n\n")[1]
    theirs = both.encode().decode().splitlines()[-1]
    name, cosignature = both.signatures[1]
    later = good.with_signature(name, cosignature[:11] + b"\xff" + cosignature[12:])
    nameless = f"\u2014 handover-witness/x {b64s(76)}\n"
    origin, size, sum_line = text.splitlines()
    notes = {
        "signed": good.encode(),
        "cosigned": both.encode(),
        "cosigned by its owner": checkpoint.cosign(S_KEY, good, 0).encode(),
        "a signature of another kind": good.encode()
        + f"\u2014 example.org/log {b64s(68)}\n".encode(),
        "of another size": good.encode().replace(b"\n9\n", b"\n8\n"),
        "a cosignature of another time": later.encode(),
        "a cosignature of a key that is not told": good.encode() + nameless.encode(),
        "not signed by its owner": f"{text}\n{theirs}\n".encode(),
        "without signatures": text.encode() + b"\n",
        "without an empty line": f"{text}{signature}".encode(),
        "with an extension": f"{text}more\n\n{signature}".encode(),
        "size 09": f"{origin}\n09\n{sum_line}\n\n{signature}".encode(),
        "size -1": f"{origin}\n-1\n{sum_line}\n\n{signature}".encode(),
        "size 2^60": f"{origin}\n{2**60}\n{sum_line}\n\n{signature}".encode(),
        "root of 31 bytes": f"{origin}\n{size}\n{b64s(31)}\n\n{signature}".encode(),
        "root without padding": f"{origin}\n{size}\n{sum_line[:-1]}\n\n{signature}".encode(),
        "origin with a space": f"a b\n{size}\n{sum_line}\n\n{signature}".encode(),
        "no origin": f"\n{size}\n{sum_line}\n\n{signature}".encode(),
        "a hyphen for the dash": good.encode().replace("\u2014".encode(), b"-"),
        "a carriage return": good.encode().replace(b"\n9\n", b"\r\n9\r\n"),
        "no newline at the end": good.encode()[:-1],
        "a signature too short": f"{text}\n\u2014 {origin} {b64s(4)}\n".encode(),
        "no UTF-8": good.encode() + b"\xff",
        "empty": b"",
        "65 signatures": f"{text}\n{signature * 65}".encode(),
    }

    def told(data: bytes) -> Any:
        try:
            note = checkpoint.decode(data)
            owner, witnesses = checkpoint.check(note), checkpoint.witnesses(note)
        except checkpoint.BadCheckpoint as bad:
            return {"error": bad.reason.code}
        return {
            "owner": owner.hex(),
            "size": note.checkpoint.size,
            "root": note.checkpoint.root.hex(),
            "witnesses": {key.hex(): time for key, time in witnesses.items()},
        }

    trees = [
        {
            "name": f"{size} lines",
            "lines": [line.decode() for line in lines[:size]],
            "expect": root(0, size).hex(),
        }
        for size in range(10)
    ]
    written = [
        {"name": name, "note": data.decode("latin-1"), "expect": told(data)}
        for name, data in notes.items()
    ]
    write("checkpoint", [*trees, *proofs, *written])


def b64s(length: int) -> str:
    """So many zeros in standard base64."""
    return base64.b64encode(bytes(length)).decode()


def make_disclosure() -> None:
    entries = [
        manifest.Entry("a/eins.dcm", "file", 3, 0),
        manifest.Entry("a/zwei.dcm", "file", 5, 0),
        manifest.Entry("b", "directory", 0, 0),
    ]
    offered, results = manifest.Manifest(tuple(entries), bytes(range(32))), manifest.Results(3)
    results.delivered(0, bytes([7]) * 32)
    results.failed(1, 16)
    results.delivered(2, bytes(32))
    transfer = bytes(range(16))
    documents = [
        json.loads(disclosure.disclose(transfer, offered, results, index)) for index in range(3)
    ]
    first = documents[0]
    changed: dict[str, dict[str, Any]] = {
        "another path": first | {"path": "a/drei.dcm"},
        "another size": first | {"size": 4},
        "another status": first | {"status": "changed"},
        "another digest": first | {"sha256": b64(bytes(32))},
        "another salt": first | {"salt": b64(bytes(16))},
        "another place": first | {"entry": 1},
        "a place beyond the last": first | {"entry": 3},
        "a node too few": first | {"audit_path": first["audit_path"][:-1]},
        "a node too many": first | {"audit_path": [*first["audit_path"], b64(bytes(32))]},
        "of another transfer": first | {"transfer_id": b64(bytes(16))},
        "another type": first | {"typ": "disclosure"},
        "a later version": first | {"version": 2},
        "a node of 31 bytes": first | {"audit_path": [b64(bytes(31))]},
        "no path": {name: value for name, value in first.items() if name != "path"},
    }
    told = {f"entry {index}": document for index, document in enumerate(documents)} | changed
    receipts = SimpleNamespace(
        payload={
            "transfer_id": transfer,
            "content": {"entries": 3, "root": manifest.results_root(offered, results)},
        }
    )

    def checked(document: dict[str, Any]) -> str:
        try:
            disclosure.check(codec.encode_json(document), cast(Any, receipts))
        except disclosure.BadDisclosure as bad:
            return bad.reason.code
        return "ok"

    write(
        "disclosure",
        [
            {
                "name": name,
                "transfer_id": b64(transfer),
                "entries": 3,
                "root": manifest.results_root(offered, results).hex(),
                "document": document,
                "expect": checked(document),
            }
            for name, document in told.items()
        ],
    )


def make_audit() -> None:
    lines: list[bytes] = []
    head = audit.GENESIS
    for number, event in enumerate(["transfer", "transfer", "transfer", "transfer"], 1):
        lines.append(
            audit.entry(
                head,
                number,
                f"2026-01-02T03:04:0{number}.000Z",
                event,
                {"role": "sender", "ending": "complete"},
            )
        )
        head = audit.line_hash(lines[-1][:-1])
    torn = lines[2][:20] + b"\n"
    recovered = audit.entry(
        audit.line_hash(torn[:-1]), 4, "2026-01-02T03:04:09.000Z", audit.RECOVERED, {}
    )
    unrelated = audit.entry(
        audit.line_hash(torn[:-1]), 4, "2026-01-02T03:04:09.000Z", "transfer", {}
    )
    variants = {
        "four": lines,
        "none": [],
        "one": lines[:1],
        "torn and recovered": [*lines[:2], torn, recovered],
        "changed": [lines[0], lines[1].replace(b"complete", b"declined"), *lines[2:]],
        "removed": [lines[0], *lines[2:]],
        "removed at the start": lines[1:],
        "inserted": [lines[0], lines[0], *lines[1:]],
        "swapped": [lines[0], lines[2], lines[1], lines[3]],
        "last changed is found by its sequence": [
            *lines[:3],
            lines[3].replace(b'"seq":4', b'"seq":5'),
        ],
        "not JSON": [lines[0], b"x\n", *lines[1:]],
        "blank line": [lines[0], b"\n", *lines[1:]],
        "torn at the end": [*lines[:2], lines[2][:20]],
        "no newline at the end": [*lines[:3], lines[3][:-1]],
        "torn but not recovered": [*lines[:2], torn, unrelated],
        "two torn lines": [*lines[:2], torn, b"{\n", recovered],
        "a list": [b"[]\n"],
        "line too long": [lines[0][:-2] + b" " * audit.MAX_LINE + b"}\n", *lines[1:]],
        "line too long in parts": [lines[0][:-2] + b" " * audit.MAX_LINE, b"}\n", recovered],
        "member missing": [b'{"seq":1,"time":"","event":"x"}\n'],
        "not chained to the start": [lines[0].replace(b'"prev":"0', b'"prev":"1')],
    }

    def check(given: list[bytes]) -> Any:
        try:
            found = audit.verify(given)
        except audit.BadLine as bad:
            return {"bad_line": bad.number}
        return {"lines": found.lines, "head": found.head}

    cases = [
        {"name": n, "lines": [x.decode() for x in ls], "expect": check(ls)}
        for n, ls in variants.items()
    ]
    assert sum("bad_line" in c["expect"] for c in cases) == len(cases) - 4
    write("audit", cases)


# --- control messages and signaling messages --------------------------------------------------------


def make_messages() -> None:
    from p2p.protocol import session

    sig, h = b64(bytes(64)), b64(b"\x11" * 32)
    signed = {"body": "{}", "signature": sig}
    ack = {"stream": 1, "written": 3, "limit": 4, "durable": 2, "verified": 1, "lanes": [[0, 7]]}
    direct = {"addresses": ["192.0.2.1", "2001:db8::1"], "port": 4000, "certificate": b64(b"der")}
    good: dict[str, Case] = {
        "confirmed": {},
        "offer": signed,
        "accept": signed,
        "decline": {},
        "ack": ack,
        "withdraw": {"entries": [[0, 1, 0]]},
        "failed": {"entries": [[0, 16]]},
        "closing": signed,
        "receipt": {"payload": "{}", "signature": sig},
        "countersignature": {"signature": sig},
        "done": {},
        "direct": direct,
        "https": {"token": h},
        "lane": {"lane": 1, "signal": "{}"},
        "ping": {"bottleneck": "disk"},
        "abort": {"code": "cancelled"},
    }
    bodies: dict[str, Case] = {
        "offer body": {
            "type": "offer",
            "transfer_id": b64(TRANSFER),
            "transcript": h,
            "sender": h,
            "recipient": h,
            "manifest_sha256": h,
            "manifest_bytes": 100,
            "entries": 1,
            "bytes": 0,
            "time": "2026-01-02T03:04:05Z",
        },
        "accept body": {
            "type": "accept",
            "offset": 0,
            "transfer_id": b64(TRANSFER),
            "transcript": h,
            "offer_sha256": h,
            "time": "2026-01-02T03:04:05Z",
        },
        "closing body": {
            "type": "closing",
            "transfer_id": b64(TRANSFER),
            "manifest_sha256": h,
            "digests_sha256": h,
            "audit_head": "0" * 64,
            "time": "2026-01-02T03:04:05Z",
        },
    }
    shapes = {
        **{k: v for k, v in session.MESSAGES.items()},
        "offer body": session.OFFER_BODY,
        "accept body": session.ACCEPT_BODY,
        "closing body": session.CLOSING_BODY,
    }
    bad: dict[str, list[Case]] = {
        "ack": [
            {"stream": 3},
            {"stream": -1},
            {"written": -1},
            {"limit": 2**53},
            {"durable": "1"},
            {"verified": None},
            {"verified": True},
            {"lanes": [[0]]},
            {"lanes": [[-1, 0]]},
            {"lanes": [[65_536, 0]]},
            {"lanes": [[0, -1]]},
            {"lanes": [[0, 0]] * 33},
        ],
        "direct": [
            {"addresses": ["192.0.2.1"] * 17},
            {"addresses": [""]},
            {"addresses": ["x" * 46]},
            {"port": 1023},
            {"port": 65_536},
            {"certificate": b64(bytes(2049))},
        ],
        "https": [{"token": b64(bytes(31))}, {"token": ""}, {"token": 1}],
        "ping": [{"bottleneck": "cpu"}, {"bottleneck": 1}, {"bottleneck": None}],
        "lane": [{"lane": 0}, {"lane": 65_536}, {"signal": "x" * 8193}, {"signal": {}}],
        "withdraw": [
            {"entries": []},
            {"entries": [[0, 1]]},
            {"entries": [[0, 1, 0, 0]]},
            {"entries": [[-1, 1, 0]]},
            {"entries": [[200_000, 1, 0]]},
            {"entries": [[0, 256, 0]]},
            {"entries": [[0, 1, -1]]},
            {"entries": [[0, 1, 0]] * 257},
            {"entries": {}},
            {"entries": [0]},
        ],
        "failed": [
            {"entries": []},
            {"entries": [[0]]},
            {"entries": [[0, -1]]},
            {"entries": [[0, 1]] * 257},
        ],
        "offer": [
            {"body": ""},
            {"body": "x" * 4097},
            {"signature": b64(bytes(63))},
            {"signature": b64(bytes(65))},
            {"signature": 1},
            {"body": {}},
        ],
        "receipt": [{"payload": ""}, {"payload": "x" * 16385}],
        "countersignature": [{"signature": ""}],
        "abort": [{"code": "x" * 33}, {"code": 1}],
        "offer body": [
            {"type": "accept"},
            {"transfer_id": b64(bytes(15))},
            {"manifest_bytes": 0},
            {"manifest_bytes": 64 * 2**20 + 1},
            {"entries": 0},
            {"entries": 200_001},
            {"bytes": -1},
            {"bytes": 2**53},
            {"time": ""},
            {"time": "x" * 41},
            {"sender": b64(bytes(31))},
        ],
        "accept body": [
            {"type": "offer"},
            {"offer_sha256": "x"},
            {"offset": -1},
            {"offset": 2**53},
        ],
        "closing body": [{"audit_head": "0" * 65}, {"digests_sha256": b64(bytes(33))}],
    }
    cases: list[Case] = []

    def read(kind: str, value: Case) -> str:
        codec.read_as(shapes[kind], value, kind)
        return "ok"

    for kind, members in {**good, **bodies}.items():
        whole = members if kind in bodies else {"type": kind, **members}
        variants = {
            "good": whole,
            "extra member": {**whole, "extra": 1},
            **{
                f"without {m}": {k: v for k, v in whole.items() if k != m}
                for m in whole
                if m != "type" or kind in bodies
            },
            **{
                f"{k} = {json.dumps(v)[:24]}": {**whole, k: v}
                for change in bad.get(kind, [])
                for k, v in change.items()
            },
            **{f"time {v!r}": {**whole, "time": v} for v in NO_TIMES if kind in bodies},
        }
        for name, value in variants.items():
            expect = outcome(partial(read, kind, value))
            assert (expect == "ok") == (name == "good"), (kind, name)
            cases.append(
                {"name": f"{kind}: {name}", "kind": kind, "message": value, "expect": expect}
            )
    write("messages", [{**c, "name": f"{i}: {c['name']}"} for i, c in enumerate(cases)])


def make_signaling() -> None:
    from signaling import messages

    good: dict[str, Case] = {
        "create": {"room": KEYS.room, "join_hash": bytes(32), "owner": bytes(32), "ttl": 60},
        "join": {"room": KEYS.room, "join": KEYS.join},
        "envelope": {"attempt": ATTEMPT_ID, "body": b"sealed"},
        "leave": {"attempt": ATTEMPT_ID},
        "close": {},
        "stay": {"room": KEYS.room, "join": KEYS.join},
    }
    cases: list[Case] = []

    def case(name: str, text: str) -> None:
        try:
            messages.decode(text, messages.FROM_PEER)
            expect: Any = "ok"
        except messages.BadMessage:
            expect = {"error": "bad_message"}
        cases.append({"name": name, "text": text, "expect": expect})

    for kind, members in good.items():
        text = messages.encode(kind, **members)
        value = json.loads(text)
        case(kind, text)
        case(f"{kind}: extra member", json.dumps({**value, "x": 1}))
        for member in members:
            case(
                f"{kind}: without {member}",
                json.dumps({k: v for k, v in value.items() if k != member}),
            )
            values: list[Any] = [None, 1.5, True, "", "AAAA=", "*", b64(bytes(40)), [], -1, 2**60]
            for bad in values:
                case(f"{kind}: {member} = {json.dumps(bad)}", json.dumps({**value, member: bad}))
    create = json.loads(messages.encode("create", **good["create"]))
    tokens: list[Any] = ["t", "x" * messages.MAX_TOKEN, "x" * (messages.MAX_TOKEN + 1)]
    for token in (*tokens, "", 1, [], True, "\ud800"):
        text = json.dumps({**create, "token": token})
        case(f"create: token of {len(json.dumps(token))}: {text[-12:-2]}", text)
    for text in (
        "",
        "{}",
        "[]",
        "null",
        "1",
        '{"type":1}',
        '{"type":"created"}',
        '{"type":["join"]}',
        "[" * 5000,
        "{" * 5000,
        "x" * 20_000,
    ):
        case(f"not a message: {text[:12]} ({len(text)})", text)
    write(
        "signaling",
        [c for c in cases if not (c["name"].endswith(('body = "' + b64(bytes(40)) + '"',)))],
    )
    assert sum(c["expect"] == "ok" for c in cases) <= 9


# --- compressed ranges ----------------------------------------------------------------------------


def filtered(data: bytes, phase: int = 0) -> bytes:
    """The 16-bit filter as PROTOCOL.md tells it, sample by sample."""
    count = (len(data) - phase) // 2
    low, high, before = bytearray(), bytearray(), 0
    for at in range(phase, phase + 2 * count, 2):
        sample = data[at] | data[at + 1] << 8
        delta = (sample - before) % 2**16
        folded = 2 * delta if delta < 2**15 else 2 * (2**16 - delta) - 1
        low.append(folded & 0xFF)
        high.append(folded >> 8)
        before = sample
    return data[:phase] + bytes(low + high) + data[phase + 2 * count :]


def block(data: bytes, *, last: bool = True, kind: int = 0, size: int | None = None) -> bytes:
    """A block of a zstd frame: kind 0 holds its data, 1 one byte that is repeated, 2 is compressed."""
    head = last | kind << 1 | (len(data) if size is None else size) << 3
    return head.to_bytes(3, "little") + data


def frame(
    size: int | None,
    blocks: bytes,
    *,
    width: int = 4,
    window: int | None = None,
    dictionary: bytes = b"",
    bits: int = 0,
    magic: int = 0xFD2FB528,
) -> bytes:
    """A zstd frame by hand (RFC 8878, 3.1.1). `window` is its descriptor; none: a single segment."""
    code = 0 if size is None else {1: 0, 2: 1, 4: 2, 8: 3}[width]
    known = {0: 0, 1: 1, 2: 2, 4: 3}[len(dictionary)]
    head = bits | code << 6 | (0x20 if window is None else 0) | known
    declared = b"" if size is None else (size - 256 * (width == 2)).to_bytes(width, "little")
    return b"".join(
        (
            magic.to_bytes(4, "little"),
            bytes([head]),
            b"" if window is None else bytes([window]),
            dictionary,
            declared,
            blocks,
        )
    )


def make_compression() -> None:
    def packed(data: bytes, **options: Any) -> bytes:
        return zstandard.ZstdCompressor(1, **options).compress(data)

    hole, zstd, filter_, phase = seal.HOLE, seal.ZSTD, seal.FILTER, seal.PHASE
    text = b"Handover hands over. " * 20
    size = len(text)
    # Samples that wander, wrap around on the way, and step from end to end of what 16 bits hold.
    pixels = b"".join(
        ((at * 37 % 101 - 1000 + (at // 64) * 3) % 2**16).to_bytes(2, "little") for at in range(700)
    ) + bytes.fromhex("ffff0000ff7f00800180feff0100")
    odd = b"\x7f" + pixels
    good = packed(text)
    checked = packed(text, write_checksum=True)
    long = frame(size, block(text))
    skippable = bytes.fromhex("502a4d180400000001020304")
    largest = packed(bytes(seal.MAX_RANGE))
    valid: dict[str, tuple[int, bytes, bytes]] = {
        "stored": (0, b"data", b"data"),
        "stored, one byte": (0, b"\x00", b"\x00"),
        "compressed": (zstd, good, text),
        "compressed, with a checksum": (zstd, checked, text),
        "compressed at level 19": (zstd, zstandard.ZstdCompressor(19).compress(text), text),
        "compressed, the longest": (zstd, largest, bytes(seal.MAX_RANGE)),
        "one byte": (zstd, frame(1, block(b"x"), width=1), b"x"),
        "size in 1 byte": (zstd, frame(5, block(b"hello"), width=1), b"hello"),
        "size in 2 bytes": (zstd, frame(size, block(text), width=2), text),
        "size in 4 bytes": (zstd, long, text),
        "size in 8 bytes": (zstd, frame(size, block(text), width=8), text),
        "unused bit": (zstd, frame(size, block(text), bits=0x10), text),
        "several blocks": (
            zstd,
            frame(9, block(b"abcd", last=False) + block(b"x", kind=1, size=5), width=1),
            b"abcdxxxxx",
        ),
        "an empty block": (zstd, frame(4, block(b"", last=False) + block(b"data")), b"data"),
        "window of 1 KiB": (
            zstd,
            frame(1024, block(b"x", kind=1, size=1024), window=0),
            b"x" * 1024,
        ),
        "window of 1.5 KiB": (
            zstd,
            frame(
                2000,
                block(b"x", last=False, kind=1, size=1000) + block(b"y", kind=1, size=1000),
                window=4,
            ),
            b"x" * 1000 + b"y" * 1000,
        ),
        "filtered": (zstd | filter_, packed(filtered(pixels)), pixels),
        "filtered, odd rest": (zstd | filter_, packed(filtered(pixels + b"z")), pixels + b"z"),
        "filtered, phase": (zstd | filter_ | phase, packed(filtered(odd, 1)), odd),
        "filtered, phase and odd rest": (
            zstd | filter_ | phase,
            packed(filtered(odd + b"z", 1)),
            odd + b"z",
        ),
        "filtered, two bytes": (zstd | filter_, frame(2, block(b"\x03\x01"), width=1), b"\x7e\xff"),
        "filtered, one byte": (zstd | filter_, frame(1, block(b"x"), width=1), b"x"),
        "filtered, one byte of phase": (
            zstd | filter_ | phase,
            frame(1, block(b"x"), width=1),
            b"x",
        ),
        "filtered, a byte of phase and one of rest": (
            zstd | filter_ | phase,
            frame(2, block(b"xy"), width=1),
            b"xy",
        ),
        "filtered random bytes": (
            zstd | filter_,
            frame(512, block(filtered(bytes(range(256)) * 2)[::-1])),
            b"",  # whatever it is
        ),
        "hole": (hole, b"", b""),
    }
    invalid: dict[str, tuple[int, int, bytes]] = {
        **{
            f"flags {flags}": (flags, size, good)
            for flags in range(256)
            if flags & (flags - 1) == 0
            if flags not in (hole, zstd)
        },
        "hole and compressed": (hole | zstd, size, good),
        "phase without filter": (zstd | phase, size, good),
        "filter and phase without compression": (filter_ | phase, size, text),
        "hole and everything": (hole | zstd | filter_ | phase, size, good),
        "flags 255": (255, size, good),
        "hole of length 0": (hole, 0, b""),
        "hole with payload": (hole, 4, b"data"),
        "length 0": (0, 0, b""),
        "payload short": (0, 5, b"data"),
        "payload long": (0, 3, b"data"),
        "compressed, length 0": (zstd, 0, frame(0, block(b""), width=1)),
        "too long": (zstd, seal.MAX_RANGE + 1, packed(bytes(seal.MAX_RANGE + 1))),
        "no payload": (zstd, 4, b""),
        "magic alone": (zstd, 4, good[:4]),
        "not a frame": (zstd, size, text),
        "magic of version 0.7": (zstd, size, frame(size, block(text), magic=0xFD2FB527)),
        "header cut off": (zstd, size, long[:7]),
        "block header cut off": (zstd, size, long[:11]),
        "cut off": (zstd, size, good[:-1]),
        "no last block": (zstd, size, frame(size, block(text, last=False))),
        "size too small": (zstd, size, frame(size - 1, block(text))),
        "size too large": (zstd, size, frame(size + 1, block(text))),
        "size larger than the range": (zstd, size - 1, good),
        "size smaller than the range": (zstd, size + 1, good),
        "size right, content short": (zstd, size, frame(size, block(text[:-1]))),
        "size right, content long": (zstd, size, frame(size, block(text + b"x"))),
        "size right, content endless": (
            zstd,
            size,
            frame(size, block(b"x", last=False, kind=1, size=size) * 1000),
        ),
        "size of 2^64 - 1": (zstd, size, frame(2**64 - 1, block(text), width=8)),
        "size right but for 2^32": (zstd, size, frame(2**32 + size, block(text), width=8)),
        "no size": (zstd, size, frame(None, block(text), window=0)),
        "no size, by the library": (zstd, size, packed(text, write_content_size=False)),
        "window larger than the range": (zstd, 2047, frame(2047, block(bytes(100)), window=8)),
        "window of 1 KiB for less": (
            zstd,
            1023,
            frame(1023, block(b"x", kind=1, size=1023), window=0),
        ),
        "largest window": (zstd, size, frame(size, block(text), window=0xFF)),
        "reserved bit": (zstd, size, frame(size, block(text), bits=0x08)),
        "dictionary": (zstd, size, frame(size, block(text), dictionary=b"\x01")),
        "dictionary 0": (zstd, size, frame(size, block(text), dictionary=bytes(4))),
        "block of the reserved kind": (zstd, size, frame(size, block(text, kind=3))),
        "compressed block of nothing": (zstd, 4, frame(4, block(b"", kind=2))),
        "compressed block of anything": (zstd, 40, frame(40, block(bytes(range(30)), kind=2))),
        "checksum missing": (zstd, size, checked[:-4]),
        "checksum wrong": (zstd, size, checked[:-1] + bytes([checked[-1] ^ 1])),
        "byte behind": (zstd, size, good + b"\x00"),
        "two frames": (zstd, size, packed(text[: size // 2]) + packed(text[size // 2 :])),
        "an empty frame behind": (zstd, size, good + packed(b"")),
        "an empty frame before": (zstd, size, frame(0, block(b""), width=1) + good),
        "skippable frame": (zstd, size, skippable),
        "skippable frame before": (zstd, size, skippable + good),
        "skippable frame behind": (zstd, size, good + skippable),
    }

    def opened(flags: int, length: int, payload: bytes) -> Any:
        data = compression.decompress(flags, length, payload)
        short = len(data) <= 64
        return {"data": data.hex()} if short else {"sha256": hashlib.sha256(data).hexdigest()}

    cases: list[Case] = []
    for name, (flags, payload, data) in valid.items():
        length = len(data) or 512
        assert not data or compression.decompress(flags, length, payload) == data, name
        invalid = {name: (flags, length, payload), **invalid}
    for name, (flags, length, payload) in sorted(invalid.items()):
        expect = outcome(partial(opened, flags, length, payload))
        assert ("error" in expect) == (name not in valid), name
        cases.append(
            {
                "name": name,
                "flags": flags,
                "length": length,
                "payload": payload.hex(),
                "expect": expect,
            }
        )
    write("compression", cases)


# --- labels ---------------------------------------------------------------------------------------


IMITATIONS = {
    "itself": "Klinik Nord",
    "case": "KLINIK NORD",
    "grapheme joiner": "Klinik\u034f Nord",
    "variation selector": "Klinik\ufe0f Nord",
    "Hangul filler for a blank": "Klinik\u3164Nord",
    "braille blank": "Klinik\u2800Nord",
    "Khmer inherent vowel": "Klinik \u17b4Nord",
    "Mongolian variation selector": "\u180bKlinik Nord",
    "zero-width space": "Kli\u200bnik Nord",
    "soft hyphen": "Kli\u00adnik Nord",
    "right-to-left mark": "Klinik Nord\u200f",
    "tag": "Klinik Nord\U000e0041",
    "two spaces": "Klinik  Nord",
    "no-break space": "Klinik\u00a0Nord",
    "thin space": "Klinik\u2009Nord",
    "ideographic space": "Klinik\u3000Nord",
    "tab and line": "Klinik\t\nNord",
    "blanks around": " \u2003Klinik Nord ",
    "Cyrillic": "Kl\u0456n\u0456k N\u043er\u0501",
    "Greek": "\u039alinik N\u03bfrd",
    "Cyrillic capitals": "\u041aLINIK N\u041eRD",
    "capital I for l": "KIinik Nord",
    "small l for I": "KLlNlK NORD",
    "digits": "K1inik N0rd",
    "fullwidth": "\uff2b\uff4c\uff49\uff4e\uff49\uff4b\u3000\uff2e\uff4f\uff52\uff44",
    "mathematical": "\U0001d40a\U0001d425\U0001d422\U0001d427\U0001d422\U0001d424 Nord",
    "circled": "\u24c0linik Nord",
    "dotless i": "Kl\u0131n\u0131k Nord",
    "mark above": "Kl\u0131\u0307nik Nord",
    "mark below": "K\u0323linik Nord",
    "stroke": "K\u0335linik Nord",
    "marks and case": "KLI\u0301NIK NORD",
}
OTHERS = ["Klinik S\u00fcd", "Klinik Nord 2", "Klinik", "Nordklinik", "\u3164", "",
          "Klinik Nord (known as Klinik Nord, checked before)"]  # fmt: skip
SHOWN_LABELS = [
    *IMITATIONS.values(),
    *OTHERS,
    '\u201cKlinik Nord\u201d \u201eX\u201c "Y" \u00abZ\u00bb',
    "\x1b[31mred\x1b[0m",
    "\u202eabc",
    "\ue000",
    "x" * 65,
]


def make_labels() -> None:
    from unicodedata import ucd_3_2_0 as oldest

    from p2p.protocol import labels

    cases: list[Case] = [
        {"name": f"alike: {name}", "pair": ["Klinik Nord", text], "expect": True}
        for name, text in IMITATIONS.items()
    ]
    cases += [
        {"name": f"not alike: {text}", "pair": ["Klinik Nord", text], "expect": False}
        for text in OTHERS
    ]
    for one, other in [
        ("Main", "rnain"),
        ("MAIN", "rnain"),
        ("Stra\u00dfe", "STRASSE"),
        ("Stra\u00dfe", "Stra\u03b2e"),
        ("J\u00f6rg", "Jorg"),
        ("\u041d\u043e\u0440\u0434", "\u041d\u041e\u0420\u0414"),
        ("\u041d\u043e\u0440\u0434", "\u041do\u0440\u0434"),
        # Letters that the table knows as capitals only.
        ("Klinik Nord", "Klini\u043a Nord"),
        ("Klinik", "\u043alinik"),
        ("Thorax", "\u0442horax"),
        ("Institut", "Insti\u0442ut"),
        ("Klinik", "Klinik\u0483"),
        ("Klinik Nord", "Klinik\u0488 Nord\u0489"),
    ]:
        cases.append({"name": f"alike: {one} {other}", "pair": [one, other], "expect": True})
    for case in cases:
        assert labels.alike(*case["pair"]) == case["expect"], case["name"]
    for number, text in enumerate(SHOWN_LABELS):
        cases.append({"name": f"shown {number}", "text": text, "expect": labels.shown_label(text)})
    # Characters of the oldest version only: what a newer one says of the others is not known to all.
    # Two of them were given capitals by Unicode 16.
    sources = [one for one in labels._table() if oldest.category(one) != "Cn"]
    sources = [one for one in sources if one not in "\u019b\u0264"]
    for start in range(0, len(sources), 50):
        text = " ".join(sources[start : start + 50])
        cases.append(
            {
                "name": f"skeletons {start}",
                "label": text,
                "expect": list(labels.skeletons(text)),
            }
        )
    write("labels", cases)


# --- catalogues -----------------------------------------------------------------------------------


# --- what a sender says, and how much ---------------------------------------------------------------


def make_sender() -> None:
    """A sender's session by what it says and keeps: the offer, the closing, what a receipt must be."""
    from p2p.protocol import session

    times = {
        "offered": "2026-01-02T03:04:05.000Z",
        "accepted": "2026-01-02T03:04:06.000Z",
        "closed": "2026-01-02T03:05:05.000Z",
    }
    whole, partly = manifest.Results(len(ENTRIES)), manifest.Results(len(ENTRIES))
    for results in (whole, partly):
        for entry in range(1, len(ENTRIES)):
            results.delivered(entry, codec.sha256(bytes([entry])))
    partly.failed(2, manifest.CHANGED)
    contents = {
        "complete": (MANIFEST, whole),
        "incomplete, with things left out": (
            manifest.Manifest(ENTRIES, SALT, {"links": 2, "special": 1}),
            partly,
        ),
    }
    cases: list[Case] = []
    for name, (content, results) in contents.items():
        own = {"label": "Klinik S\u00fcd", "software": "test/1"}
        security = {
            "fingerprint_sender": b64(FP_S),
            "fingerprint_recipient": b64(FP_R),
            "digits_confirmed": True,
            "passphrase": False,
        }
        case: Case = {
            "name": name,
            "sender_seed": bytes(S_KEY).hex(),
            "recipient_seed": bytes(R_KEY).hex(),
            "recipient": {"label": "Reading room", "software": "test/1"},
            "transfer_id": TRANSFER.hex(),
            "transcript": (b"\x11" * 32).hex(),
            "manifest": manifest.encode_manifest(content).hex(),
            "results": results.encode().hex(),
            "times": times,
            "audit_head": audit.GENESIS,
            "own": own,
            "security": security,
        }
        peer = handshake.Peer(R_ID, "Reading room", "test/1", False)
        key = bytes(32)
        ends = [noise.CipherState(key) for _ in range(4)]
        secured = handshake.Secured(peer, "", b"\x11" * 32, SUITE_1, ends[0], ends[1], key)
        sender = session.SenderSession(secured, S_KEY, TRANSFER, 4096, 0.0, verify=False)

        def said(sender: session.SenderSession, hears: noise.CipherState) -> Case:
            (frame,) = sender.frames()
            message = codec.decode_json(hears.decrypt(frame), session.MAX_CONTROL)
            assert isinstance(message, dict)
            return message

        data = manifest.encode_manifest(content)
        tape = content.tape()
        sender.offer(content, data, tape, times["offered"], 0.0, manifest.Results(len(ENTRIES)))
        offer = said(sender, ends[2])
        body = session.encode_body(
            {
                "type": "accept",
                "transfer_id": TRANSFER,
                "transcript": secured.transcript,
                "offer_sha256": codec.sha256(offer["body"].encode()),
                "offset": 0,
                "time": times["accepted"],
            }
        )
        accept = session.encode_body(
            {
                "type": "accept",
                "body": body.decode(),
                "signature": R_KEY.sign(session.LABEL_ACCEPT + body).signature,
            }
        )
        sender.receive_frame(ends[3].encrypt(accept), 0.0)
        for entry, _ in enumerate(ENTRIES):
            status, digest = results[entry]
            if status:
                sender.results.failed(entry, status)
            elif digest != manifest.NO_DIGEST:
                sender.results.delivered(entry, digest)
        sender.draw_up(times["closed"], audit.GENESIS)
        sender.close(0.0)
        cases.append(
            {
                **case,
                "accept": accept.decode(),
                "expect": {
                    "offer": offer,
                    "closing": said(sender, ends[2]),
                    "closed": sender.closed(own, security),
                    "root": manifest.results_root(content, sender.results).hex(),
                },
            }
        )
    write("sender", cases)


def window_after(largest: int, events: list[str]) -> list[str]:
    """Size, headroom and length of a range, each in bytes, after each event, which is a time in
    seconds and "sends", ranges, bytes of each, or "acked", ranges in all."""
    from p2p.protocol import session

    window, found = session.CongestionWindow(largest), []
    for event in events:
        when, what, count, *length = event.split()
        if what == "sends":
            for _ in range(int(count)):
                message = bytes(int(length[0]))
                header = seal.Header(TRANSFER, seal.Stream.DATA, 0, 0, len(message))
                window.sent(session.Flight(header, message, float(when)))
        else:
            list(window.acknowledged(int(count), float(when)))
        found.append(f"{window.size} {window.headroom()} {window.length()}")
    return found


def make_window() -> None:
    """A lane's congestion window, event by event."""

    def trips(seconds: float, ranges: int, length: int, count: int) -> list[str]:
        """So many ranges at a time, each time acknowledged so many seconds later."""
        events = []
        for trip in range(count):
            events.append(f"{trip * seconds} sends {ranges} {length}")
            events.append(f"{(trip + 1) * seconds} acked {(trip + 1) * ranges}")
        return events

    least = 65536
    traces: dict[str, tuple[int, list[str]]] = {
        "fast": (least, trips(0.25, 1, least, 4)),
        "fast, in ranges that grow": (262144, trips(0.25, 8, 262144, 4)),
        "half a second is not fast": (least, trips(0.5, 1, least, 2)),
        "a second is not slow": (
            least,
            [*trips(0.25, 2, least, 2), "1.0 sends 1 65536", "2.0 acked 5"],
        ),
        "slow": (least, [*trips(0.125, 4, least, 3), "1.0 sends 1 65536", "2.5 acked 13"]),
        "narrowed once a second": (
            least,
            [
                *trips(0.125, 8, least, 2),
                "1.0 sends 4 65536",
                "3.0 acked 17",
                "3.5 acked 18",
                "4.0 acked 19",
                "4.125 acked 20",
            ],
        ),
        "never below the least": (least, ["0.0 sends 1 65536", "9.0 acked 1"]),
        "up to what a recipient takes": (262144, trips(0.125, 60, 262144, 3)),
        "of small ranges": (4096, trips(0.25, 3, 4096, 2)),
        "of a length that is no page": (60000, trips(0.25, 20, 60000, 2)),
        "all that it has": (4096, ["0.0 sends 15 4096", "0.0 sends 1 4096", "0.0 sends 1 4096"]),
        "no more ranges than an engine keeps": (
            4096,
            [*trips(0.125, 60, 262144, 3), "1.0 sends 511 1", "1.0 sends 1 1"],
        ),
        "acknowledged twice": (least, ["0.0 sends 1 65536", "0.25 acked 1", "0.5 acked 1"]),
        "more than was sent": (least, ["0.0 sends 1 65536", "0.25 acked 2"]),
        "back": (least, ["0.0 sends 1 65536", "0.25 acked 1", "0.5 acked 0"]),
    }
    write(
        "window",
        [
            {
                "name": name,
                "largest": largest,
                "events": events,
                "expect": outcome(partial(window_after, largest, events)),
            }
            for name, (largest, events) in traces.items()
        ],
    )


def make_catalogues() -> None:
    """The lists that both languages hold: failures, states, bottlenecks, statuses, members."""
    write(
        "failures",
        [
            {
                "name": code,
                "code": code,
                "ending": kind.ending.value,
                "next": int(kind.next),
                "shared": kind.shared,
            }
            for code, kind in FAILURES.items()
        ],
    )
    from p2p.protocol import session
    from signaling.messages import OUTCOMES

    lists = {
        "outcomes": [f"{code} {name}" for code, name in OUTCOMES.items()],
        "sender states": [state.value for state in session.SenderState],
        "recipient states": [state.value for state in session.RecipientState],
        "bottlenecks": list(session.BOTTLENECKS),
        "statuses": [f"{status} {name}" for status, name in manifest.STATUSES.items()],
        **{
            f"members of {kind}": sorted(shape.__dict__["members"])
            for kind, shape in session.MESSAGES.items()
        },
        **{
            f"members of the {kind} body": sorted(shape.__dict__["members"])
            for kind, shape in {
                "offer": session.OFFER_BODY,
                "accept": session.ACCEPT_BODY,
                "closing": session.CLOSING_BODY,
            }.items()
        },
    }
    write("catalogues", [{"name": name, "expect": values} for name, values in lists.items()])


if __name__ == "__main__":
    make_catalogues()
    make_messages()
    make_signaling()
    make_json()
    make_base64url()
    make_link()
    make_found_links()
    make_kdf()
    make_signal()
    make_ice()
    make_policy()
    make_envelope()
    make_handshake()
    make_manifest()
    make_manifest_lines()
    make_results()
    make_paths()
    make_labels()
    make_seal()
    make_compression()
    make_receipt()
    make_same()
    make_checkpoint()
    make_disclosure()
    make_audit()
    make_sender()
    make_window()
