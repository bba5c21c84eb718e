"""Someone who sends from a browser: what they do on the page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from .browsers import Browser, Page

NAME = "Notaufnahme, Dr. Weber"
SECONDS = 60.0


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
        folder = paths[0].is_dir()
        await self.page.evaluate(
            "void (window.showOpenFilePicker = window.showDirectoryPicker = undefined)"
        )
        button = "quiet" if folder else "primary"
        await self.page.click(f".choices .{button}")
        await self.page.choose_files("input[type=file]", paths)

    async def make_link(
        self,
        label: str = NAME,
        passphrase: str | None = None,
        *,
        verify: bool = False,
        seconds: float = SECONDS,
    ) -> str:
        """Say who one is, and make the link; it."""
        await self.page.wait_for(".card.choose")
        await self.page.fill("#label", label)
        if passphrase is not None or verify:
            await self.page.click("details.options > summary")
        if passphrase is not None:
            await self.page.fill("#passphrase", passphrase)
        if verify:
            await self.page.click("#verify")
        await self.page.click("form .primary")
        await self.page.wait_for(".card.link, .card.ended", seconds)
        assert await self.shows(".card.link"), await self.text()
        return str(await self.page.evaluate("document.querySelector('#made').value"))

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

    async def sent(self, seconds: float = SECONDS) -> str:
        """Wait until all is delivered and signed by both; the heading."""
        await self.page.wait_for(".card.sent, .card.ended", seconds)
        title = await self.page.text("h1")
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

    async def text(self) -> str:
        """What the card says, on one line."""
        return " ".join((await self.page.text(".card")).split())

    async def shows(self, selector: str) -> bool:
        return bool(
            await self.page.evaluate(f"document.querySelector({json.dumps(selector)}) !== null")
        )
