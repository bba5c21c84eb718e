"""The one voice of the command line: the only file that prints, asks or exits.

Results go to standard output (the link, `--json` lines), everything said to a person to standard
error, questions to the terminal itself, so that output can be piped.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import click

from ..api import (
    EXIT_CODES,
    EXIT_USAGE,
    BadLine,
    Completed,
    Detail,
    DigitsShown,
    Event,
    Failed,
    Failure,
    HandoverError,
    LinkMade,
    Listed,
    Offered,
    PeerMet,
    PolicyTold,
    Progressed,
    Question,
    StateChanged,
    Warned,
    find_link,
    os_detail,
    shown,
)
from .language import counted, day, language, number, quoted, size, words
from .pasted import ASK, LEAVE, Pasted

LINK_ASKED = 3  # times
QUIET = 0.2  # seconds without anything more, after which a paste is over
LISTED = 10  # names at once


def say(line: str = "") -> None:
    """Say a line to the person."""
    click.echo(line, err=True)


def warn(line: str) -> None:
    """A warning that nobody can miss; in colour on a terminal."""
    click.echo(click.style(line, fg="red", bold=True), err=True)


def show(line: str) -> None:
    """A line of the result. Exits where it cannot be printed."""
    try:
        click.echo(line)
    except BrokenPipeError:
        raise  # click knows what to do: whoever read it has seen enough
    except OSError as error:
        say(words("terminal", "output_failed", why=_why(error)))
        os._exit(1)  # else Python tries to print the rest


def _why(error: OSError) -> str:
    detail = os_detail(error)
    return detail.text_in(language()) if isinstance(detail, Detail) else detail


def show_table(rows: Sequence[tuple[str, str]], tell: Callable[[str], None] = show) -> None:
    """Rows of a label and its value."""
    width = max(12, *(len(label) for label, _ in rows))
    for label, value in rows:
        tell(f"{label:{width}} {value}")


def show_json(value: Any) -> None:
    """A `--json` line."""
    show(json.dumps(value))
    sys.stdout.flush()


def fail(error: HandoverError, as_json: bool = False) -> NoReturn:
    """Say a failure as its sentence, and exit with its code."""
    if as_json:
        show_json(Failed(error.ending, error.code, error.detail, None, ()).as_json())
    else:
        say(words("failure", error.code, detail=error.detail))
    code = EXIT_USAGE if error.code == "needs_answer" else EXIT_CODES[error.ending]
    raise SystemExit(code)


@contextlib.contextmanager
def told(as_json: bool = False) -> Iterator[None]:
    """Say a failure as its sentence and exit with its code."""
    try:
        yield
    except HandoverError as error:
        fail(error, as_json)


@contextlib.contextmanager
def whole(log: Path) -> Iterator[None]:
    """Say where a log's chain does not hold, and exit."""
    with told():
        try:
            yield
        except BadLine as bad:
            reason = words("receipt", "line", number=bad.number, reason=bad.reason)
            say(words("receipt", "audit_invalid", path=shown(str(log), 1024), reason=reason))
            raise SystemExit(1) from None


