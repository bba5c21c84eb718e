"""The two real browsers behind one interface: Chromium by Playwright, Firefox by WebDriver BiDi.

`async with open_browser("firefox", folder) as browser:` gives a headless browser with a new profile
below `folder`; leaving the block ends every process of it. What a test does goes through `Page`,
and means the same in both: clicks and keys are input events with a user's activation, never
synthetic ones; scripts run past the page's own content security policy; files land in `downloads`
under the names the browser gave them.

Firefox is driven as Debian ships it, without geckodriver: Playwright's own protocol needs a patched
one, and its BiDi mode never reports the download of a blob.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

import aiohttp
import psutil
from playwright import async_api as playwright

Kind = Literal["chromium", "firefox"]
KINDS: tuple[Kind, ...] = ("chromium", "firefox")
PROGRAMS = {
    "chromium": ("chromium", "chromium-browser", "google-chrome-stable"),
    "firefox": ("firefox-esr", "firefox"),
}
VIEWPORT = (1280, 800)
START_SECONDS = 60.0  # a cold Firefox on two busy cores takes ten
COMMAND_SECONDS = 60.0
WAIT_SECONDS = 20.0
CLOSE_SECONDS = 5.0
POLL_SECONDS = 0.03


class PageError(Exception):
    """A script threw, or what was waited for did not come; then with what the page shows instead."""


@dataclass(frozen=True)
class Options:
    """How a browser differs from one just installed."""

    private: bool = False  # off the record: nothing on disk; Firefox then has no OPFS
    any_certificate: bool = False  # self-signed and untrusted ones too
    authority: Path | None = None  # a certificate that its user trusts to vouch for servers
    persists: bool = False  # Firefox's user allows a page that asks to keep its data
    withholds_addresses: bool = False  # by a policy: WebRTC gets no candidate
    proxy: str = ""  # URL of the HTTP proxy to all https servers, with a login or without
    color_scheme: Literal["light", "dark"] = "light"
    reduced_motion: bool = False
    locale: str = "en-US"


class Page(Protocol):
    """One tab.

    `evaluate` takes an expression, awaits it when it is a promise, and gives its value as JSON
    would; it raises `PageError` when the script throws. Whatever takes a selector waits for that
    element (visible; enabled and uncovered for a click) and raises `PageError` after `seconds`.
    """

    errors: list[str]  # console errors, uncaught exceptions and policy violations, in order

    async def goto(self, url: str) -> None:
        """Load an address and wait for its load event."""

    async def reload(self) -> None:
        """Load the same page again."""

    async def evaluate(self, js: str) -> Any:
        """The value of an expression."""

    async def click(self, selector: str, seconds: float = WAIT_SECONDS) -> None:
        """Click the centre of an element with the mouse."""

    async def fill(self, selector: str, text: str, seconds: float = WAIT_SECONDS) -> None:
        """Replace what stands in a text field."""

    async def press(self, key: str) -> None:
        """Press a key where the focus is: one character, or a name such as `Tab` or `Enter`."""

    async def choose_files(self, selector: str, paths: Sequence[Path]) -> None:
        """Choose files in a file input, as its dialog would; the input may be hidden."""

    async def choose_folder(self, button: str, path: Path) -> None:
        """Click a button that makes a file input for folders, and choose one, as its dialog would."""

    async def drop(self, paths: Sequence[Path]) -> None:
        """Drop files on the page; in Chromium folders too, and as from a file manager."""

    async def text(self, selector: str) -> str:
        """What an element shows, now; raises at once when there is none."""

    async def wait_for(self, selector: str, seconds: float = WAIT_SECONDS) -> None:
        """Wait until an element is there and visible."""

    async def wait_until(self, js: str, seconds: float = WAIT_SECONDS) -> Any:
        """Wait until an expression is true of the page; gives its value."""

    async def delete_site_data(self) -> None:
        """Delete what the page's site has stored, as a person does in the settings."""

    async def set_viewport(self, width: int, height: int) -> None:
        """Change the size of the page's window, in CSS pixels."""

    async def screenshot(self, path: Path) -> None:
        """Write what the viewport shows as PNG."""

    async def close(self) -> None:
        """Close the tab without asking it."""


