"""How a state of the page looks, in both languages, light and dark, at any width."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from .browsers import ChromiumPage
from .page_sender import PageSender
from .recipient import Recipient

WIDTHS = (320, 768, 1280)
LANGUAGES = ("en", "de")
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


class Look:
    """Looks at a state from every side; keeps pictures of it where a folder is given for them."""

    def __init__(self, axe: str, folder: Path | None) -> None:
        self._axe, self._folder = axe, folder
        self.seen: list[str] = []

    async def __call__(self, person: Recipient | PageSender, name: str) -> None:
        """Accessible by day and by night, nothing wider than the screen, in every language."""
        page = person.page
        assert isinstance(page, ChromiumPage)  # of Firefox the colour scheme is fixed
        for language in LANGUAGES:
            await page.click(f".languages [lang={language}]")
            assert await page.evaluate("document.documentElement.lang") == language
            for width in WIDTHS:
                await page.set_viewport(width, 800)
                wide = await page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{name} is {wide} wide at {width} ({language})"
                if self._folder:
                    await self._picture(page, f"{name}-{width}-{language}", width)
            for scheme in SCHEMES:
                await page.set_color_scheme(scheme)
                assert await page.evaluate(
                    f"matchMedia('(prefers-color-scheme: {scheme})').matches"
                )
                assert await self._violations(person) == [], (name, scheme)
        await page.click(".languages [lang=en]")
        self.seen.append(name)

    async def _picture(self, page: ChromiumPage, name: str, width: int) -> None:
        assert self._folder
        height = await page.evaluate("document.documentElement.scrollHeight")
        await page.set_viewport(width, max(800, height))
        for scheme in SCHEMES:
            await page.set_color_scheme(scheme)
            await page.screenshot(self._folder / f"{name}-{scheme}.png")

    async def _violations(self, person: Recipient | PageSender) -> list[str]:
        page = person.page
        if not await page.evaluate("'axe' in window"):
            await page.evaluate(f"(() => {{ {self._axe} }})()")
        found = await page.evaluate(
            """axe.run(document).then(({ violations }) => violations.map(({ id, nodes }) =>
            `${id}: ${nodes.map(({ html }) => html).join(" | ")}`))"""
        )
        return list(found)
