"""`identity`, `contacts`: who this machine is, and whom it has met."""

from __future__ import annotations

import click

from ..api import Home, fingerprint, shown, thumbprint
from .language import words
from .terminal import show, show_table, told


@click.group()
def identity() -> None:
    """`handover identity`."""


@identity.command("show")
def identity_show() -> None:
    """`handover identity show`."""
    with told():
        own = Home().identity.load()
    show_table(
        [
            (words("identity", "label"), shown(own.label)),
            (words("identity", "fingerprint"), fingerprint(own.public)),
            (words("identity", "key_id"), thumbprint(own.public)),
        ]
    )


@identity.command("set-label")
@click.argument("label")
def identity_set_label(label: str) -> None:
    """`handover identity set-label`."""
    with told():
        own = Home().identity.set_label(label)
    show_table([(words("identity", "label"), own.label)])


@click.group()
def contacts() -> None:
    """`handover contacts`."""


@contacts.command("list")
def contacts_list() -> None:
    """`handover contacts list`."""
    with told():
        met = Home().contacts.all().values()
    for one in met:
        checked = words("identity", "checked" if one.verified else "not_checked")
        show(f"{shown(one.name)}\t{fingerprint(one.identity)}\t{shown(one.first_met)}\t{checked}")


@contacts.command("rename")
@click.argument("name")
@click.argument("new")
def contacts_rename(name: str, new: str) -> None:
    """`handover contacts rename`."""
    with told():
        Home().contacts.rename(name, new)


@contacts.command("remove")
@click.argument("name")
def contacts_remove(name: str) -> None:
    """`handover contacts remove`."""
    with told():
        Home().contacts.remove(name)