class Browser(Protocol):
    """One profile and the processes that run on it."""

    kind: Kind
    options: Options
    downloads: Path

    @property
    def page(self) -> Page:
        """The first tab of the running browser."""

    async def start(self) -> Page:
        """Start on the same profile; only after `kill`."""

    async def new_page(self) -> Page:
        """Another tab."""

    async def downloaded(self, name: str, seconds: float = WAIT_SECONDS) -> Path:
        """Wait until a file of this name has arrived whole. Raises `PageError` when it failed."""

    async def visit(self) -> Page:
        """A tab for who comes to this browser for the first time: nothing is stored but by other
        visits since the last `forget`."""

    async def forget(self) -> None:
        """Delete what visits stored and downloaded, once their tabs are closed."""

    def processes(self) -> list[psutil.Process]:
        """Every running process of it, the main one first."""

    async def kill(self) -> None:
        """End all of it at once and without warning, as a power cut would; keeps the profile."""

    async def close(self) -> None:
        """Quit, end what is left, and delete the profile. Downloads stay. May be called again."""


@contextlib.asynccontextmanager
async def open_browser(
    kind: Kind, folder: Path, options: Options | None = None
) -> AsyncIterator[Browser]:
    """A running browser whose profile and downloads lie below `folder`."""
    make = Chromium if kind == "chromium" else Firefox
    browser: Browser = make(folder, options or Options())
    try:
        await browser.start()
        yield browser
    finally:
        await browser.close()


def find_program(kind: Kind) -> str:
    """Where a browser is installed. Raises `FileNotFoundError` with what to install."""
    for name in PROGRAMS[kind]:
        if found := shutil.which(name):
            return found
    raise FileNotFoundError(f"{kind} is not installed: apt install {PROGRAMS[kind][0]}")


async def _trust(authority: Path, database: Path) -> None:
    """What an administrator does with certutil: both browsers read such a database of NSS."""
    database.mkdir(parents=True, exist_ok=True)
    where = ("-d", f"sql:{database}", "-n", "authority")
    done = await asyncio.create_subprocess_exec(
        "certutil", "-A", *where, "-t", "C,,", "-i", authority
    )
    assert await done.wait() == 0


# What the web client shows: its card's class and words; of any other page, all of it.
_SHOWN = """((card) => card ? `[${card.className}] ${card.innerText}` : document.body.innerText)(
  document.querySelector('.card'))"""
SHOWN_LENGTH, SHOWN_SECONDS = 300, 5.0

# In both: the element, or an exception that names it.
_FIND = "((s) => document.querySelector(s) ?? (() => {{ throw new Error('no ' + s) }})())({})"
_DELETE = """new Promise((done) => {
  const { CLEAR_DOM_STORAGES, CLEAR_COOKIES } = Ci.nsIClearDataService;
  Services.clearData.deleteData(CLEAR_DOM_STORAGES | CLEAR_COOKIES, { onDataDeleted: done });
})"""
_VISIBLE = "document.querySelector({})?.checkVisibility({{ visibilityProperty: true }})"
_CLICKABLE = """((element) => {{
  if (!element?.checkVisibility({{ visibilityProperty: true }}) || element.matches(':disabled'))
    return false;
  element.scrollIntoView({{ block: 'center', inline: 'center', behavior: 'instant' }});
  const at = element.getBoundingClientRect();
  const top = document.elementFromPoint(at.x + at.width / 2, at.y + at.height / 2);
  return element.contains(top) || (element.labels && [...element.labels].includes(top));
}})(document.querySelector({}))"""


_DRAWN = (
    "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
)


def _with(script: str, selector: str) -> str:
    return script.format(json.dumps(selector))


class _Tab:
    """What both pages do alike, by `evaluate`."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    async def evaluate(self, js: str) -> Any:
        raise NotImplementedError

    async def text(self, selector: str) -> str:
        return str(await self.evaluate(_with(_FIND, selector) + ".innerText"))

    async def wait_for(self, selector: str, seconds: float = WAIT_SECONDS) -> None:
        await self.wait_until(_with(_VISIBLE, selector), seconds)

    async def wait_until(self, js: str, seconds: float = WAIT_SECONDS) -> Any:
        ends = time.monotonic() + seconds
        while True:
            last = ""
            try:
                if value := await self.evaluate(js):
                    return value
            except PageError as error:  # also while the page is being replaced
                last = f": {error}"
            if time.monotonic() > ends:
                raise PageError(f"not in {seconds} s: {js}{last}; {await self._shown()}")
            await asyncio.sleep(POLL_SECONDS)

    async def _shown(self) -> str:
        """What there is instead of what was waited for."""
        try:
            text = await asyncio.wait_for(self.evaluate(_SHOWN), SHOWN_SECONDS)
        except (PageError, TimeoutError) as error:
            text = f"nothing ({error or 'no answer'})"
        words = " ".join(str(text).split())[:SHOWN_LENGTH]
        return f"the page shows: {words}; errors: {self.errors}"


class _Downloads:
    """What became of each download, by the name the browser gave it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ended: dict[str, bool] = {}

    async def wait(self, name: str, seconds: float) -> Path:
        ends = time.monotonic() + seconds
        while name not in self.ended:
            if time.monotonic() > ends:
                there = sorted(path.name for path in self.folder.iterdir())
                raise PageError(f"{name} not downloaded in {seconds} s: {there}")
            await asyncio.sleep(POLL_SECONDS)
        if not self.ended[name]:
            raise PageError(f"the download of {name} failed")
        return self.folder / name

    def forget(self) -> None:
        self.ended.clear()
        for path in self.folder.iterdir():
            path.unlink()


