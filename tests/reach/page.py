"""A browser, run in the namespace of its site: `python -m tests.reach.page KIND [SCREENSHOT]`.

It receives by the link in HANDOVER_LINK; what the page shows decides nothing then: the sender's events
tell. An address without a link has no sender: there it checks its computer, and prints what it found.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path

from tests.web_client.browsers import KINDS, Options, open_browser
from tests.web_client.recipient import Recipient

CHECK_SECONDS = 60.0
ROWS = """[...document.querySelectorAll('.findings li')].map(
  (row) => [row.dataset.verdict, row.innerText.replaceAll('\\n', ' ')])"""


async def receive(kind: str, link: str) -> None:
    """Until it is delivered."""
    known = next(one for one in KINDS if one == kind)
    with tempfile.TemporaryDirectory() as folder:
        async with open_browser(known, Path(folder), Options(any_certificate=True)) as browser:
            recipient = Recipient(browser.page, browser)
            await recipient.open(link)
            await recipient.start()
            await recipient.accept()
            await recipient.delivered()


async def check(kind: str, address: str, screenshot: str = "") -> None:
    """Until it is over: the rows (verdict, text) and the result, as JSON."""
    known = next(one for one in KINDS if one == kind)
    with tempfile.TemporaryDirectory() as folder:
        async with open_browser(known, Path(folder), Options(any_certificate=True)) as browser:
            page = browser.page
            await page.goto(address)
            await page.wait_until("document.querySelector('h1') !== null")
            await page.click(".card .quiet")
            await page.wait_for(".card.check .primary", CHECK_SECONDS)
            rows = await page.evaluate(ROWS)
            result = await page.text(".card.check [role=status]")
            print(json.dumps({"rows": rows, "result": result, "errors": page.errors}))
            if screenshot:
                await page.set_viewport(900, 1300)
                await page.screenshot(Path(screenshot))


if __name__ == "__main__":
    link = os.environ["HANDOVER_LINK"]
    asyncio.run(
        receive(sys.argv[1], link) if "#" in link else check(sys.argv[1], link, *sys.argv[2:])
    )
