"""`identity`, `contacts`: who this machine is, and whom it has met."""

from __future__ import annotations

import click

from ..api import Home, fingerprint, shown, thumbprint
from .terminal import show, told


@click.group()
def identity() -> None:
    """This machine's key and label."""


@identity.command("show")
def identity_show() -> None:
    """Show label, fingerprint and key id."""
    with told():
        own = Home().identity.load()
    show(f"label        {own.label}")
    show(f"fingerprint  {fingerprint(own.public)}")
    show(f"key id       {thumbprint(own.public)}")


@identity.command("set-label")
@click.argument("label")
def identity_set_label(label: str) -> None:
    """Set the name that others see, e.g. "Radiology, St. Mary"."""
    with told():
        show(f"label        {Home().identity.set_label(label).label}")


@click.group()
def contacts() -> None:
    """Peers that were met before; a known name with another key is blocked."""


@contacts.command("list")
def contacts_list() -> None:
    """List contacts: name, fingerprint, first met, whether digits were compared."""
    with told():
        for one in Home().contacts.all().values():
            checked = "checked" if one.verified else "not checked"
            print_name = fingerprint(one.identity)
            show(f"{shown(one.name)}\t{print_name}\t{one.first_met}\t{checked}")


@contacts.command("rename")
@click.argument("name")
@click.argument("new")
def contacts_rename(name: str, new: str) -> None:
    """Give a contact another name."""
    with told():
        Home().contacts.rename(name, new)


@contacts.command("remove")
@click.argument("name")
def contacts_remove(name: str) -> None:
    """Forget a contact and its key."""
    with told():
        Home().contacts.remove(name)
