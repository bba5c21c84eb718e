"""The drivers do what they say, in both browsers, against a page of a few lines."""

from __future__ import annotations

import asyncio
import os

import psutil
import pytest
import pytest_asyncio
from aiohttp import web

from .browsers import KINDS, Options, PageError, find_program, open_browser

pytestmark = pytest.mark.asyncio(loop_scope="session")

PAGE = """<!doctype html><html lang="en"><title>A page</title><link rel="icon" href="data:,">
<h1>Hello</h1><p hidden id="hidden">unseen</p>
<button id="press">Press</button><button id="off" disabled>Off</button><output id="out">none</output>
<form><input id="name"><input id="files" type="file" multiple></form>
<button id="save">Save</button><div style="height: 3000px"></div><button id="far">Far</button>
<script src="page.js"></script>"""

SCRIPT = """
const out = document.querySelector("#out");
for (const id of ["press", "far"])
  document.getElementById(id).addEventListener("click", (event) => {
    out.value = `${id} ${event.isTrusted} ${navigator.userActivation.isActive}`;
  });
document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  out.value = `submitted ${document.querySelector("#name").value}`;
});
document.querySelector("#save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.download = "data.bin";
  link.href = URL.createObjectURL(new Blob([new Uint8Array(3_000_000).fill(7)]));
  link.click();
});
"""

# The web client's own kind of policy: no eval, Trusted Types, nothing from elsewhere.
POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'unsafe-inline'; "
    "img-src data:; connect-src 'self'; require-trusted-types-for 'script'"
)

WRITE = """navigator.storage.getDirectory().then(async (root) => {
  const file = await root.getFileHandle("kept", { create: true });
  const stream = await file.createWritable();
  await stream.write("all of it");
  await stream.close();
})"""
READ = """navigator.storage.getDirectory().then(async (root) =>
  (await (await root.getFileHandle("kept")).getFile()).text())"""


@pytest_asyncio.fixture(loop_scope="session")
async def address(unused_tcp_port):
    """Where the page is served."""

    def serve(text, kind):
        async def answer(_):
            return web.Response(
                text=text, content_type=kind, headers={"Content-Security-Policy": POLICY}
            )

        return answer

    app = web.Application()
    app.router.add_get("/", serve(PAGE, "text/html"))
    app.router.add_get("/page.js", serve(SCRIPT, "text/javascript"))
    app.router.add_get("/worker.js", serve("console.error('of a worker')", "text/javascript"))
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "localhost", unused_tcp_port).start()
    yield f"http://localhost:{unused_tcp_port}/"
    await runner.cleanup()


async def test_a_page_is_loaded_read_and_used(visitor, address, tmp_path):
    """Clicks and keys are a user's: trusted, with activation, also below the fold."""
    page = visitor.page
    await page.goto(address)
    assert await page.text("h1") == "Hello"
    assert await page.evaluate("Promise.resolve({ three: 3 })") == {"three": 3}
    assert await page.evaluate("undefined") is None
    assert await page.evaluate("[innerWidth, innerHeight]") == [1280, 800]
    await page.click("#press")
    assert await page.text("#out") == "press true true"
    await page.click("#far")
    assert await page.text("#out") == "far true true"
    await page.fill("#name", "first")
    await page.fill("#name", "Łukasz £2")
    await page.press("Enter")
    assert await page.text("#out") == "submitted Łukasz £2"
    await page.fill("#name", "")
    assert await page.evaluate("document.querySelector('#name').value") == ""
    (tmp_path / "one.dcm").write_bytes(b"1234")
    await page.choose_files("#files", [tmp_path / "one.dcm"])
    assert await page.evaluate("document.querySelector('#files').files[0].size") == 4
    await page.set_viewport(375, 667)
    assert await page.evaluate("innerWidth") == 375
    await page.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    await page.reload()
    assert await page.text("#out") == "none"
    assert page.errors == []


async def test_what_does_not_come_is_an_error(visitor, address):
    """Waiting ends, and says for what and what there is; a script's exception is the test's."""
    page = visitor.page
    await page.goto(address)
    for selector in ("#missing", "#hidden"):
        with pytest.raises(PageError, match=selector) as failed:
            await page.wait_for(selector, 0.2)
        assert "the page shows: Hello" in str(failed.value)
    with pytest.raises(PageError, match="the page shows: Hello"):
        await page.click("#off", 0.2)
    await page.evaluate("void (document.querySelector('h1').className = 'card welcome')")
    with pytest.raises(PageError, match=r"the page shows: \[card welcome\] Hello;"):
        await page.wait_until("false", 0.2)
    with pytest.raises(PageError, match="no #missing"):
        await page.text("#missing")
    with pytest.raises(PageError, match="at noon"):
        await page.evaluate("Promise.reject(new Error('at noon'))")
    assert await page.wait_until("document.title", 1) == "A page"


