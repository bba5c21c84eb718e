"""This process: run a transfer in it, to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ..api import (
    EXIT_CODES,
    EXIT_USAGE,
    HandoverError,
    Outcome,
    Question,
    QuestionDropped,
    Transfer,
)
from .terminal import Human, Terminal, fail, show_json

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8


def keep_buffers() -> None:
    """Let glibc keep freed message buffers instead of giving their pages back at once.

    A range is allocated several times on its way; new pages for each cost a tenth of the rate. For
    a program that owns its process, before it starts threads; where there is no glibc, nothing.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt  # malloc.h of glibc, mallopt(3)
        for option, value in ((M_MMAP_THRESHOLD, 32 << 20), (M_TRIM_THRESHOLD, 128 << 20)):
            mallopt(option, value)
        mallopt(M_ARENA_MAX, 1)


def raise_descriptors() -> None:
    """Let this process have as many descriptors as it may: lanes and files need few, but strangers
    can knock at the ports of its lanes."""
    # Windows has none, and macOS says more than it gives.
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class _Output(io.TextIOWrapper):
    """Standard output or error that never fails: whether anybody reads it decides no transfer."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().flush()


def _number_of(stream: io.TextIOBase) -> int | None:
    try:
        return stream.fileno()
    except (OSError, ValueError):  # it is no file
        return None


def steady_output() -> None:
    """Have output to a closed descriptor, a dead pipe, a full disk or a terminal that is gone go
    nowhere. A descriptor that is closed is opened, so that no socket or file takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest that is free
        stream = getattr(sys, name)
        if number and (stream is None or _number_of(stream) == number):
            encoding = getattr(stream, "encoding", "utf-8")
            raw = io.BufferedWriter(io.FileIO(number, "w", closefd=False))
            setattr(sys, name, _Output(raw, encoding, "backslashreplace", line_buffering=True))


def run(
    start: Callable[[bool], Transfer],
    role: str,
    *,
    as_json: bool,
    paths: Sequence[str] = (),
    again: Callable[[], None] | None = None,
) -> NoReturn:
    """Run a transfer until it has ended, and exit. `start` is told whether anybody can answer;
    `paths` is what is sent. `again` asks a person for the passphrase anew, where that was wrong."""
    keep_buffers()
    raise_descriptors()
    steady_output()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's; idle, they would still spin
    while True:
        outcome = asyncio.run(_follow(start, Human(role, paths), as_json))
        if outcome.code != "passphrase_wrong" or again is None:
            break
        again()
    code = EXIT_USAGE if outcome.code == "needs_answer" else EXIT_CODES[outcome.ending]
    sys.stdout.flush()
    sys.stderr.flush()
    # libdatachannel's threads may take seconds to wind down; everything of ours is on the disk.
    os._exit(code)


async def _follow(start: Callable[[bool], Transfer], human: Human, as_json: bool) -> Outcome:
    terminal = None if as_json else Terminal.open()
    try:
        transfer = start(terminal is not None)
    except HandoverError as error:
        fail(error, as_json)
    # Ctrl-C is a decision. Whatever else ends this process is a death that can be resumed.
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, transfer.cancel)
    asking: asyncio.Task[None] | None = None

    async def ask(question: Question) -> None:
        assert terminal is not None
        await transfer.answer(await terminal.ask(question))

    async for event in transfer:
        if isinstance(event, Question | QuestionDropped):
            if asking is not None:
                asking.cancel()
            asking = asyncio.create_task(ask(event)) if isinstance(event, Question) else None
        elif as_json:
            show_json(event.as_json())
        else:
            human(event)
    return await transfer.result()
