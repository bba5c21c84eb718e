"""A browser, run in the namespace of its site: `python -m tests.reach.page KIND [FILE | SCREENSHOT]`.

It receives by the link in HANDOVER_LINK; what the page shows decides nothing then: the sender's events
tell. With HANDOVER_SERVER it sends the file, and prints events as the command line's: the link, and
the end. An address without a link has no sender: there it checks its computer, and prints what it
found.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

from tests.web_client.browsers import KINDS, Browser, Options, open_browser
from tests.web_client.page_sender import PageSender
from tests.web_client.recipient import Recipient

CHECK_SECONDS, SEND_SECONDS = 60.0, 300.0
ROWS = """[...document.querySelectorAll('.findings li')].map(
  (row) => [row.dataset.verdict, row.innerText.replaceAll('\\n', ' ')])"""


@contextlib.asynccontextmanager
async def opened(kind: str) -> AsyncIterator[Browser]:
    """A browser of a computer on which the servers' authority is installed, and its site's proxy set.
    The authority vouches for the relay, too; whoever takes any certificate instead may take any of a
    relay, or none."""
    known = next(one for one in KINDS if one == kind)
    authority, proxy = Path(os.environ["SSL_CERT_FILE"]), os.environ.get("HTTPS_PROXY", "")
    options = Options(authority=authority, proxy=proxy)
    with tempfile.TemporaryDirectory() as name:
        async with open_browser(known, Path(name), options) as browser:
            yield browser


async def receive(kind: str, link: str) -> int:
    """Until it is delivered: 0. Else 1, and what the page says instead is printed, as an event."""
    async with opened(kind) as browser:
        recipient = Recipient(browser.page, browser)
        await recipient.open(link)
        await recipient.start()
        try:
            await recipient.accept()
            await recipient.delivered()
        except AssertionError as told:
            failure = {"event": "error", "code": "no_connection", "message": str(told)}
            print(json.dumps(failure))
            return 1
    return 0


async def send(kind: str, origin: str, file: str) -> int:
    """Until both have signed: 0. What the page says last is printed either way."""
    async with opened(kind) as browser:
        host = PageSender(browser.page, browser)
        link = await host.send(origin, [Path(file)])
        print(json.dumps({"event": "link", "link": link}), flush=True)
        await host.admit(SEND_SECONDS)
        try:
            told = {"event": "complete", "message": await host.sent(SEND_SECONDS)}
        except AssertionError as error:
            told = {"event": "error", "message": str(error)}
    print(json.dumps(told))
    return int(told["event"] == "error")


async def check(kind: str, address: str, screenshot: str = "") -> int:
    """Until it is over: the rows (verdict, text) and the result, as JSON; 0."""
    async with opened(kind) as browser:
        page = browser.page
        await page.goto(address)
        await page.wait_until("document.querySelector('h1') !== null")
        await page.evaluate("void document.querySelector('.card .more')?.setAttribute('open', '')")
        await page.click(".card .check-computer")
        await page.wait_for(".card.check .primary", CHECK_SECONDS)
        rows = await page.evaluate(ROWS)
        result = await page.text(".card.check [role=status]")
        print(json.dumps({"rows": rows, "result": result, "errors": page.errors}))
        if screenshot:
            await page.set_viewport(900, 1300)
            await page.screenshot(Path(screenshot))
    return 0


def main() -> int:
    """What the environment asks for."""
    if server := os.environ.get("HANDOVER_SERVER", ""):
        return asyncio.run(send(sys.argv[1], server, sys.argv[2]))
    link = os.environ["HANDOVER_LINK"]
    if "#" in link:
        return asyncio.run(receive(sys.argv[1], link))
    return asyncio.run(check(sys.argv[1], link, *sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
