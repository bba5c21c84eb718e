"""The baseline of the web client: what the engine alone can move to or from a page in a browser.

A process of its own sends over libdatachannel; a page in Chromium or Firefox takes the bytes in a
worker and throws them away, acknowledging as the web client must. With `--direction from` the page
sends and the process throws away. No sealing, no hashing, no disk. Beside it, with `--whole`, a
real transfer: `handover send` to the web client, from the click that accepts until the files are
verified, and until they are saved to the disk and verified; or the web client to `handover
receive`, from the click that lets it in until both have signed the receipt. With `--direction
between` two browsers of a kind do either; "program" is then all of the one that sends, and its tab.
`python -m benchmarks.browser` prints a table; CPU is user and system seconds for a GB (10^9 bytes)
of the sender, of the tab, of the process that holds its sockets, and of the rest of the browser.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from aiohttp import web

from p2p.cli.process import keep_buffers
from p2p.lanes.webrtc import SMALL_PACKET, Connection, load, sdp
from p2p.protocol.session.flow import WINDOW
from p2p.protocol.session.recipient import MAX_ACK
from p2p.protocol.signal import MAX_MESSAGE_SIZE
from tests.web_client.browsers import KINDS, Browser, Kind, open_browser
from tests.web_client.page_sender import PageSender

from .data import random_file
from .measure import cpu_of_all, spread

SECONDS = 600.0
SODIUM = "web_client/node_modules/libsodium-sumo/dist/modules-sumo-esm/libsodium-sumo.mjs"
LINE = 1 << 20  # offers of eight connections are longer than asyncio's lines
NO_DIALOG = "void delete window.showSaveFilePicker"  # nobody could click it
# The page says when; looking again and again would cost as much as its own painting.
DONE = """new Promise((done) => new MutationObserver(() => {
  if (document.querySelector(".card.done")) done(true);
}).observe(document.body, { childList: true, subtree: true }))"""
SENT = DONE.replace("card.done", "card.sent")
PARTS = ("program", "tab", "network", "rest")


class Result(NamedTuple):
    """One measurement: MB/s, CPU s/GB by part, peak MB of program and tab, cores others kept busy.

    `saved` is MB/s until the download has ended, of a whole transfer.
    """

    rate: float
    cpu: dict[str, float]
    program_memory: float
    tab_memory: float
    others: float
    saved: float = 0.0


async def raw(
    kind: Kind,
    total: int,
    *,
    sends: bool = False,
    message_size: int = MAX_MESSAGE_SIZE,
    window: int = WINDOW,
    ack: int = MAX_ACK,
    connections: int = 1,
    packet: int = SMALL_PACKET,
    worker: bool = True,
) -> Result:
    """Send `total` bytes to a page of a browser just started, or with `sends` from it; the browser
    ends with the call.

    Each connection carries an equal share with a window of its own. `packet` is SMALL_PACKET by
    default, the engine's own.
    """
    share = total // connections
    program = {
        "receives": sends,
        "ack": ack,
        "share": share,
        "message_size": message_size,
        "window": window,
        "connections": connections,
        "packet": packet,
    }
    with tempfile.TemporaryDirectory(prefix="handover-bench-") as folder:
        async with (
            _serve() as address,
            open_browser(kind, Path(folder)) as browser,
            _start_program(program) as (hear, say),
        ):
            page = browser.page
            await page.goto(address)
            how = {"share": share, "ack": ack, "worker": worker, "sends": sends}
            how |= {"window": window, "messageSize": message_size}
            offers = await hear()
            say(await page.evaluate(f"meet({json.dumps(offers)}, {json.dumps(how)})"))
            await hear()  # open
            before, all_before = _cpu(browser), cpu_of_all()
            say("go")
            sent = await hear()
            after, all_after = _cpu(browser), cpu_of_all()
            assert not page.errors, page.errors
            used = {part: after[part] - before[part] for part in PARTS}
            used["program"] = sent["cpu"]
            return Result(
                share * connections / sent["seconds"] / 1e6,
                {part: used[part] / total * 1e9 for part in PARTS},
                sent["memory"],
                _tab_memory(browser),
                (all_after - all_before - sum(used.values())) / sent["seconds"],
            )


async def primitives(kind: Kind, total: int) -> Result:
    """What a tab must do with every byte that arrives, and nothing else."""
    work = """new Promise((done, failed) => {
      const worker = new Worker("primitives.js", { type: "module" });
      worker.onmessage = ({ data }) => done(data);
      worker.onerror = failed;
      worker.postMessage(%d);
    })"""
    with tempfile.TemporaryDirectory(prefix="handover-bench-") as folder:
        async with _serve() as address, open_browser(kind, Path(folder)) as browser:
            await browser.page.goto(address)
            before, all_before = _cpu(browser), cpu_of_all()
            seconds = await asyncio.wait_for(browser.page.evaluate(work % total), SECONDS)
            after, all_after = _cpu(browser), cpu_of_all()
            assert not browser.page.errors, browser.page.errors
            used = {part: after[part] - before[part] for part in PARTS}
            return Result(
                total / seconds / 1e6,
                {part: used[part] / total * 1e9 for part in PARTS},
                0.0,
                _tab_memory(browser),
                (all_after - all_before - sum(used.values())) / seconds,
            )


async def whole_to_browser(kind: Kind, source: Path) -> Result:
    """A real transfer of one file to a browser just started, from the accept on."""
    total = source.stat().st_size
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDOVER_")}
    with tempfile.TemporaryDirectory(prefix="handover-bench-") as folder:
        sender = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "p2p", "send", "--auto", "--json"),
            *("--listen", "127.0.0.1:0", str(source)),
            env={**kept, "HANDOVER_CONFIG": os.devnull, "HANDOVER_HOME": f"{folder}/home"},
            stdout=asyncio.subprocess.PIPE,
        )
        assert sender.stdout
        link = json.loads(await asyncio.wait_for(sender.stdout.readline(), SECONDS))["link"]
        reading = asyncio.create_task(sender.stdout.read())  # its progress, so that it can go on
        try:
            async with open_browser(kind, Path(folder)) as browser:
                page, process = browser.page, psutil.Process(sender.pid)
                await page.goto(link)
                await page.fill("#label", "Benchmark")
                await page.click("button.primary")
                await page.wait_for(".card.offer")
                before, all_before = _cpu(browser), cpu_of_all()
                own = _cpu_of(process)
                began = time.perf_counter()
                await page.click(".card.offer button.primary")
                await asyncio.wait_for(page.evaluate(DONE), SECONDS)
                verified = time.perf_counter() - began
                after, all_after = _cpu(browser), cpu_of_all()
                used = {part: after[part] - before[part] for part in PARTS}
                used["program"] = _cpu_of(process) - own
                memory = process.memory_info().rss / 1e6
                await page.evaluate(NO_DIALOG)
                await page.click(".card.done button.primary")
                await browser.downloaded(source.name, SECONDS)
                saved = time.perf_counter() - began
                assert not page.errors, page.errors
                return Result(
                    total / verified / 1e6,
                    {part: used[part] / total * 1e9 for part in PARTS},
                    memory,
                    _tab_memory(browser),
                    (all_after - all_before - sum(used.values())) / verified,
                    total / saved / 1e6,
                )
        finally:
            if sender.returncode is None:
                sender.kill()
            await sender.wait()
            await reading


async def whole_from_browser(kind: Kind, source: Path) -> Result:
    """A real transfer of one file from a browser just started, from the admission on."""
    total = source.stat().st_size
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDOVER_")}
    environment = {**kept, "HANDOVER_CONFIG": os.devnull}
    with tempfile.TemporaryDirectory(prefix="handover-bench-") as folder:
        environment["HANDOVER_HOME"] = f"{folder}/home"
        async with (
            _server(environment) as address,
            open_browser(kind, Path(folder)) as browser,
        ):
            page = browser.page
            sender = PageSender(page, browser)
            link = await sender.send(address, [source])
            receiver = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "p2p", "receive", "--auto", "--output", f"{folder}/out"),
                env={**environment, "HANDOVER_LINK": link},
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                process = psutil.Process(receiver.pid)
                await page.wait_for(".card.admit")
                before, all_before = _cpu(browser), cpu_of_all()
                own = _cpu_of(process)
                began = time.perf_counter()
                await page.click(".card.admit .choices .primary")
                await asyncio.wait_for(page.evaluate(SENT), SECONDS)
                signed = time.perf_counter() - began
                after, all_after = _cpu(browser), cpu_of_all()
                used = {part: after[part] - before[part] for part in PARTS}
                used["program"] = _cpu_of(process) - own
                assert not page.errors, page.errors
                return Result(
                    total / signed / 1e6,
                    {part: used[part] / total * 1e9 for part in PARTS},
                    process.memory_info().rss / 1e6,
                    _tab_memory(browser),
                    (all_after - all_before - sum(used.values())) / signed,
                )
            finally:
                if receiver.returncode is None:
                    receiver.kill()
                await receiver.wait()


async def raw_between(kind: Kind, total: int) -> Result:
    """Send `total` bytes from a page of a browser to one of another of its kind."""
    how = {"share": total, "ack": MAX_ACK, "worker": True, "window": WINDOW}
    how |= {"messageSize": MAX_MESSAGE_SIZE}
    with tempfile.TemporaryDirectory(prefix="handover-bench-") as folder:
        async with (
            _serve() as address,
            open_browser(kind, Path(folder) / "one") as one,
            open_browser(kind, Path(folder) / "other") as other,
        ):
            for browser in (one, other):
                await browser.page.goto(address)
            before = _cpu(one), _cpu(other), cpu_of_all()
            offer = await one.page.evaluate(f"call({json.dumps({**how, 'sends': True})})")
            answering = json.dumps({**how, "sends": False, "starts": True})
            answers = await other.page.evaluate(f"meet({json.dumps([offer])}, {answering})")
            await one.page.evaluate(f"take({json.dumps(answers[0])})")
            seconds = await asyncio.wait_for(one.page.evaluate("seconds"), SECONDS)
            return _between(one, other, before, total, seconds)


async def whole_between(kind: Kind, source: Path) -> Result:
    """A real transfer of one file from a browser to another of its kind, from the accept on."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("HANDOVER_")}
    total = source.stat().st_size
    with tempfile.TemporaryDirectory(prefix="handover-bench-") as folder:
        async with (
            _server({**kept, "HANDOVER_CONFIG": os.devnull, "HANDOVER_HOME": folder}) as address,
            open_browser(kind, Path(folder) / "one") as one,
            open_browser(kind, Path(folder) / "other") as other,
        ):
            sender = PageSender(one.page, one)
            await other.page.goto(await sender.send(address, [source]))
            await other.page.fill("#label", "Benchmark")
            await other.page.click("button.primary")
            await sender.admit()
            await other.page.wait_for(".card.offer")
            before = _cpu(one), _cpu(other), cpu_of_all()
            began = time.perf_counter()
            await other.page.click(".card.offer button.primary")
            await asyncio.wait_for(one.page.evaluate(SENT), SECONDS)
            return _between(one, other, before, total, time.perf_counter() - began)


