"""Someone who sends from a browser: what they do on the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from p2p.protocol.codec import decode_base64url

from .browsers import Browser, Page
from .recipient import Recipient

NAME = "Notaufnahme, Dr. Weber"
SECONDS = 60.0

_SELECT = """void ((list) => {
  list.value = [...list.options].find(({ text }) => text.startsWith(%s)).value;
})(document.querySelector("#to"))"""
_CHOOSE_PURPOSE = """void ((purpose) => {
  purpose.value = %s;
  purpose.dispatchEvent(new Event("change"));
})(document.querySelector("#purpose"))"""


class PageSender:
    """A person at one tab. Every method but `open` goes on from the screen that is shown."""

    def __init__(self, page: Page, browser: Browser) -> None:
        self.page, self.browser = page, browser

    async def open(self, origin: str) -> None:
        """Open the server's address, without a link."""
        await self.page.goto(f"{origin}/")
        await self.page.wait_for(".card.home, .card.choose_again, .card.link, .card.running")

    async def choose(self, *paths: Path) -> None:
        """Choose files or one folder, by the page's own field: no dialog can be clicked here."""
        await self.read()
        await self.page.evaluate(
            "void (window.showOpenFilePicker = window.showDirectoryPicker = undefined)"
        )
        buttons = ".card > .choices button"
        if paths[0].is_dir():
            await self.page.choose_folder(f"{buttons}:nth-child(2)", paths[0])
        else:
            await self.page.click(f"{buttons}:nth-child(1)")
            await self.page.wait_until("document.querySelector('input[type=file]') !== null")
            await self.page.choose_files("input[type=file]", paths)

    async def read(self) -> None:
        """Until what was chosen is read: till then the card is made anew, and a click may miss."""
        busy = "document.querySelector('.card.choose .busy')"
        await self.page.wait_until(f"({busy}?.hidden ?? true)")

    async def drop(self, *paths: Path) -> None:
        """Drop them on the page. Chromium gives handles for them, which outlive a reload."""
        await self.page.drop(paths)

    async def make_link(
        self,
        label: str = NAME,
        passphrase: str | None = None,
        *,
        verify: bool = False,
        to: str = "",
        seconds: float = SECONDS,
    ) -> str:
        """Say who one is, and make the link; it. `to`: the label of the contact it is for."""
        await self.page.wait_for(".card.choose")
        await self.read()
        await self.page.fill("#label", label)
        if passphrase is not None or verify or to:
            await self._open_options()
        if passphrase is not None:
            await self.page.fill("#passphrase", passphrase)
        if verify:
            await self.page.click("#verify")
        if to:
            await self.page.evaluate(_SELECT % json.dumps(f"{to} ("))
        await self.page.click("form .primary")
        await self.page.wait_for(".card.link, .card.ended", seconds)
        assert await self.shows(".card.link"), await self.text()
        return str(await self.page.evaluate("document.querySelector('#made').value"))

    async def _open_options(self) -> None:
        if not await self.page.evaluate("document.querySelector('details.options').open"):
            await self.page.click("details.options > summary")

    async def state_purpose(self, code: str) -> None:
        """Say what it is for."""
        await self._open_options()
        await self.page.evaluate(_CHOOSE_PURPOSE % json.dumps(code))

    async def send(self, origin: str, paths: Sequence[Path]) -> str:
        """Up to the link; it."""
        await self.open(origin)
        await self.choose(*paths)
        return await self.make_link()

    async def admit(self, seconds: float = SECONDS) -> None:
        """Let in whoever came."""
        await self.page.wait_for(".card.admit, .card.ended", seconds)
        assert await self.shows(".card.admit"), await self.text()
        await self.page.click(".card.admit .choices .primary")

    async def turn_away(self, seconds: float = SECONDS) -> None:
        """Not let in who came."""
        await self.page.wait_for(".card.admit", seconds)
        await self.page.click(".card.admit .choices .quiet")

    async def compared(self, same: bool, seconds: float = SECONDS) -> str:
        """Say whether the digits are the same on both sides; they."""
        await self.page.wait_for(".card.digits", seconds)
        digits = await self.page.text("#digits")
        await self.page.click(f".card.digits .choices .{'primary' if same else 'quiet'}")
        return digits

    async def stop(self) -> None:
        """Stop; while files are under way, and mean it."""
        if await self.shows(".card.running"):
            await self.page.click(".card.running > button")
            await self.page.click(".card.running > .choices .quiet")
        else:
            await self.page.click(".card > button.quiet")

    async def reload(self) -> None:
        """Load the page anew, as by F5, whatever it asks."""
        await self.page.evaluate("void (window.before = true)")
        await self.page.reload()
        await self.page.wait_until("!window.before && document.querySelector('h1') !== null")

    async def choose_again(self, *paths: Path, seconds: float = SECONDS) -> None:
        """The same files, after a reload, and go on."""
        await self.page.wait_for(".card.choose_again", seconds)
        await self.choose(*paths)
        await self.page.wait_for(".card.choose_again [role=status]")
        await self.page.click(".card.choose_again > .primary")

    async def waiting(self, seconds: float = SECONDS) -> None:
        """Until the server has the room, and nobody is there."""
        words = "'Waiting for the recipient to open the link'"
        await self.page.wait_until(f"document.body.innerText.includes({words})", seconds)

    async def save_receipt(self, transfer_id: str) -> Path:
        """Save the receipt, at the end."""
        await self.page.click(".card.sent .choices .primary")
        return await self.browser.downloaded(f"{decode_base64url(transfer_id).hex()}.receipt.json")

    async def home(self) -> None:
        """Back to the start, at the end."""
        await self.page.evaluate("void (window.before = true)")
        button = (
            ".card.sent .choices .quiet, .card.ended .primary, .history > .choices > :last-child"
        )
        await self.page.click(button)
        await self.page.wait_until(
            "!window.before && document.querySelector('.card.home') !== null"
        )

    async def history(self) -> None:
        """Look at the past transfers, from the start."""
        await self.page.click(".card.home form ~ .choices button")
        await self.page.wait_for(".card.history")

    async def nothing_left(self) -> None:
        """No journal of a transfer."""
        store = await self.records("sending")
        assert store == [], store

    async def records(self, store: str, call: str = "getAll()", then: str = "(all) => all") -> Any:
        """What a store of the page's database holds."""
        return await Recipient(self.page, self.browser).records(store, call, then)

    async def sent(self, seconds: float = SECONDS) -> str:
        """Wait until all is delivered and signed by both; the heading."""
        await self.page.wait_for(".card.sent, .card.ended", seconds)
        title = await self.title()
        assert await self.shows(".card.sent"), (title, await self.text())
        return title

    async def ended(self, seconds: float = SECONDS) -> str:
        """Wait until it has ended without a receipt; everything the card says."""
        await self.page.wait_for(".card.sent, .card.ended", seconds)
        assert await self.shows(".card.ended"), await self.text()
        return await self.text()

    async def come_to(self, part: float, seconds: float = SECONDS) -> float:
        """Wait until this part of the bytes is on the recipient's disk; what part it is then."""
        value = "document.querySelector('progress')?.value ?? 0"
        return float(await self.page.wait_until(f"({value}) >= {part} && ({value})", seconds))

    async def title(self) -> str:
        return " ".join((await self.page.text("h1")).split())

    async def text(self) -> str:
        """What the card says, on one line."""
        return " ".join((await self.page.text(".card")).split())

    async def shows(self, selector: str) -> bool:
        return bool(
            await self.page.evaluate(f"document.querySelector({json.dumps(selector)}) !== null")
        )