class Human:
    """Says on standard error what happens; the link alone goes to standard output."""

    def __init__(self, role: str, paths: Sequence[str] = ()) -> None:
        """`paths`: what is sent."""
        self._role, self._paths = role, paths
        self._bar: Any = None
        self._task: Any = None
        self._state = ""

    def __call__(self, event: Event) -> None:
        match event:
            case Listed():
                self._line(words("terminal", "listed", amount=_amount(event)))
            case LinkMade():
                self._link(event)
            case StateChanged():
                again = event.state == self._state  # it tries again and again: said once
                self._state = event.state
                if not again and not (event.state == "verifying" and self._role == "recipient"):
                    self._line(words("state", event.state))
            case PeerMet():
                peer = "sender" if self._role == "recipient" else "recipient"
                self._line(words("terminal", peer, name=quoted(event.label), known=_known(event)))
                self._line(words("terminal", "key", fingerprint=event.fingerprint))
            case PolicyTold():
                for line in _policy_lines(event):
                    self._line(line)
            case DigitsShown():
                self._line(words("terminal", "digits", digits=event.digits))
            case Offered():
                self._line(words("terminal", "offered", amount=_amount(event)))
                if event.purpose:
                    emergency = event.purpose == "emergency"
                    purpose = words("purpose", event.purpose)
                    self._line(words("terminal", "purpose", purpose=purpose), loud=emergency)
                if event.reason:
                    self._line(words("terminal", "offer_reason", reason=quoted(event.reason)))
                for name in event.names:
                    self._line(f"  {name}")
                if event.hidden:
                    self._line(words("terminal", "hidden", what=counted(event.hidden, "hidden")))
                    for name in event.hidden_names:
                        self._line(f"  {name}")
                    if rest := event.hidden - len(event.hidden_names):
                        self._line(f"  {counted(rest, 'more')}")
                if event.skipped:
                    self._line(words("terminal", "skipped_offer", what=_kinds(event.skipped)))
            case Warned(code="contact_changed"):
                self._line("")
                self._line(words("warning", event.code, detail=event.detail), loud=True)
                self._line("")
            case Warned():
                message = words("warning", event.code, detail=event.detail)
                note = "note_of" if event.path else "note"
                self._line(words("terminal", note, path=event.path, message=message))
            case Progressed():
                self._progress(event)
            case Completed():
                self._stop()
                say(event.message_in(language()))
                if event.folder is not None:
                    folder = shown(str(event.folder), 256)
                    say(words("terminal", "saved_in", folder=folder))
                for place in event.places[:LISTED]:
                    say(f"  {shown(place, 256)}")
                if rest := len(event.places[LISTED:]):
                    say(f"  {counted(rest, 'more')}")
                if event.skipped:
                    say(words("terminal", "skipped", what=_kinds(event.skipped)))
                say(words("terminal", "receipt", path=str(event.receipt)))
            case Failed():
                self._stop()
                say(words("failure", event.code, detail=event.detail))
                for path, why in event.reasons_in(language())[:LISTED]:
                    say(words("terminal", "reason", path=path, why=why))
                if len(event.failed) > LISTED:
                    say(words("terminal", "more", count=number(len(event.failed) - LISTED)))
                if event.skipped:
                    say(words("terminal", "skipped", what=_kinds(event.skipped)))
                if event.receipt is not None:
                    say(words("terminal", "receipt", path=str(event.receipt)))

    def _link(self, event: LinkMade) -> None:
        names = [Path(path).resolve().name or path for path in self._paths]
        if names:
            first = ", ".join(shown(name, 256) for name in names[:LISTED])
            if event.files is None or event.folders is None or event.size is None:
                say(words("terminal", "sending", names=first))
            else:
                amount = _amount(Listed(event.files, event.folders, event.size))
                say(words("terminal", "sending_amount", amount=amount, names=first))
        if rest := len(names[LISTED:]):
            say(f"  {counted(rest, 'more')}")
        if event.browser:
            self._code(event.link)
        for other in event.others:
            say(words("terminal", "other_link", link=other))
        say(words("terminal", "for_browser" if event.browser else "for_command_line"))
        say(words("terminal", "link"))
        say()
        click.echo(event.link)  # last, so that it is in sight
        say()

    def _code(self, link: str) -> None:
        """The link as a QR code, where it has room."""
        if not sys.stderr.isatty():
            return
        import segno

        code = segno.make(link, error="l")
        if code.symbol_size()[0] <= shutil.get_terminal_size().columns:
            code.terminal(out=sys.stderr, compact=True)

    def _line(self, line: str, loud: bool = False) -> None:
        if self._bar is not None:
            style = "red" if loud else None
            self._bar.console.print(line, style=style, markup=False, highlight=False)
        elif loud and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb":
            say(click.style(line, fg="red", bold=True))  # click leaves it plain in a file
        else:
            say(line)

    def _progress(self, event: Progressed) -> None:
        if self._bar is None:
            if not sys.stderr.isatty():
                return
            self._bar = _bar()
            self._bar.start()
            self._task = self._bar.add_task("", total=event.total)
        self._bar.update(self._task, completed=event.durable, description=_progress_line(event))

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _amount(event: Listed | Offered) -> str:
    """ "3 files in 1 folder, 12 MB"."""
    what = counted(event.files, "file")
    if event.folders:
        what = counted(event.folders, "in_folder", files=what)
    return words("terminal", "amount", what=what, size=size(event.size))