async def test_a_blob_is_downloaded_whole(visitor, address):
    """Under its own name, in the browser's folder for them."""
    await visitor.page.goto(address)
    await visitor.page.click("#save")
    path = await visitor.browser.downloaded("data.bin")
    assert path.parent == visitor.browser.downloads
    assert path.read_bytes() == b"\x07" * 3_000_000


@pytest.mark.parametrize("kind", KINDS)
async def test_a_visit_finds_nothing_of_those_before(shared, kind, address):
    """Tabs share what they stored until all is forgotten, downloads too."""
    browser = await shared(kind)
    first, second = await browser.visit(), await browser.visit()
    for page in (first, second):
        await page.goto(address)
    await first.evaluate(WRITE)
    assert await second.evaluate(READ) == "all of it"
    await first.click("#save")
    old = await browser.downloaded("data.bin")
    for page in (first, second):
        await page.close()
    await browser.forget()
    assert not old.exists()
    third = await browser.visit()
    await third.goto(address)
    with pytest.raises(PageError, match=r"NotFound|could not be found"):
        await third.evaluate(READ)
    with pytest.raises(PageError, match="not downloaded"):
        await browser.downloaded("data.bin", 0.1)
    await third.click("#save")
    assert (await browser.downloaded("data.bin")).name == "data.bin"
    await third.close()
    await browser.forget()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_private_browser_downloads_too(open_browser, kind, address):
    """Where nothing else is kept: Firefox's OPFS refuses, Chromium's is in memory."""
    browser = await open_browser(kind, private=True)
    await browser.page.goto(address)
    await browser.page.click("#save")
    assert (await browser.downloaded("data.bin")).stat().st_size == 3_000_000
    if kind == "firefox":
        with pytest.raises(PageError, match="Security"):
            await browser.page.evaluate(WRITE)
    else:
        await browser.page.evaluate(WRITE)
        assert await browser.page.evaluate(READ) == "all of it"


async def test_what_a_page_stored_survives_the_end_of_the_browser(browser, address):
    """Killed without warning, and started on the same profile."""
    await browser.page.goto(address)
    await browser.page.evaluate(WRITE)
    killed = browser.processes()
    await browser.kill()
    assert not any(process.is_running() for process in killed)
    page = await browser.start()
    await page.goto(address)
    assert await page.evaluate(READ) == "all of it"


async def test_errors_of_a_page_are_heard(visitor, address):
    """The console's, the uncaught ones, the policy's and a worker's; each on its own tab."""
    page = visitor.page
    other = await visitor.browser.new_page()
    await page.goto(address)
    await other.goto(address)
    worker = """new Worker(trustedTypes.createPolicy("any", { createScriptURL: (url) => url })
        .createScriptURL("worker.js")) && null"""
    for script, said in {
        "console.error('to the', 'console')": "console: to the console",
        "void setTimeout(() => { throw new Error('uncaught one') })": "uncaught one",
        "void Promise.reject(new Error('rejected one'))": "rejected one",
        "fetch('http://127.0.0.1:9/').catch(() => null)": "connect-src",
        worker: "of a worker",
    }.items():
        await page.evaluate(script)
        async with asyncio.timeout(10):
            while not any(said in error for error in page.errors):
                await asyncio.sleep(0.02)
    assert other.errors == []
    await other.close()


@pytest.mark.parametrize("kind", KINDS)
async def test_options_reach_the_page(at, open_browser, kind, address):
    """Color scheme, motion and language, as a page sees them."""
    media = "matchMedia('(prefers-color-scheme: dark)').matches"
    motion = "matchMedia('(prefers-reduced-motion: reduce)').matches"
    seen = f"[{media}, {motion}, navigator.language, (1.5).toLocaleString()]"
    plain = await at(kind)
    await plain.page.goto(address)
    assert await plain.page.evaluate(seen) == [False, False, "en-US", "1.5"]
    other = await open_browser(kind, color_scheme="dark", reduced_motion=True, locale="de-DE")
    await other.page.goto(address)
    assert await other.page.evaluate(seen) == [True, True, "de-DE", "1,5"]


@pytest.mark.parametrize("kind", KINDS)
async def test_no_process_outlives_its_test(kind, tmp_path):
    """Neither of a closed browser, nor of one whose test failed."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    async with open_browser(kind, tmp_path / "one") as browser:
        assert len(browser.processes()) > 2
    with pytest.raises(ZeroDivisionError):
        async with open_browser(kind, tmp_path / "two", Options(private=True)):
            _ = 1 / 0
    for process in psutil.process_iter():
        try:
            line = " ".join(process.cmdline())
        except psutil.Error:
            continue
        assert str(tmp_path) not in line
    left = [c for c in psutil.Process().children(recursive=True) if c.pid not in before]
    assert not any("chrom" in one.name() or "firefox" in one.name() for one in left)
    assert os.listdir(tmp_path / "one" / "downloads") == []


async def test_a_missing_browser_is_named(monkeypatch):
    """And what to install."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FileNotFoundError, match="apt install firefox-esr"):
        find_program("firefox")