def _tree(main: psutil.Process | None) -> list[psutil.Process]:
    if main is None:
        return []
    try:
        return [main, *main.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


async def _kill(processes: list[psutil.Process], group: int | None = None) -> None:
    """SIGKILL to all, and wait until they are gone."""
    if group is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=CLOSE_SECONDS)
    assert not alive, f"survived SIGKILL: {alive}"


class ChromiumPage(_Tab):
    """A tab of Chromium's."""

    def __init__(self, page: playwright.Page, devtools: playwright.CDPSession) -> None:
        super().__init__()
        self._page, self.devtools = page, devtools
        self.origins: set[str] = set()  # where it was
        page.set_default_timeout(COMMAND_SECONDS * 1000)
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self.errors.append(f"uncaught: {error}"))
        page.on("crash", lambda _: self.errors.append("crashed"))

    def _on_console(self, message: playwright.ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"console: {message.text}")

    async def goto(self, url: str) -> None:
        self.origins.add("{0.scheme}://{0.netloc}".format(urlsplit(url)))
        await self._page.goto(url)

    async def reload(self) -> None:
        await self._page.reload()

    async def evaluate(self, js: str) -> Any:
        # Playwright's own evaluation calls the page's eval(), which Trusted Types forbid.
        try:
            answer = await self.devtools.send(
                "Runtime.evaluate",
                {
                    "expression": f"(async () => ({js}))()",
                    "awaitPromise": True,
                    "returnByValue": True,
                },
            )
        except playwright.Error as error:
            raise PageError(str(error)) from None
        if "exceptionDetails" in answer:
            thrown = answer["exceptionDetails"]
            raise PageError(thrown.get("exception", {}).get("description", thrown["text"]))
        return answer["result"].get("value")

    async def click(self, selector: str, seconds: float = WAIT_SECONDS) -> None:
        async with self._as_page_error():
            await self._page.click(selector, timeout=seconds * 1000)

    async def fill(self, selector: str, text: str, seconds: float = WAIT_SECONDS) -> None:
        async with self._as_page_error():
            await self._page.fill(selector, text, timeout=seconds * 1000)

    async def press(self, key: str) -> None:
        await self._page.keyboard.press(key)

    async def choose_files(self, selector: str, paths: Sequence[Path]) -> None:
        async with self._as_page_error():
            await self._page.set_input_files(selector, list(paths))

    async def choose_folder(self, button: str, path: Path) -> None:
        # Caught before Chromium opens its dialog, which would close again and take the input along.
        async with self._as_page_error():
            async with self._page.expect_file_chooser() as opened:
                await self._page.click(button)
            await (await opened.value).set_files(path)

    async def drop(self, paths: Sequence[Path]) -> None:
        data = {"items": [], "files": [str(p) for p in paths], "dragOperationsMask": 1}
        for what in ("dragEnter", "dragOver", "drop"):
            where = {"x": VIEWPORT[0] // 2, "y": VIEWPORT[1] // 4}
            await self.devtools.send(
                "Input.dispatchDragEvent", {"type": what, **where, "data": data}
            )

    @contextlib.asynccontextmanager
    async def _as_page_error(self) -> AsyncIterator[None]:
        try:
            yield
        except playwright.Error as error:
            raise PageError(f"{error}; {await self._shown()}") from None

    async def delete_site_data(self) -> None:
        origin = await self.evaluate("location.origin")
        what = {"origin": origin, "storageTypes": "all"}
        await self.devtools.send("Storage.clearDataForOrigin", what)

    async def set_viewport(self, width: int, height: int) -> None:
        await self._page.set_viewport_size({"width": width, "height": height})

    async def set_color_scheme(self, scheme: Literal["light", "dark"]) -> None:
        """As if the person had changed it while the page is open."""
        await self._page.emulate_media(color_scheme=scheme)

    async def screenshot(self, path: Path) -> None:
        await self._page.screenshot(path=path)

    async def close(self) -> None:
        await self._page.close()


class Chromium:
    """Chromium, by Playwright."""

    kind: Kind = "chromium"
    page: ChromiumPage
    # Nothing here touches WebRTC, storage or what pages see: less noise, and no network of its own.
    FLAGS = (
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    )

    WITHHOLD = ("--webrtc-ip-handling-policy=disable_non_proxied_udp",)

    def __init__(self, folder: Path, options: Options) -> None:
        self.options = options
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        self._profile = folder / "profile"
        self._home = folder / "home"
        self._arrived = _Downloads(self.downloads)
        self._names: dict[str, str] = {}
        self._playwright: playwright.Playwright | None = None
        self._context: playwright.BrowserContext | None = None
        self._visits: list[ChromiumPage] = []
        self._main: psutil.Process | None = None

    async def start(self) -> Page:
        options = self.options
        mark = f"--started-by-a-test={uuid.uuid4()}"  # no switch of Chromium's: finds its process
        how: dict[str, Any] = {
            "executable_path": find_program("chromium"),
            "args": [*self.FLAGS, *self.WITHHOLD * options.withholds_addresses, mark],
            "handle_sigint": False,
            "handle_sigterm": False,
            "handle_sighup": False,
        }
        if options.authority:
            await _trust(options.authority, self._home / ".pki" / "nssdb")
            how["env"] = {**os.environ, "HOME": str(self._home)}
        if options.proxy:
            proxy = urlsplit(options.proxy)
            server = f"{proxy.scheme}://{proxy.hostname}:{proxy.port}"
            login = {"username": proxy.username, "password": proxy.password}
            how["proxy"] = {"server": server, **(login if proxy.username else {})}
        what: dict[str, Any] = {
            "ignore_https_errors": options.any_certificate,
            "color_scheme": options.color_scheme,
            "reduced_motion": "reduce" if options.reduced_motion else "no-preference",
            "locale": options.locale,
            "viewport": dict(zip(("width", "height"), VIEWPORT, strict=True)),
        }
        self._playwright = await playwright.async_playwright().start()
        chromium = self._playwright.chromium
        if options.private:
            browser = await chromium.launch(**how)
            self._context = await browser.new_context(**what)
        else:
            self._context = await chromium.launch_persistent_context(self._profile, **how, **what)
        self._main = next(
            process
            for process in psutil.Process().children(recursive=True)
            if mark in (line := _line(process)) and not _is_part(line)
        )
        first = self._context.pages[0] if self._context.pages else await self._context.new_page()
        self.page = await self._take(first)
        return self.page

    async def _take(self, page: playwright.Page) -> ChromiumPage:
        assert self._context
        devtools = await self._context.new_cdp_session(page)
        # Playwright gives downloads random names in a folder of its own; a user's browser does not.
        devtools.on("Browser.downloadWillBegin", self._on_download)
        devtools.on("Browser.downloadProgress", self._on_progress)
        about = (await devtools.send("Target.getTargetInfo"))["targetInfo"]
        await devtools.send(
            "Browser.setDownloadBehavior",
            {
                "behavior": "allow",
                "downloadPath": str(self.downloads),
                "browserContextId": about["browserContextId"],
                "eventsEnabled": True,
            },
        )
        return ChromiumPage(page, devtools)

    def _on_download(self, event: dict[str, Any]) -> None:
        self._names[event["guid"]] = event["suggestedFilename"]

    def _on_progress(self, event: dict[str, Any]) -> None:
        if event["state"] != "inProgress":
            path = event.get("filePath")
            name = Path(path).name if path else self._names[event["guid"]]
            self._arrived.ended[name] = event["state"] == "completed"

    async def new_page(self) -> ChromiumPage:
        assert self._context
        return await self._take(await self._context.new_page())

    async def visit(self) -> Page:
        page = await self.new_page()
        self._visits.append(page)
        return page

    async def forget(self) -> None:
        # A context of its own would be off the record, and without a file system on the disk.
        for origin in {origin for page in self._visits for origin in page.origins}:
            about = {"origin": origin, "storageTypes": "all"}
            await self.page.devtools.send("Storage.clearDataForOrigin", about)
        self._visits.clear()
        self._arrived.forget()

    async def downloaded(self, name: str, seconds: float = WAIT_SECONDS) -> Path:
        return await self._arrived.wait(name, seconds)

    def processes(self) -> list[psutil.Process]:
        return _tree(self._main)

    async def kill(self) -> None:
        await _kill(self.processes(), self._main.pid if self._main else None)
        await self._end_playwright()

    async def close(self) -> None:
        rest = self.processes()
        if self._context:
            with contextlib.suppress(playwright.Error, TimeoutError):
                await asyncio.wait_for(self._context.close(), CLOSE_SECONDS)
        await self._end_playwright()
        await _kill(rest)
        shutil.rmtree(self._profile, ignore_errors=True)

    async def _end_playwright(self) -> None:
        self._context = self._main = None
        if self._playwright:
            await self._playwright.stop()
            self._playwright = None


def _line(process: psutil.Process) -> list[str]:
    """A process's command line; of one that is over, nothing."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def _is_part(line: list[str]) -> bool:
    """Whether it is a process of Chromium's other than the main one."""
    return any(argument.startswith("--type=") for argument in line)


# Key names to the code points of WebDriver's 17.4.2.
KEYS = {
    "Backspace": "\ue003",
    "Tab": "\ue004",
    "Enter": "\ue007",
    "Escape": "\ue00c",
    "Space": " ",
    "ArrowLeft": "\ue012",
    "ArrowUp": "\ue013",
    "ArrowRight": "\ue014",
    "ArrowDown": "\ue015",
    "Delete": "\ue017",
}


class _Wire:
    """Commands and events of WebDriver BiDi over one WebSocket."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.hear: dict[str, Any] = {}  # event name: what takes its parameters

    async def open(self, address: str) -> None:
        self._http = aiohttp.ClientSession()
        # Firefox refuses an Origin header; aiohttp sends none.
        self._socket = await self._http.ws_connect(address, max_msg_size=0, autoclose=False)
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for message in self._socket:
                if message.type is not aiohttp.WSMsgType.TEXT:
                    break
                said = json.loads(message.data)
                if said["type"] == "event":
                    self.hear[said["method"]](said["params"])
                elif (waiting := self._waiting.pop(said["id"], None)) and not waiting.done():
                    waiting.set_result(said)
        finally:
            for waiting in self._waiting.values():
                waiting.cancel()

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = asyncio.get_running_loop().create_future()
        if self._reading.done():
            raise PageError("the browser is gone")
        self._waiting[number] = answer
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        done, _ = await asyncio.wait([answer], timeout=COMMAND_SECONDS)
        if not done or answer.cancelled():
            self._waiting.pop(number, None)
            raise PageError(f"{method}: {'the browser is gone' if done else 'no answer'}")
        said = answer.result()
        if said["type"] == "error":
            raise PageError(f"{method}: {said['error']}: {said['message']}")
        return dict(said["result"])

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self._socket.close()
        await self._http.close()


# In the browser's own window: what a person chooses in its dialog for files. BiDi chooses no folder.
_PICKER = """(() => {
  if (globalThis.chosenByATest) return;
  globalThis.chosenByATest = [];
  const fileOf = (path) => {
    const file = Cc["@mozilla.org/file/local;1"].createInstance(Ci.nsIFile);
    file.initWithPath(path);
    return file;
  };
  class Picker {
    QueryInterface = ChromeUtils.generateQI(["nsIFilePicker"]);
    init() {}
    appendFilter() {}
    appendFilters() {}
    appendRawFilter() {}
    open(callback) {
      const [path] = chosenByATest.splice(0);
      if (!path) return; // as a dialog that nobody answers
      this.file = fileOf(path);
      Services.tm.dispatchToMainThread(() => callback.done(0));
    }
  }
  const factory = {
    QueryInterface: ChromeUtils.generateQI(["nsIFactory"]),
    createInstance: (iid) => new Picker().QueryInterface(iid),
  };
  Components.manager.QueryInterface(Ci.nsIComponentRegistrar).registerFactory(
    Components.ID(`{${crypto.randomUUID()}}`), "", "@mozilla.org/filepicker;1", factory);
})()"""
# Whether there was a question, such as whether to upload a whole folder; the answer is yes.
_CONFIRM = """(() => {
  const frames = [...document.querySelectorAll("browser.dialogFrame")];
  const pages = frames.map(({ contentDocument: page }) => page);
  const asked = pages.map((page) => page?.readyState === "complete" && page.querySelector("dialog"));
  const question = asked.find((dialog) => dialog && dialog.getButton("accept")?.disabled === false);
  question?.acceptDialog();
  return Boolean(question);
})()"""
_DROP = """((input) => {
  const data = new DataTransfer();
  for (const file of input.files) data.items.add(file);
  input.remove();
  for (const type of ["dragover", "drop"]) {
    const event = new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true });
    document.body.dispatchEvent(event);
  }
})"""


_CHROME = {"moz:scope": "chrome"}


class FirefoxPage(_Tab):
    """A tab of Firefox's."""

    def __init__(self, wire: _Wire, context: str) -> None:
        super().__init__()
        self._wire, self._context = wire, context

    async def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return await self._wire.call(method, context=self._context, **parameters)

    async def goto(self, url: str) -> None:
        await self._call("browsingContext.navigate", url=url, wait="complete")

    async def reload(self) -> None:
        await self._call("browsingContext.reload", wait="complete")

    async def _run(self, js: str) -> dict[str, Any]:
        answer = await self._wire.call(
            "script.evaluate",
            expression=js,
            awaitPromise=True,
            target={"context": self._context},
        )
        if answer["type"] == "exception":
            raise PageError(answer["exceptionDetails"]["text"])
        return dict(answer["result"])

    async def evaluate(self, js: str) -> Any:
        result = await self._run(f"(async () => JSON.stringify(await ({js})))()")
        return json.loads(result["value"]) if result["type"] == "string" else None

    async def _element(self, selector: str) -> dict[str, str]:
        return {"sharedId": (await self._run(_with(_FIND, selector)))["sharedId"]}

    async def click(self, selector: str, seconds: float = WAIT_SECONDS) -> None:
        await self.wait_until(_with(_CLICKABLE, selector), seconds)
        element = {"type": "element", "element": await self._element(selector)}
        await self._act(
            "pointer",
            [
                {"type": "pointerMove", "x": 0, "y": 0, "origin": element},
                {"type": "pointerDown", "button": 0},
                {"type": "pointerUp", "button": 0},
            ],
        )

    async def _act(self, kind: str, actions: list[dict[str, Any]]) -> None:
        source = {"type": kind, "id": kind, "actions": actions}
        await self._call("input.performActions", actions=[source])

    async def _type(self, keys: Sequence[str]) -> None:
        both = ("keyDown", "keyUp")
        await self._act("key", [{"type": each, "value": key} for key in keys for each in both])

    async def fill(self, selector: str, text: str, seconds: float = WAIT_SECONDS) -> None:
        await self.wait_for(selector, seconds)
        await self.evaluate(
            f"((field) => {{ field.focus(); field.select() }})({_with(_FIND, selector)})"
        )
        await self._type(text or KEYS["Delete"])
        # Until it is drawn, the page may scroll back to the field, under the next click.
        await self.wait_until(f"{_with(_FIND, selector)}.value === {json.dumps(text)}")
        await self.evaluate(_DRAWN)

    async def press(self, key: str) -> None:
        await self._type([KEYS.get(key, key)])

    async def choose_files(self, selector: str, paths: Sequence[Path]) -> None:
        await self._call(
            "input.setFiles", element=await self._element(selector), files=[str(p) for p in paths]
        )

    async def choose_folder(self, button: str, path: Path) -> None:
        await self._in_window(_PICKER)
        await self._in_window(f"void (chosenByATest = [{json.dumps(str(path))}])")
        await self.click(button)
        ends = time.monotonic() + WAIT_SECONDS
        while not await self._in_window(_CONFIRM):
            if time.monotonic() > ends:
                raise PageError(f"no folder was asked for; {await self._shown()}")
            await asyncio.sleep(POLL_SECONDS)

    async def _in_window(self, js: str) -> Any:
        """Evaluate it in the browser's own window, with its rights."""
        (window,) = (await self._wire.call("browsingContext.getTree", **_CHROME))["contexts"]
        target = {"context": window["context"]}
        answer = await self._wire.call(
            "script.evaluate", expression=js, awaitPromise=True, target=target
        )
        if answer["type"] == "exception":
            raise PageError(answer["exceptionDetails"]["text"])
        return answer["result"].get("value")

    async def drop(self, paths: Sequence[Path]) -> None:
        mark = (
            "document.body.append(Object.assign(document.createElement('input'), { id: 'dropped',"
        )
        await self.evaluate(f"void {mark} type: 'file', multiple: true, hidden: true }}))")
        await self.choose_files("#dropped", paths)
        await self.evaluate(f"void {_DROP}(document.querySelector('#dropped'))")

    async def delete_site_data(self) -> None:
        await self._in_window(_DELETE)

    async def set_viewport(self, width: int, height: int) -> None:
        await self._call("browsingContext.setViewport", viewport={"width": width, "height": height})

    async def screenshot(self, path: Path) -> None:
        answer = await self._call("browsingContext.captureScreenshot")
        path.write_bytes(base64.b64decode(answer["data"]))

    async def close(self) -> None:
        await self._call("browsingContext.close", promptUnload=False)