def _known(peer: PeerMet) -> str:
    """What this machine knows of a peer; it stands before what the peer says of itself."""
    if peer.changed:
        return words("terminal", "imitates", contact=peer.changed)
    if not peer.contact:
        return words("terminal", "new")
    known = "known_checked" if peer.verified else "known"
    return words("terminal", known, contact=peer.contact, date=shown(day(peer.since)))


def _policy_lines(policy: PolicyTold) -> list[str]:
    """What the server's operator asks, a sentence each."""
    lines = [words("policy", "operator", name=quoted(policy.operator))] if policy.operator else []
    if policy.max_expires is not None:
        lines.append(words("policy", "max_expires", time=_duration(policy.max_expires)))
    if policy.require is not None:
        lines.append(words("policy", policy.require))
    if policy.relay is not None:
        lines.append(words("policy", f"relay_{policy.relay}"))
    return lines


def _duration(seconds: int) -> str:
    """In the largest unit that divides it, of hours and minutes; else to the minute."""
    hours, rest = divmod(seconds, 3600)
    return counted(seconds // 60, "minute") if rest or not hours else counted(hours, "hour")


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.table import Column

    console = Console(stderr=True)
    whole = Column(no_wrap=True)  # where the line is too long, its words wrap and nothing else
    return Progress(
        BarColumn(console.width // 4, table_column=whole),
        TaskProgressColumn(table_column=whole),
        TimeRemainingColumn(table_column=whole),
        TextColumn("{task.description}", markup=False, table_column=Column()),
        console=console,
    )


def _progress_line(event: Progressed) -> str:
    """How much of it, how fast, by which way, and what holds it up."""
    kind = words("path", event.path)
    lanes = event.direct or event.webrtc
    way = words("terminal", "lanes", kind=kind, count=lanes) if lanes > 1 else kind
    if event.bottleneck:
        bottleneck = words("bottleneck", event.bottleneck)
        way = words("terminal", "limited", way=way, bottleneck=bottleneck)
    amount = words("terminal", "of", part=size(event.durable), whole=size(event.total))
    return f"{amount}  {words('terminal', 'per_second', size=size(event.rate))}  {way}"


class Terminal:
    """Questions on the controlling terminal, wherever standard input and output go."""

    def __init__(self, file: int) -> None:
        self._file = file

    @classmethod
    def open(cls) -> Terminal | None:
        """The terminal, or None when there is none."""
        try:
            return cls(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        except OSError:
            return None

    async def prompt(self, line: str) -> str:
        """One line that the person types."""
        self._write(line)
        return (await self._line()).strip()

    async def ask(self, question: Question) -> bool:
        """Yes or no; only a clear yes is one. Of someone who may be posing, nothing is a no."""
        asked = words("question", question.kind, digits=question.digits)
        choice = words("answer", "choice_no" if question.peer.changed else "choice")
        yes, no = (words("answer", one).split() for one in ("yes", "no"))
        while True:
            answer = (await self.prompt(f"{asked} {choice} ")).lower()
            if not answer and question.peer.changed:
                return False
            if answer in (*yes, *no):
                return answer in yes

    async def paste(self, line: str) -> str:
        """What the person pastes, however many lines, or types. Nothing of it is echoed, and none
        is left for whoever reads this terminal next. Raises `CancelledError`."""
        import termios

        kept = termios.tcgetattr(self._file)
        raw = termios.tcgetattr(self._file)
        raw[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG | termios.IEXTEN)
        pasted = Pasted()
        try:
            termios.tcsetattr(self._file, termios.TCSADRAIN, raw)  # what was typed ahead is kept
            self._write(ASK + line)
            while not pasted.cancelled:
                try:
                    async with asyncio.timeout(QUIET if pasted.ended else None):
                        data = await self._read()
                except TimeoutError:
                    return pasted.text
                if not data:  # the terminal is gone
                    break
                pasted.take(data)
            raise asyncio.CancelledError
        finally:
            with contextlib.suppress(OSError, termios.error):  # the terminal is gone
                termios.tcsetattr(self._file, termios.TCSAFLUSH, kept)
                self._write(f"{LEAVE}\n")

    def _write(self, line: str) -> None:
        os.write(self._file, line.encode())

    async def _line(self) -> str:
        data = await self._read()
        if not data:  # the terminal is gone
            return "n"
        return data.decode(errors="replace")

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        got: asyncio.Future[bytes] = loop.create_future()

        def readable() -> None:
            if not got.done():
                got.set_result(os.read(self._file, 1024))

        loop.add_reader(self._file, readable)
        try:
            return await got
        finally:
            loop.remove_reader(self._file)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._file)


def _kinds(skipped: Mapping[Any, int]) -> str:
    """How many of each kind were left out."""
    return ", ".join(counted(count, kind) for kind, count in skipped.items())


def has_terminal() -> bool:
    """Whether somebody can be asked."""
    terminal = Terminal.open()
    if terminal is not None:
        terminal.close()
    return terminal is not None


def _nobody(asked: str, as_json: bool = False) -> NoReturn:
    """Fail because nobody can answer what is asked for."""
    fail(Failure("needs_answer", Detail(asked)), as_json)


def read_passphrase(wanted: bool, file: Path | None, as_json: bool, *, twice: bool) -> str | None:
    """From a file, the environment or a prompt; never from an argument. Raises `UsageError` for an
    empty one."""
    if file is not None:
        try:
            return _not_empty(text_of(file.read_bytes()).rstrip(), str(file))
        except (OSError, UnicodeDecodeError):
            fail(Failure("not_readable", shown(str(file))), as_json)
    if not wanted:
        return None
    named = os.environ.get("HANDOVER_PASSPHRASE")
    if named is not None:
        return _not_empty(named, "HANDOVER_PASSPHRASE")
    if as_json or not has_terminal():
        _nobody("passphrase", as_json)
    passphrase: str = click.prompt(
        words("terminal", "passphrase"), hide_input=True, confirmation_prompt=twice, err=True
    )
    return passphrase


def read_token(file: Path | None, as_json: bool) -> str:
    """From a file, or the environment; "" for none. Never from an argument."""
    if file is None:
        return os.environ.get("HANDOVER_TOKEN", "").strip()
    try:
        return text_of(file.read_bytes()).strip()
    except (OSError, UnicodeDecodeError):
        fail(Failure("not_readable", shown(str(file))), as_json)


def text_of(data: bytes) -> str:
    """A text as editors save it: UTF-8 or UTF-16, with a byte order mark or without. Raises
    `UnicodeDecodeError`."""
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return data.decode("utf-16" if utf16 else "utf-8-sig")


def _not_empty(passphrase: str, where: str) -> str:
    if not passphrase.strip():
        raise click.UsageError(words("usage", "passphrase_empty", what=shown(where)))
    return passphrase


def ask_link() -> str:
    """Ask for the link on the terminal, three times at most; Ctrl-C ends the program."""
    terminal = Terminal.open()
    if terminal is None:
        _nobody("link")

    async def pasted() -> str:
        task = asyncio.current_task()
        assert task is not None
        for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # the terminal is put right
            asyncio.get_running_loop().add_signal_handler(one, task.cancel)
        return await terminal.paste(words("terminal", "link_prompt"))

    try:
        for asked in range(1, LINK_ASKED + 1):
            try:
                return str(find_link(asyncio.run(pasted())))
            except Failure as error:
                if asked == LINK_ASKED:
                    fail(error)
                say(words("failure", error.code, detail=error.detail))
        raise AssertionError
    except asyncio.CancelledError:
        say()
        fail(Failure("cancelled"))
    finally:
        terminal.close()
