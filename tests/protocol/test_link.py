"""Links and the keys that follow from them."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2p.protocol import link
from p2p.protocol.errors import Failure
from p2p.protocol.suite import SUITE_1

from .vectors import cases


@cases("link")
def test_links_follow_the_vectors(case):
    expect = case["expect"]
    if "error" in expect:
        with pytest.raises(Failure) as caught:
            link.parse_link(case["link"])
        assert caught.value.code == expect["error"]
    else:
        found = link.parse_link(case["link"])
        assert (found.origin, found.secret.hex(), found.commitment.hex(), found.passphrase) == (
            expect["origin"],
            expect["secret"],
            expect["commitment"],
            expect["passphrase"],
        )
        assert str(found) == expect["text"]


@cases("found_links")
def test_a_link_is_found_in_what_people_paste(case):
    if isinstance(case["expect"], dict):
        with pytest.raises(Failure) as caught:
            link.find_link(case["text"])
        assert caught.value.code == case["expect"]["error"]
    else:
        assert str(link.find_link(case["text"])) == case["expect"]


UNSEEN = "\u00ad\u200b\u200c\u2060\ufeff"
WRAPS = ["\n", "\r\n", "\r", "  \n", "=\n", "\n> ", "\n>> ", "\n    ", "\n| "]
AROUND = [("<", ">"), ("(", ")"), ("\u201c", "\u201d"), ("", "."), ("", ","), ("", "!"), ("> ", "\n> Bye"),
          ("Open ", ", then call."), ("Hello,\n\n", "\n\nRegards\nDr A"), ("[link](", ")"), ("", "")]  # fmt: skip


def escaped(text: str) -> str:
    return "".join(f"%{ord(char):02X}" if char in ":/#." else char for char in text)


FILTERS = [
    lambda text: text,
    escaped,
    lambda text: escaped(text).replace("%", "%25"),
    lambda text: f"https://x.safelinks.protection.outlook.com/?url={escaped(text)}&data=05%7C02",
    lambda text: f"https://urldefense.proofpoint.com/v1/url?u={escaped(text)}&k=x",
    lambda text: "https://urldefense.proofpoint.com/v2/url?u={}&d=x".format(
        "".join(f"-{ord(c):02X}" if c in ":#-_" else c for c in text).replace("/", "_")
    ),
    lambda text: f"https://urldefense.com/v3/__{text.replace('#', '*')}__;Iw!!x$",
    lambda text: f"https://www.example.com/url?q={escaped(text)}&sa=D",
]


@given(
    st.binary(min_size=32, max_size=32),
    st.booleans(),
    st.sampled_from(FILTERS),
    st.sampled_from(AROUND),
    st.data(),
)
def test_a_mangled_link_is_understood(secret, passphrase, rewrite, around, data):
    """Rewritten by a filter, wrapped and with what nobody sees in it, and in a sentence."""
    made = link.make_link("https://host.example:8443", secret, bytes(32), passphrase=passphrase)
    text = rewrite(str(made))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(1, len(text) - 1))
        text = text[:at] + data.draw(st.sampled_from(UNSEEN)) + text[at:]
    width = data.draw(st.integers(20, 300))
    wrap = data.draw(st.sampled_from(WRAPS))
    text = wrap.join(text[at : at + width] for at in range(0, len(text), width))
    assert link.find_link(f"{around[0]}{text}{around[1]}") == made


@given(
    st.lists(
        st.one_of(
            st.text(max_size=20),
            st.sampled_from(
                [
                    "https://",
                    "host.example",
                    "/#1.",
                    "A" * 42,
                    "A" * 43,
                    ".",
                    "%23",
                    "\n> ",
                    "__;Iw!!",
                ]
            ),
        ),
        max_size=12,
    ).map("".join)
)
def test_text_without_a_link_never_yields_one(text):
    """Whatever is found stands there, and all else is one sentence without the text."""
    text = text.replace("A" * 22, "A" * 21)  # no secret
    with pytest.raises(Failure) as caught:
        link.find_link(text)
    assert caught.value.code in ("link_invalid", "link_unsupported")


@pytest.mark.parametrize(
    "part", ["https://a", "https://", "%23", "\n", "> ", "=\n", "__;", "urldefense.com/v3/__", "A"]
)
def test_a_link_is_looked_for_in_bounded_time(part):
    with pytest.raises(Failure):
        link.find_link(part * 1_000_000)


@pytest.mark.parametrize("padding", [" " * 65_536, "\t " * 32_768, "= " * 32_000, " \n" * 32_000])
def test_padding_costs_no_time(padding):
    """Looked at from each of its blanks, it took a quarter of a minute."""
    began = time.process_time()
    with pytest.raises(Failure):
        link.find_link(padding)
    made = str(link.make_link("https://host.example", bytes(32), bytes(32), passphrase=False))
    assert str(link.find_link(padding[:30_000] + made)) == made
    assert time.process_time() - began < 5


@cases("kdf")
def test_keys_follow_the_vectors(case):
    keys = link.derive_keys(bytes.fromhex(case["secret"]))
    expect = case["expect"]
    if "identity" in case:
        identity = bytes.fromhex(case["identity"])
        assert link.host_commitment(bytes.fromhex(case["secret"]), identity).hex() == expect.pop(
            "commitment"
        )
        assert {k: v.hex() for k, v in keys.__dict__.items()} == expect
    elif "error" in expect:
        with pytest.raises(Failure) as caught:
            link.psk_secrets(keys, case["passphrase"])
        assert caught.value.code == expect["error"]
    else:
        assert SUITE_1.psk(link.psk_secrets(keys, case["passphrase"])).hex() == expect["psk"]


@given(st.text(max_size=200))
def test_any_text_is_a_link_or_one_sentence(text):
    for candidate in (text, f"https://example.org/#1.{text}"):
        try:
            link.parse_link(candidate)
        except Failure as failure:
            assert failure.code in ("link_invalid", "link_unsupported")


@given(st.binary(min_size=32, max_size=32), st.booleans())
def test_a_made_link_reads_back(secret, passphrase):
    made = link.make_link("https://example.org", secret, bytes(32), passphrase=passphrase)
    assert link.parse_link(str(made)) == made


def test_a_link_does_not_show_its_secrets_in_a_repr():
    made = link.make_link("https://example.org", b"\x01" * 32, bytes(32), passphrase=False)
    assert "x01" not in repr(made)
    assert "x01" not in repr(link.derive_keys(b"\x01" * 32))


@pytest.mark.parametrize(
    ("server", "origin"),
    [
        ("https://pacs.example", "https://pacs.example"),
        (" http://pacs_2:8080/ ", "http://pacs_2:8080"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443"),
        ("https://klinik-münchen.example", "https://xn--klinik-mnchen-3ob.example"),
        ("https://h/#1.secret", "https://h"),
        *((one, None) for one in ("", "h", "ftp://x", "https://h/handover", "https://h?a=1")),
        *((one, None) for one in ("https://h:0", "https://h:x", "https://h:65536", "https://a b")),
        *((one, None) for one in ("https://[h", "https://u:p@h", f"https://{'ü' * 80}")),
    ],
)
def test_the_address_of_a_server(server, origin):
    """What is none is called that, without what follows `#`."""
    if origin is not None:
        assert link.read_origin(server) == origin
        return
    with pytest.raises(Failure) as caught:
        link.read_origin(f"{server}#1.secret")
    assert caught.value.code == "address_invalid"
    assert "secret" not in caught.value.sentence