class Firefox:
    """Firefox, by WebDriver BiDi."""

    kind: Kind = "firefox"
    page: Page
    # Silent on the network, and no questions; as a user's in all that a page can see.
    PREFERENCES: dict[str, bool | int | str] = {  # noqa: RUF012 - read only
        "app.normandy.enabled": False,
        "app.update.disabledForTesting": True,
        "browser.download.always_ask_before_handling_new_types": False,
        "browser.download.alwaysOpenPanel": False,
        "browser.download.folderList": 2,
        "browser.newtabpage.enabled": False,
        "browser.safebrowsing.downloads.enabled": False,
        "browser.safebrowsing.malware.enabled": False,
        "browser.sessionstore.resume_from_crash": False,
        "browser.shell.checkDefaultBrowser": False,
        "browser.startup.homepage": "about:blank",
        "browser.startup.page": 0,
        "datareporting.policy.dataSubmissionEnabled": False,
        "dom.push.connection.enabled": False,
        "extensions.update.enabled": False,
        "network.captive-portal-service.enabled": False,
        "network.connectivity-service.enabled": False,
        "network.dns.disablePrefetch": True,
        "security.dialog_enable_delay": 0,
        "services.settings.server": "data:,",
        "toolkit.telemetry.enabled": False,
    }

    def __init__(self, folder: Path, options: Options) -> None:
        self.options = options
        self.downloads = folder / "downloads"
        self.downloads.mkdir(parents=True)
        self._profile = folder / "profile"
        self._log = folder / "firefox.log"
        self._arrived = _Downloads(self.downloads)
        self._names: dict[str, str] = {}
        self._pages: dict[str, FirefoxPage] = {}
        self._container: str | None = None  # of all visits
        self._process: asyncio.subprocess.Process | None = None
        self._wire: _Wire | None = None

    async def start(self) -> Page:
        self._profile.mkdir(exist_ok=True)
        if self.options.authority:
            await _trust(self.options.authority, self._profile)
        self._write_preferences()
        where = self._profile / "WebDriverBiDiServer.json"
        where.unlink(missing_ok=True)  # of a killed one
        environment = {**os.environ, "HOME": str(self._profile), "MOZ_CRASHREPORTER_DISABLE": "1"}
        with open(self._log, "ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                find_program("firefox"),
                *("--headless", "--no-remote", "--profile", str(self._profile)),
                *("--remote-allow-system-access", "--remote-debugging-port", "0", "about:blank"),
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,  # one group, to end as one
            )
        self._wire = _Wire()
        self._wire.hear = {
            "log.entryAdded": self._on_entry,
            "browsingContext.downloadWillBegin": self._on_download,
            "browsingContext.downloadEnd": self._on_download_end,
        }
        await self._wire.open(await self._address(where))
        certificates = {"acceptInsecureCerts": self.options.any_certificate}
        await self._wire.call("session.new", capabilities={"alwaysMatch": certificates})
        if self.options.proxy:
            self._wire.hear["network.authRequired"] = self._on_login
            await self._wire.call("network.addIntercept", phases=["authRequired"])
        await self._wire.call("session.subscribe", events=list(self._wire.hear))
        # It logs scripts' errors, but not what its policy kept a page from doing.
        await self._wire.call(
            "script.addPreloadScript",
            functionDeclaration="""() => addEventListener("securitypolicyviolation", (event) =>
                console.error("policy: " + event.effectiveDirective + " " + event.blockedURI))""",
        )
        contexts = (await self._wire.call("browsingContext.getTree"))["contexts"]
        self.page = await self._take(contexts[0]["context"])
        return self.page

    def _write_preferences(self) -> None:
        dark = self.options.color_scheme == "dark"
        chosen: dict[str, bool | int | str] = {
            **self.PREFERENCES,
            "browser.download.dir": str(self.downloads),
            "browser.privatebrowsing.autostart": self.options.private,
            "layout.css.prefers-color-scheme.content-override": 0 if dark else 1,
            "ui.prefersReducedMotion": int(self.options.reduced_motion),
        }
        if self.options.persists:
            for name in ("", ".allow"):
                chosen[f"dom.storageManager.prompt.testing{name}"] = True
        if self.options.withholds_addresses:
            chosen |= {
                "media.peerconnection.ice.no_host": True,
                "media.peerconnection.ice.default_address_only": True,
            }
        if self.options.proxy:
            proxy = urlsplit(self.options.proxy)
            chosen |= {
                "network.proxy.type": 1,
                "network.proxy.ssl": proxy.hostname or "",
                "network.proxy.ssl_port": proxy.port or 0,
            }
        lines = (f"user_pref({json.dumps(k)}, {json.dumps(v)});\n" for k, v in chosen.items())
        (self._profile / "user.js").write_text("".join(lines))

    async def _address(self, where: Path) -> str:
        """Where it listens, as soon as it does."""
        assert self._process
        ends = time.monotonic() + START_SECONDS
        while time.monotonic() < ends and self._process.returncode is None:
            with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
                said = json.loads(where.read_text())
                return f"ws://{said['ws_host']}:{said['ws_port']}/session"
            await asyncio.sleep(POLL_SECONDS)
        raise PageError(f"Firefox did not start: {self._log.read_text()[-2000:]}")

    async def _take(self, context: str) -> FirefoxPage:
        assert self._wire
        page = self._pages[context] = FirefoxPage(self._wire, context)
        await page.set_viewport(*VIEWPORT)
        await self._wire.call(
            "emulation.setLocaleOverride", contexts=[context], locale=self.options.locale
        )
        return page

    def _on_entry(self, entry: dict[str, Any]) -> None:
        page = self._pages.get(entry["source"].get("context", ""))
        if page and entry["level"] == "error":
            kind = "console" if entry["type"] == "console" else "uncaught"
            page.errors.append(f"{kind}: {entry['text']}")

    def _on_login(self, event: dict[str, Any]) -> None:
        """As the user does whom the browser asks: what it asks from then on is its own affair."""
        assert self._wire
        proxy = urlsplit(self.options.proxy)
        login = {"type": "password", "username": proxy.username, "password": proxy.password}
        what = {"request": event["request"]["request"], "action": "provideCredentials"}
        self._login = asyncio.ensure_future(
            self._wire.call("network.continueWithAuth", credentials=login, **what)
        )

    def _on_download(self, event: dict[str, Any]) -> None:
        self._names[event["navigation"]] = event["suggestedFilename"]

    def _on_download_end(self, event: dict[str, Any]) -> None:
        path = event.get("filepath")
        name = Path(path).name if path else self._names[event["navigation"]]
        self._arrived.ended[name] = event["status"] == "complete"

    async def new_page(self) -> Page:
        assert self._wire
        made = await self._wire.call("browsingContext.create", type="tab")
        return await self._take(made["context"])

    async def visit(self) -> Page:
        assert self._wire
        if self._container is None:
            made = await self._wire.call("browser.createUserContext")
            self._container = made["userContext"]
        made = await self._wire.call(
            "browsingContext.create", type="tab", userContext=self._container
        )
        return await self._take(made["context"])

    async def forget(self) -> None:
        assert self._wire
        if self._container is not None:
            await self._wire.call("browser.removeUserContext", userContext=self._container)
            self._container = None
        self._arrived.forget()

    async def downloaded(self, name: str, seconds: float = WAIT_SECONDS) -> Path:
        return await self._arrived.wait(name, seconds)

    def processes(self) -> list[psutil.Process]:
        if self._process is None or self._process.returncode is not None:
            return []
        return _tree(psutil.Process(self._process.pid))

    async def kill(self) -> None:
        if self._process:
            await _kill(self.processes(), self._process.pid)
            await self._process.wait()
        await self._end_wire()

    async def close(self) -> None:
        if self._process and self._wire:
            with contextlib.suppress(PageError, TimeoutError, AttributeError, ConnectionError):
                await asyncio.wait_for(self._wire.call("browser.close"), CLOSE_SECONDS)
                await asyncio.wait_for(self._process.wait(), CLOSE_SECONDS)
        await self.kill()
        shutil.rmtree(self._profile, ignore_errors=True)

    async def _end_wire(self) -> None:
        self._process = None
        self._pages.clear()
        if self._wire:
            with contextlib.suppress(AttributeError):  # it never opened
                await self._wire.close()
            self._wire = None