def _between(
    one: Browser,
    other: Browser,
    before: tuple[dict[str, float], dict[str, float], float],
    total: int,
    seconds: float,
) -> Result:
    """What two browsers did since."""
    assert not one.page.errors, one.page.errors
    assert not other.page.errors, other.page.errors
    sent, got, everyone = _cpu(one), _cpu(other), cpu_of_all()
    used = {part: got[part] - before[1][part] for part in PARTS}
    used["program"] = sum(sent.values()) - sum(before[0].values())
    return Result(
        total / seconds / 1e6,
        {part: used[part] / total * 1e9 for part in PARTS},
        _tab_memory(one),
        _tab_memory(other),
        (everyone - before[2] - sum(used.values())) / seconds,
    )


@asynccontextmanager
async def _server(environment: dict[str, str]) -> AsyncIterator[str]:
    """A server of its own; its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "p2p", "serve", "--listen", "127.0.0.1:0"),
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stderr
        while not (found := re.search(rb"port (\d+)", await process.stderr.readline())):
            pass
        yield f"http://127.0.0.1:{int(found[1])}"
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def _serve() -> AsyncIterator[str]:
    """The page's address: `localhost`, which browsers take for a secure context."""
    here = Path(__file__).parent
    scripts = {f"/{name}": here / name for name in ("page.js", "primitives.js")}
    scripts["/libsodium.js"] = here.parent / SODIUM
    page = '<!doctype html><link rel="icon" href="data:,"><script src="page.js"></script>'

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/":
            return web.Response(text=page, content_type="text/html")
        return web.Response(body=scripts[request.path].read_bytes(), content_type="text/javascript")

    app = web.Application()
    for path in ("/", *scripts):
        app.router.add_get(path, answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "localhost", 0)
    await site.start()
    yield f"http://localhost:{runner.addresses[0][1]}/"
    await runner.cleanup()


