"""Someone who receives in a browser: what they do on the page, and what lies in its storage."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
from pathlib import Path
from typing import Any

from p2p.protocol.codec import decode_base64url
from tests.e2e.harness import Process

from .browsers import Browser, Page, PageError

NAME = "Reading room 2"
SECONDS = 60.0

_OPFS = """(async () => {
  const names = [];
  try {
    const root = await navigator.storage.getDirectory();
    for await (const name of (await root.getDirectoryHandle("handover")).keys()) names.push(name);
  } catch (error) { if (error.name !== "NotFoundError") throw error; }
  return names;
})()"""

_RECORDS = """(async () => {
  const settled = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const database = await settled(indexedDB.open("handover"));
  try {
    const store = database.transaction(%(store)s).objectStore(%(store)s);
    const found = await settled(store.%(call)s);
    return await (%(then)s)(found);
  } finally { database.close(); }
})()"""


_AGE = """(async () => {
  const settled = (request) => new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  const database = await settled(indexedDB.open("handover"));
  try {
    const store = database.transaction("journals", "readwrite").objectStore("journals");
    for (const one of await settled(store.getAll())) {
      const startedAt = one.startedAt - %s * 24 * 3600e3;
      await settled(store.put({ ...one, startedAt }, one.room));
    }
  } finally { database.close(); }
})()"""

_CHOOSE = """void (window.showSaveFilePicker = async ({ suggestedName }) => {
  const root = await navigator.storage.getDirectory();
  const chosen = await root.getDirectoryHandle("chosen", { create: true });
  return (window.chosen = await chosen.getFileHandle(suggestedName, { create: true }));
})"""

_GONE = """void (window.showSaveFilePicker = async ({ suggestedName }) => {
  const root = await navigator.storage.getDirectory();
  const folder = await root.getDirectoryHandle("gone", { create: true });
  const file = await folder.getFileHandle(suggestedName, { create: true });
  await root.removeEntry("gone", { recursive: true });
  return file;
})"""

_DOWNLOAD = """(async () => {
  const link = document.createElement("a");
  const type = "application/octet-stream"; // else it gets an ending
  link.href = URL.createObjectURL(new Blob([await window.chosen.getFile()], { type }));
  link.download = window.chosen.name;
  link.click();
})()"""


class Recipient:
    """A person at one tab. Every method but `open` goes on from the screen that is shown."""

    def __init__(self, page: Page, browser: Browser) -> None:
        self.page, self.browser = page, browser

    async def open(self, link: str) -> None:
        """Follow the link, and read what is there."""
        await self.page.evaluate("void (window.before = true)")
        await self.page.goto(
            link
        )  # from the same page only the fragment changes; it reloads itself
        await self.page.wait_until("!window.before && document.querySelector('h1') !== null")

    async def start(self, label: str = NAME, passphrase: str | None = None) -> None:
        """Say who one is, and connect."""
        await self.page.fill("#label", label)
        if passphrase is not None:
            await self.page.fill("#passphrase", passphrase)
        await self.page.click("form .primary")

    async def offered(self, seconds: float = SECONDS) -> None:
        """Wait until the offer can be read. Connecting anew takes a busy machine a while; an ending
        instead of it is an error at once."""
        await self.page.wait_for(".card.offer, .card.ended", seconds)
        assert await self.shows(".card.offer"), await self.text()

    async def accept(self, seconds: float = SECONDS) -> None:
        """Take what is offered."""
        await self.offered(seconds)
        await self.page.click(".card.offer .primary")

    async def take(self, link: str) -> None:
        """Up to the first bytes."""
        await self.open(link)
        await self.start()
        await self.accept()

    async def delivered(self, seconds: float = SECONDS) -> str:
        """Wait until all is there and signed by both; the heading."""
        await self.page.wait_for(".card.done, .card.ended", seconds)
        title = await self.title()
        assert not await self.shows(".card.ended"), (title, await self.text())
        return title

    async def ended(self, seconds: float = SECONDS) -> str:
        """Wait until it has ended without files; everything the card says."""
        await self.page.wait_for(".card.done, .card.ended", seconds)
        assert await self.shows(".card.ended"), await self.text()
        return await self.text()

    async def save(self, name: str, seconds: float = SECONDS) -> Path:
        """Save what arrived, to the disk of this computer, as this browser does it."""
        if self.browser.kind == "chromium":
            await self.save_into_file(seconds)
            await self.page.evaluate(_DOWNLOAD)
        else:
            await self.page.click(".card.done .choices .primary")
        return await self.browser.downloaded(name, seconds)

    async def save_into_file(self, seconds: float = SECONDS) -> None:
        """Into a file that is chosen. No dialog can be clicked here: it chooses one of the page's
        own, with the name that was suggested."""
        await self.page.evaluate(_CHOOSE)
        await self.page.click(".card.done .choices .primary")
        await self.page.wait_until("document.body.innerText.includes('Saved as')", seconds)

    async def without_picker(self) -> None:
        """As in a browser that lets no page ask where to save."""
        await self.page.evaluate("void delete window.showSaveFilePicker")

    async def fail_to_save(self) -> None:
        """Into a file that is gone by the time it is written."""
        await self.page.evaluate(_GONE)
        await self.page.click(".card.done .choices .primary")
        await self.page.wait_for(".card.done [role=alert]")

    async def save_receipt(self, transfer_id: str) -> Path:
        """Save the receipt beside it."""
        await self.page.click(".card.done .receipt")
        return await self.browser.downloaded(f"{decode_base64url(transfer_id).hex()}.receipt.json")

    async def decline(self) -> None:
        """Not take what is offered."""
        await self.offered()
        await self.page.click(".card.offer .choices .quiet:last-child")

    async def again(self) -> None:
        """Try again, after it has ended."""
        await self.page.evaluate("void (window.before = true)")
        await self.page.click(".card.ended .primary")
        await self.page.wait_until("!window.before && document.querySelector('h1') !== null")

    async def stop(self) -> None:
        """Stop while files are under way, and mean it."""
        await self.page.click(".card.running > button")
        await self.page.click(".card.running .choices .quiet")

    async def guarded(self) -> bool:
        """Whether leaving the page would ask first."""
        event = "new Event('beforeunload', { cancelable: true })"
        return not await self.page.evaluate(f"dispatchEvent({event})")

    async def title(self) -> str:
        return " ".join((await self.page.text("h1")).split())

    async def text(self) -> str:
        """What the card says, on one line."""
        return " ".join((await self.page.text(".card")).split())

    async def shows(self, selector: str) -> bool:
        return bool(
            await self.page.evaluate(f"document.querySelector({json.dumps(selector)}) !== null")
        )

    async def come_to(self, part: float, seconds: float = SECONDS) -> float:
        """Wait until this part of the bytes is there for good; what part it is then."""
        value = "document.querySelector('progress')?.value ?? 0"
        return float(await self.page.wait_until(f"({value}) >= {part} && ({value})", seconds))

    # --- storage

    async def containers(self) -> list[str]:
        """Files in the page's own file system."""
        return list(await self.page.evaluate(_OPFS))

    async def containers_or_none(self) -> list[str]:
        """The same, where there may be no file system for pages at all."""
        try:
            return await self.containers()
        except PageError as error:
            assert "Security" in str(error)
            return []

    async def records(self, store: str, call: str = "getAll()", then: str = "(all) => all") -> Any:
        """What a store of the page's database holds."""
        script = _RECORDS % {"store": json.dumps(store), "call": call, "then": then}
        return await self.page.evaluate(script)

    async def age(self, days: int) -> None:
        """As if every transfer had begun so long before."""
        await self.page.evaluate(_AGE % days)

    async def nothing_left(self) -> None:
        """Neither a container nor a journal; erasing ends shortly after it is said."""
        ends = asyncio.get_running_loop().time() + 5
        while await self.containers() and asyncio.get_running_loop().time() < ends:
            await asyncio.sleep(0.05)
        assert await self.containers() == []
        assert await self.records("journals") == []


def finish(process: Process, seconds: float = SECONDS) -> asyncio.Task[tuple[int, dict[str, Any]]]:
    """Read what a process says until it ends, beside the browser; exit code and last event."""
    return asyncio.create_task(asyncio.to_thread(process.end, seconds))


def digest(path: Path) -> str:
    """SHA-256 of a file, by a tool that is not ours."""
    done = subprocess.run(["sha256sum", "-b", path], capture_output=True, text=True, check=True)
    return done.stdout.split()[0].lstrip("\\")


def transfer_of(receipt: dict[str, Any]) -> dict[str, Any]:
    """The payload of a receipt, which is a JWS."""
    payload = receipt["payload"]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))
