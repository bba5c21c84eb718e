"""A browser that receives, run in the namespace of its site: `python -m tests.reach.page KIND`.

The link comes in HANDOVER_LINK. What the page shows decides nothing here: the sender's events tell.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tests.web_client.browsers import KINDS, Options, open_browser
from tests.web_client.recipient import Recipient


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


if __name__ == "__main__":
    asyncio.run(receive(sys.argv[1], os.environ["HANDOVER_LINK"]))