@asynccontextmanager
async def _start_program(how: dict[str, Any]) -> AsyncIterator[tuple[Any, Any]]:
    """The other end, a process of its own, and lines of JSON from and to it."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.browser", "--program", json.dumps(how)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=LINE,
    )
    assert process.stdin
    assert process.stdout
    output, entry = process.stdout, process.stdin

    async def hear() -> Any:
        return json.loads(await asyncio.wait_for(output.readline(), SECONDS))

    def say(value: Any) -> None:
        entry.write(json.dumps(value).encode() + b"\n")

    try:
        yield hear, say
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _part(process: psutil.Process, browser: Browser) -> str:
    line = process.cmdline()
    if browser.kind == "firefox":
        return {"tab": "tab", "socket": "network"}.get(line[-1] if line else "", "rest")
    if "--type=renderer" in line:
        return "tab"
    return "network" if "--utility-sub-type=network.mojom.NetworkService" in line else "rest"


def _cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _cpu(browser: Browser) -> dict[str, float]:
    """CPU seconds so far, by part."""
    used = dict.fromkeys(PARTS, 0.0)
    for process in browser.processes():
        used[_part(process, browser)] += _cpu_of(process)
    return used


def _tab_memory(browser: Browser) -> float:
    """Peak resident MB of the largest tab."""
    peak = 0.0
    for process in browser.processes():
        if _part(process, browser) == "tab":
            for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peak = max(peak, int(line.split()[1]) * 1024 / 1e6)
    return peak


def _say(value: Any) -> None:
    print(json.dumps(value), flush=True)


async def _hear() -> Any:
    return json.loads(await asyncio.to_thread(sys.stdin.readline))


async def program(
    share: int,
    message_size: int,
    window: int,
    connections: int,
    packet: int,
    ack: int,
    *,
    receives: bool,
) -> None:
    """The other end: meets over standard input and output."""
    keep_buffers()  # as the program does
    made = [load("libdatachannel").make(offerer=True, packet=packet) for _ in range(connections)]
    _say([await _offer(connection) for connection in made])
    for connection, answer in zip(made, await _hear(), strict=True):
        own = sdp.read_own(answer, bytes(16), bytes(16), MAX_MESSAGE_SIZE)
        await connection.set_remote(own)
        await connection.add_candidates(sdp.read_own_candidates(answer))
    await asyncio.gather(*(connection.opened() for connection in made))
    _say("open")
    await _hear()
    began, cpu = time.perf_counter(), time.process_time()
    if receives:
        await asyncio.gather(*(_receive(each, share, ack) for each in made))
    else:
        await asyncio.gather(*(_send(each, share, message_size, window) for each in made))
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    _say({"seconds": seconds, "cpu": cpu, "memory": psutil.Process().memory_info().rss / 1e6})
    for connection in made:
        await connection.close()


async def _offer(connection: Connection) -> str:
    own = await connection.describe(bytes(16), bytes(16))
    candidates = [each async for each in connection.candidates()]
    return sdp.build(dataclasses.replace(own, candidates=tuple(candidates)))


async def _receive(connection: Connection, share: int, ack: int) -> None:
    got = told = 0
    await connection.control.send(b"0")
    while got < share:
        got += len(await connection.data.recv())
        if got - told >= ack or got >= share:
            told = got
            await connection.control.send(str(got).encode())


async def _send(connection: Connection, share: int, message_size: int, window: int) -> None:
    message = os.urandom(message_size)
    acknowledged = 0
    more = asyncio.Event()

    async def hear() -> None:
        nonlocal acknowledged
        while acknowledged < share:
            acknowledged = int(await connection.control.recv())
            more.set()

    hearing = asyncio.create_task(hear())
    sent = 0
    while sent < share:
        if sent - acknowledged > window - message_size:
            more.clear()
            await more.wait()
            continue
        await connection.data.send(message[: min(message_size, share - sent)])
        sent += message_size
    await hearing


class Runs(NamedTuple):
    """The results for one kind of browser."""

    bare: list[Result]
    real: list[Result]
    floor: list[Result]  # the primitives


WHOLE = {"to": whole_to_browser, "from": whole_from_browser, "between": whole_between}


def whole(kinds: list[Kind], size: int, rounds: int, direction: str) -> None:
    """Raw and whole in turns, and the ratios of their medians."""
    transfer = WHOLE[direction]
    with tempfile.TemporaryDirectory(prefix="handover-bench-") as folder:
        source = random_file(Path(folder) / "random.bin", size << 20)
        runs = {kind: Runs([], [], []) for kind in kinds}
        for _ in range(rounds):
            for kind, (bare, real, floor) in runs.items():
                if direction == "between":
                    bare.append(asyncio.run(raw_between(kind, size << 20)))
                else:
                    bare.append(asyncio.run(raw(kind, size << 20, sends=direction == "from")))
                real.append(asyncio.run(transfer(kind, source)))
                if direction == "to":
                    floor.append(asyncio.run(primitives(kind, size << 20)))
    for kind, (bare, real, floor) in runs.items():
        base = statistics.median(run.rate for run in bare)
        row(f"{kind}, raw", bare)
        row(f"{kind}, whole: {statistics.median(r.rate for r in real) / base:.2f} verified", real)
        saved = statistics.median(run.saved for run in real)
        if direction == "to":
            print(f"| {kind}, whole: {saved / base:.2f} saved | {saved:.1f} | | | |", flush=True)
            row(f"{kind}, primitives, one thread", floor)


def row(name: str, runs: list[Result]) -> None:
    """One line of the table."""
    rates = spread([run.rate for run in runs])
    cpu = " / ".join(f"{statistics.median([r.cpu[part] for r in runs]):.1f}" for part in PARTS)
    memory = f"{max(r.program_memory for r in runs):.0f} / {max(r.tab_memory for r in runs):.0f}"
    busy = f"{min(r.others for r in runs):.1f}-{max(r.others for r in runs):.1f}"
    print(f"| {name} | {rates} | {cpu} | {memory} | {busy} |", flush=True)


def main() -> None:
    """Measure and print; every option that takes several values is measured with each, in turns."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.browser", description=__doc__)
    parser.add_argument("--program", help=argparse.SUPPRESS)
    parser.add_argument("--direction", choices=WHOLE, default="to", help="the page")
    parser.add_argument("--browser", choices=KINDS, nargs="+", default=KINDS)
    parser.add_argument("--size", type=int, default=256, help="MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--whole", action="store_true", help="whole transfers beside the baseline")
    parser.add_argument("--message-size", type=int, nargs="+", default=[MAX_MESSAGE_SIZE])
    parser.add_argument("--ack", type=int, nargs="+", default=[MAX_ACK], help="bytes")
    parser.add_argument("--window", type=int, nargs="+", default=[WINDOW], help="bytes")
    parser.add_argument("--connections", type=int, nargs="+", default=[1])
    parser.add_argument("--packet", type=int, nargs="+", default=[SMALL_PACKET])
    parser.add_argument("--thread", choices=("worker", "page"), nargs="+", default=["worker"])
    options = parser.parse_args()
    sends = options.direction == "from"
    if options.program:
        asyncio.run(program(**json.loads(options.program)))
        return
    head = (
        f"| case | MB/s, median [range] | CPU s/GB {' / '.join(PARTS)} | peak MB | others' cores |"
    )
    if options.direction == "between" and not options.whole:
        parser.error("--direction between is measured with --whole")
    if options.whole:
        print(f"{head}\n|---|---|---|---|---|")
        whole(options.browser, options.size, options.rounds, options.direction)
        return
    cases = [
        (
            kind,
            {"message_size": m, "ack": a, "window": w, "connections": c, "packet": p, "worker": t},
        )
        for kind in options.browser
        for m in options.message_size
        for a in options.ack
        for w in options.window
        for c in options.connections
        for p in options.packet
        for t in [thread == "worker" for thread in options.thread]
    ]
    runs: list[list[Result]] = [[] for _ in cases]
    for _ in range(options.rounds):
        for (kind, how), done in zip(cases, runs, strict=True):
            done.append(asyncio.run(raw(kind, options.size << 20, sends=sends, **how)))
    print(f"{head}\n|---|---|---|---|---|")
    for (kind, how), done in zip(cases, runs, strict=True):
        row(f"{kind}, " + ", ".join(f"{k} {v}" for k, v in how.items()), done)


if __name__ == "__main__":
    main()
