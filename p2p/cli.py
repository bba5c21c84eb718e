"""The command line: the only place that prints, asks or exits.

Results go to standard output (the link, `--json` lines), everything said to a person to standard
error, questions to the terminal itself, so that output can be piped.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import re
import signal
import ssl
import sys
from collections.abc import Coroutine, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import click
from click.core import ParameterSource

from .addresses import reachable
from .events import (
    Complete,
    DigitsShown,
    Error,
    Event,
    LinkMade,
    Offer,
    PeerMet,
    Progress,
    Question,
    StateChanged,
    Warned,
)
from .files import staging
from .home import Home
from .journal import Journal, Journals, SenderRecord
from .lanes import ENGINES, keep_buffers
from .protocol import audit
from .protocol import receipt as receipts
from .protocol.codec import encode_base64url
from .protocol.errors import EXIT_CODES, EXIT_USAGE, Ending, Failure, HandoverError
from .protocol.paths import shown
from .running import MIN_LIMIT, SOFTWARE, Options, Outcome
from .sending import DEFAULT_EXPIRES, Tls

if TYPE_CHECKING:
    from signaling.certificates import Authority, Served

EXIT_TABLE = "\n".join(
    [
        "\b",
        "Exit codes:",
        *(f"  {code}  {ending.value}" for ending, code in EXIT_CODES.items()),
        f"  {EXIT_USAGE}  wrong usage, or a question that nobody can answer",
    ]
)
RECENT = 10  # ended transfers that are listed
_DURATION = re.compile(r"([1-9][0-9]{0,6})([smh])")
_STATES = {
    "waiting": "Waiting for the recipient. Keep this running.",
    "server_lost": "The signaling server is gone; trying again.",
    "opened": "The link was opened; connecting.",
    "connected": "Connected. Waiting for the sender.",
    "admitted": "Let in.",
    "offered": "Reading the list of files.",
    "accepted": "Accepted.",
    "silent": "Nothing heard from the other side for a while; still waiting.",
    "lost": "The connection was lost; trying again until it is back. Nothing is lost.",
    "paused": "The recipient's disk takes no more; going on as soon as it does. Nothing is lost.",
    "sender_paused": "The sender's disk takes no more; going on as soon as it does. "
    "Nothing is lost.",
    "checking": "Checking what is on the disk already.",
    "resumed": "The other side is back.",
    "verifying": "All sent; verifying what is on the disk.",
    "signing": "Verified; signing the receipt.",
}


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


def _many(count: int, word: str) -> str:
    plural = word[:-1] + "ies" if word.endswith("y") else word + "s"
    return f"{count:,} {word if count == 1 else plural}"


def _say(text: str = "") -> None:
    click.echo(text, err=True)


def _fail(error: HandoverError, as_json: bool = False) -> NoReturn:
    if as_json:
        _print_json(Error(error.ending, error.code, error.sentence, None, ()))
    else:
        _say(error.sentence)
    code = EXIT_USAGE if error.code == "needs_answer" else EXIT_CODES[error.ending]
    raise SystemExit(code)


# --- showing ------------------------------------------------------------------------------------


BOTTLENECKS = {
    "disk": "this side's disk",
    "limit": "--limit",
    "other_disk": "the other side's disk",
    "other_limit": "the other side's --limit",
    "network": "the network",
    "other_side": "the other side",
}


class _Human:
    """Says on standard error what happens; the link alone goes to standard output."""

    def __init__(self, role: str) -> None:
        self._role = role
        self._bar: Any = None
        self._task: Any = None
        self._state = ""

    def __call__(self, event: Event) -> None:
        match event:
            case LinkMade():
                self._link(event)
            case StateChanged():
                again = event.state == self._state  # it tries again and again: said once
                self._state = event.state
                if not again and not (event.state == "verifying" and self._role == "recipient"):
                    self._line(_STATES[event.state])
            case PeerMet():
                pinned = f"known as {shown(event.contact)}" if event.contact else "new"
                checked = ", checked before" if event.verified else ""
                who = "From" if self._role == "recipient" else "Recipient"
                self._line(f"{who}: {event.label or '(no name)'} ({pinned}{checked})")
                self._line(f"  key {event.fingerprint}")
            case DigitsShown():
                self._line(f"  check digits {event.digits}: the same on both sides?")
            case Offer():
                folders = f" in {_many(event.folders, 'folder')}" if event.folders else ""
                count = _many(event.files, "file")
                self._line(f"Offered: {count}{folders}, {_size(event.size)}")
                for name in event.names:
                    self._line(f"  {name}")
            case Warned():
                self._line(f"Note: {event.path + ': ' if event.path else ''}{event.message}")
            case Progress():
                self._progress(event)
            case Complete():
                self._stop()
                _say(event.message)
                for place in event.places:
                    _say(f"  {shown(place, 256)}")
                _say(f"Receipt: {event.receipt}")
            case Error():
                self._stop()
                _say(event.message)
                for path, why in event.failed[:20]:
                    _say(f"  {path}: {why}")
                if len(event.failed) > 20:
                    _say(f"  and {len(event.failed) - 20:,} more (handover receipt show)")
                if event.receipt is not None:
                    _say(f"Receipt: {event.receipt}")

    def _link(self, event: LinkMade) -> None:
        _say("Give this link to the recipient; it is the key to the files:")
        _say()
        click.echo(event.link)
        _say()
        if sys.stderr.isatty():
            import segno

            segno.make(event.link, error="l").terminal(out=sys.stderr, compact=True)
        for other in event.others:
            _say(f"The same by another address of this machine: {other}")
        if event.browser:
            _say("It works in a browser and on the command line.")
        else:
            _say("It works on the command line: handover receive (browsers need https).")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            _say(text)

    def _progress(self, event: Progress) -> None:
        if self._bar is None:
            if not sys.stderr.isatty():
                return
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                DownloadColumn,
                TaskProgressColumn,
                TextColumn,
                TimeRemainingColumn,
                TransferSpeedColumn,
            )
            from rich.progress import Progress as Bar

            self._bar = Bar(
                BarColumn(),
                TaskProgressColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}", markup=False),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=event.total)
        path = "direct" if event.direct else "WebRTC"
        lanes = event.direct or event.webrtc
        how = f"{path} x{lanes}" if lanes > 1 else path
        if event.bottleneck:
            how += f", held up by {BOTTLENECKS[event.bottleneck]}"
        self._bar.update(self._task, completed=event.durable, description=how)

    def _stop(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _print_json(event: Event) -> None:
    click.echo(json.dumps(event.as_json()))
    sys.stdout.flush()


# --- asking -------------------------------------------------------------------------------------


class _Terminal:
    """Questions on the controlling terminal, wherever standard input and output go."""

    def __init__(self, file: int) -> None:
        self._file = file

    @classmethod
    def open(cls) -> _Terminal | None:
        """The terminal, or None when there is none."""
        try:
            return cls(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
        except OSError:
            return None

    async def prompt(self, text: str) -> str:
        """One line that the person types."""
        self._write(text)
        return (await self._line()).strip()

    async def ask(self, question: Question) -> bool:
        """Yes or no; only a clear yes is one."""
        text = {
            "admit": "Let this recipient have the files?",
            "digits": f"Compare by voice. Are the check digits {question.digits} on both sides?",
            "accept": "Receive these files?",
        }[question.kind]
        while True:
            answer = (await self.prompt(f"{text} [y/n] ")).lower()
            if answer in ("y", "yes", "n", "no"):
                return answer.startswith("y")

    def _write(self, text: str) -> None:
        os.write(self._file, text.encode())

    async def _line(self) -> str:
        loop = asyncio.get_running_loop()
        got: asyncio.Future[bytes] = loop.create_future()

        def readable() -> None:
            if not got.done():
                got.set_result(os.read(self._file, 1024))

        loop.add_reader(self._file, readable)
        try:
            data = await got
        finally:
            loop.remove_reader(self._file)
        if not data:  # the terminal is gone
            return "n"
        return data.decode(errors="replace")


# --- options ------------------------------------------------------------------------------------


def _passphrase(wanted: bool, file: Path | None, as_json: bool, *, twice: bool) -> str | None:
    """From a file, the environment or a prompt; never from an argument."""
    if file is not None:
        try:
            return file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            _fail(Failure("not_readable", shown(str(file))), as_json)
    if not wanted:
        return None
    named = os.environ.get("HANDOVER_PASSPHRASE")
    if named is not None:
        return named
    if as_json or not _has_terminal():
        _fail(Failure("needs_answer", "the passphrase"), as_json)
    text: str = click.prompt(
        "Passphrase", hide_input=True, confirmation_prompt=twice, err=True, type=str
    )
    return text


def _prompt(text: str, what: str) -> str:
    terminal = _Terminal.open()
    if terminal is None:
        _fail(Failure("needs_answer", what))

    async def line() -> str:
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, task.cancel)
        return await terminal.prompt(text)

    try:
        return asyncio.run(line())
    except asyncio.CancelledError:
        _say()
        _fail(Failure("cancelled"))


def _has_terminal() -> bool:
    terminal = _Terminal.open()
    if terminal is not None:
        os.close(terminal._file)
    return terminal is not None


class _Duration(click.ParamType[Any]):
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = _DURATION.fullmatch(str(value))
        seconds = int(found[1]) * {"s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
        if not 0 < seconds <= DEFAULT_EXPIRES:
            self.fail("write 90s, 30m or 24h; 24h is the longest", param, ctx)
        return float(seconds)


class _Address(click.ParamType[Any]):
    name = "host:port"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not port.isdigit() or int(port) > 65535:
            self.fail("write HOST:PORT, [IPv6]:PORT or :PORT", param, ctx)
        return host.strip("[]"), int(port)


class _Rate(click.ParamType[float]):
    name = "RATE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([kMG]?)(?:B(?:/s)?)?", str(value))
        rate = float(found[1]) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[found[2]] if found else 0
        if rate < MIN_LIMIT:
            self.fail("write bytes a second, as 500k, 20M or 1.5G; at least 10k", param, ctx)
        return rate


class _Ports(click.ParamType[tuple[int, int]]):
    name = "PORT[-PORT]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        first, _, last = str(value).partition("-")
        last = last or first
        if not (first.isdigit() and last.isdigit() and 1024 <= int(first) <= int(last) <= 65535):
            self.fail("write PORT or FIRST-LAST, from 1024 to 65535", param, ctx)
        return int(first), int(last)


@dataclass(frozen=True)
class _Common:
    """The options that every transfer takes."""

    as_json: bool
    engine: Any
    auto: bool
    verify: bool
    passphrase_file: Path | None
    limit: float | None
    no_compress: bool
    no_direct: bool
    direct_ports: tuple[int, int] | None

    def options(self, role: str, passphrase: str | None) -> Options:
        """What the transfer itself is told."""
        terminal = None if self.as_json else _Terminal.open()
        return Options(
            home=Home(),
            engine=self.engine,
            passphrase=passphrase,
            verify=self.verify,
            auto=self.auto,
            limit=self.limit,
            compress=not self.no_compress,
            direct=not self.no_direct,
            direct_ports=self.direct_ports or (0, 0),
            watch=_print_json if self.as_json else _Human(role),
            ask=terminal.ask if terminal is not None else None,
        )


COMMON = {field.name for field in fields(_Common)}


def _common(command: Any) -> Any:
    """Give a command these options, as one `common`."""

    @functools.wraps(command)
    def gathered(**given: Any) -> Any:
        common = _Common(**{name: given.pop(name) for name in COMMON})
        return command(common=common, **given)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="One JSON object per line."),
        click.option("--engine", type=click.Choice(ENGINES), help="WebRTC engine."),
        click.option("--auto", is_flag=True, help="Ask nothing: for unattended machines."),
        click.option("--verify", is_flag=True, help="Both must confirm the check digits."),
        click.option(
            "--passphrase-file",
            type=click.Path(path_type=Path),
            help="Take the passphrase from this file.",
        ),
        click.option("--limit", type=_Rate(), help="Bytes a second, as 500k or 20M."),
        click.option("--no-compress", is_flag=True, help="Send everything as it is."),
        click.option(
            "--no-direct",
            is_flag=True,
            envvar="HANDOVER_NO_DIRECT",
            help="WebRTC only: no direct TLS connections beside it.",
        ),
        click.option(
            "--direct-ports", type=_Ports(), help="TCP ports to listen on for direct connections."
        ),
    ):
        gathered = option(gathered)
    return gathered


def _tls_files(command: Any) -> Any:
    for name, text in (("key", "Its private key, PEM."), ("cert", "Certificate chain, PEM.")):
        command = click.option(f"--tls-{name}", type=click.Path(path_type=Path), help=text)(command)
    return command


def _names(command: Any) -> Any:
    return click.option(
        "--name", "names", multiple=True, help="A further name or address of this machine."
    )(command)


def _from_files(certificate: Path | None, key: Path | None) -> Served | None:
    from signaling.certificates import from_files

    if certificate is None and key is None:
        return None
    if certificate is None or key is None:
        raise click.UsageError("--tls-cert and --tls-key go together")
    try:
        return from_files(certificate, key)
    except (ssl.SSLError, ValueError):  # OpenSSL's reasons help nobody
        raise Failure("certificate_unusable", "damaged, or not a pair") from None
    except OSError as error:
        reason = (error.strerror or "it cannot be read").lower()
        raise Failure("certificate_unusable", reason) from None


@contextlib.contextmanager
def _authority_told() -> Iterator[None]:
    from signaling.certificates import BadName, Unusable

    try:
        yield
    except BadName as error:
        raise Failure("host_invalid", shown(str(error)) or "Nothing") from None
    except Unusable:
        raise Failure("local_ca_unusable", str(Home().local_ca)) from None
    except OSError as error:
        raise Failure("home_unwritable", (error.strerror or "the disk fails").lower()) from None


def _authority(names: Sequence[str]) -> Authority:
    """The local certificate authority, made where there is none. Raises `Failure`, also when it
    was made without one of these names."""
    from signaling import certificates

    with _authority_told():
        known = [*certificates.own_names(), *names]
        authority = certificates.open_authority(Home().local_ca, known, reachable())
        for name in names:
            if not authority.permits(name):
                raise Failure("local_ca_uncovered", shown(name))
        return authority


def _issue(authority: Authority, names: Sequence[str]) -> Served:
    """A server certificate for this machine and these names, those not covered left out."""
    from signaling import certificates

    with _authority_told():
        return authority.issue([*certificates.own_names(), *names], reachable())


def _left_out(served: Served) -> None:
    for host in served.left_out:
        _say(f"Note: the local certificate authority was not made for {shown(host)}.")


def _run(work: Coroutine[Any, Any, Outcome]) -> NoReturn:
    keep_buffers()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's; idle, they would still spin

    async def main() -> int:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        # Ctrl-C is meant. Whatever else ends this process is a death that can be resumed.
        loop.add_signal_handler(signal.SIGINT, task.cancel)
        try:
            outcome = await task
        except asyncio.CancelledError:
            return EXIT_CODES[Ending.ABORTED]
        return EXIT_USAGE if outcome.code == "needs_answer" else EXIT_CODES[outcome.ending]

    code = asyncio.run(main())
    sys.stdout.flush()
    sys.stderr.flush()
    # libdatachannel's threads may take seconds to wind down; everything of ours is on the disk.
    os._exit(code)


# --- commands -----------------------------------------------------------------------------------


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, epilog=EXIT_TABLE)
@click.version_option(SOFTWARE.split("/")[1], prog_name="handover")
def main() -> None:
    """Send files directly to someone, encrypted from end to end, with a receipt both sign."""
    logging.basicConfig(level=os.environ.get("HANDOVER_LOG", "CRITICAL").upper())


@main.command()
@click.argument("paths", nargs=-1)
@click.option("--resume", "resumed", metavar="ID", help="Go on with an unfinished transfer.")
@click.option("--server", envvar="HANDOVER_SERVER", help="Signaling server, e.g. https://HOST.")
@click.option("--listen", type=_Address(), default=":0", help="Where to serve without --server.")
@click.option("--address", help="The address of this machine to put into the link.")
@click.option("--expires", type=_Duration(), default="24h", help="How long the link is good.")
@click.option("--to", metavar="CONTACT", help="Only this contact can receive.")
@click.option("--passphrase", is_flag=True, help="Ask for a passphrase that is needed as well.")
@click.option("--follow", is_flag=True, help="Follow symbolic links, inside the folder only.")
@click.option(
    "--local-ca/--no-local-ca",
    default=None,
    help="Serve https by this machine's own certificate authority; the default once there is one.",
)
@_tls_files
@_common
@click.pass_context
def send(
    context: click.Context,
    paths: tuple[str, ...],
    resumed: str | None,
    server: str | None,
    listen: tuple[str, int],
    address: str | None,
    expires: float,
    to: str | None,
    passphrase: bool,
    follow: bool,
    local_ca: bool | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    common: _Common,
) -> None:
    """Send files and folders; prints a link for the recipient.

    A passphrase is asked for, or read from --passphrase-file or HANDOVER_PASSPHRASE; it is never an
    argument, because arguments are visible to other users of this machine.
    """
    from .sending import send as transfer

    if resumed is not None:
        if paths:
            raise click.UsageError("--resume sends what it began with: name no files")
        kept = COMMON
        for one in context.command.params:
            name = str(one.name)
            said = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
            if said and name not in {"paths", "resumed", *kept}:
                raise click.UsageError(f"--resume goes on as it was begun: leave out {one.opts[0]}")
        again = {name: context.params[name] for name in kept}
        context.invoke(resume_transfer, wanted=resumed, **again)
        return
    if not paths:
        raise click.UsageError("name the files and folders to send")
    wanted = passphrase or "HANDOVER_PASSPHRASE" in os.environ
    secret = _passphrase(wanted, common.passphrase_file, common.as_json, twice=True)
    if server and (local_ca or tls_cert or tls_key):
        raise click.UsageError(
            "--local-ca, --tls-cert and --tls-key are for sending without --server"
        )
    with _told(common.as_json):
        options = common.options("sender", secret)
        Journals(options.home).tidy()
        served = None if server else _from_files(tls_cert, tls_key)
        if local_ca and served:
            raise click.UsageError("--local-ca and --tls-cert exclude each other")
        names = [address] if address else []
        if local_ca:
            served = _issue(_authority(names), names)
        elif local_ca is None and not (server or served) and options.home.local_ca.exists():
            local_ca, served = True, _issue(_authority([]), names)
        if local_ca and served and not common.as_json:
            _say("A browser needs the local certificate authority: handover local-ca show.")
            _left_out(served)
        tls = None
        if served:
            kind: Literal["local-ca", "files"] = "local-ca" if local_ca else "files"
            pair = str(tls_cert or ""), str(tls_key or "")
            tls = Tls(served.context, served.hosts, kind, *pair)
    _run(
        transfer(
            paths,
            options,
            server=server or None,
            listen=listen,
            address=address,
            expires=expires,
            to=to,
            follow=follow,
            tls=tls,
        )
    )


@main.command()
@click.argument("link", required=False)
@click.option(
    "--output", "-o", type=click.Path(path_type=Path), default=".", help="Folder to receive into."
)
@_common
def receive(
    link: str | None,
    output: Path,
    common: _Common,
) -> None:
    """Receive what a link offers.

    The link is best pasted when asked, or given in HANDOVER_LINK or on standard input: as an
    argument it is visible to other users of this machine. Nothing is overwritten.
    """
    from .protocol.link import parse_link
    from .receiving import receive as transfer

    if link is None:
        link = os.environ.get("HANDOVER_LINK")
    if link is None and not sys.stdin.isatty():
        link = sys.stdin.readline()
    if link is None:
        link = _prompt("Link: ", "the link")
    secret = None
    with contextlib.suppress(HandoverError):  # told by the transfer itself, as its last event
        if parse_link(link).passphrase:
            secret = _passphrase(True, common.passphrase_file, common.as_json, twice=False)
    with _told(common.as_json):
        options = common.options("recipient", secret)
        Journals(options.home).tidy()
    _run(transfer(link, options, output=output))


@main.command("resume")
@click.argument("wanted", metavar="ID", required=False)
@_common
def resume_transfer(
    wanted: str | None,
    common: _Common,
) -> None:
    """Go on with an unfinished transfer; without ID with the only one, or list them."""
    from .protocol.link import parse_link
    from .receiving import receive as transfer
    from .sending import resume

    with _told(common.as_json):
        unfinished = list(Journals(Home()))
    if wanted is None and len(unfinished) == 1:
        wanted = unfinished[0].short_id
    if wanted is None:
        _list_unfinished(unfinished, common.as_json)
        if unfinished:
            _say("Say which: handover resume ID.")
            raise SystemExit(EXIT_USAGE)
        return
    with _told(common.as_json):
        journal = Journals(Home()).find(wanted)
        record = journal.record
        if not journal.hold():
            raise Failure("transfer_running", journal.short_id)
        if journal.damaged:
            raise Failure("journal_damaged", journal.short_id)
        secret = None
        if parse_link(record.link).passphrase:
            secret = _passphrase(True, common.passphrase_file, common.as_json, twice=False)
        options = common.options(record.role, secret)
        if not isinstance(record, SenderRecord):
            journal.release()
            _run(transfer(record.link, options, output=Path()))
        tls = None
        if record.tls == "local-ca":
            served = _issue(_authority([]), [record.address] if record.address else [])
            tls = Tls(served.context, served.hosts, "local-ca")
        elif record.tls == "files":
            certificate, key = os.fsdecode(record.certificate), os.fsdecode(record.key)
            chain = _from_files(Path(certificate), Path(key))
            assert chain is not None
            tls = Tls(chain.context, chain.hosts, "files", certificate, key)
        _run(resume(journal, options, tls=tls))


@main.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
@click.pass_context
def transfers(context: click.Context, as_json: bool) -> None:
    """Unfinished transfers, and the last that ended."""
    if context.invoked_subcommand is not None:
        return
    with _told(as_json):
        home = Home()
        journals = Journals(home)
        journals.tidy()
        _list_unfinished(list(journals), as_json)
        if not as_json:
            for one in home.recent_audit("transfer", RECENT):
                size = _size(one.get("bytes", 0))
                click.echo(f"{one['time'][:19]}  {one['role']:9}  {one['ending']:12}  {size}")


@transfers.command("discard")
@click.argument("wanted", metavar="ID")
def transfers_discard(wanted: str) -> None:
    """Erase what has arrived of a transfer, and forget it."""
    with _told():
        home = Home()
        journal = Journals(home).find(wanted)
        journal.erase(home)
    if not journal.record.role:
        parts = shown(staging(Path(), journal.record.transfer_id).name)
        _say(f"Forgotten. If files were arriving, remove the folder {parts} where they did.")
    else:
        _say("Erased.")


def _list_unfinished(unfinished: Sequence[Journal], as_json: bool) -> None:
    for one in unfinished:
        idle = "damaged" if one.damaged else "unfinished"
        record, state = one.record, "running" if one.running else idle
        if as_json:
            click.echo(
                json.dumps(
                    {
                        "id": record.transfer_id.hex(),
                        "role": record.role,
                        "state": state,
                        "peer": record.label,
                        "began": record.began,
                        "durable": record.durable,
                        "total": record.total,
                    }
                )
            )
        else:
            who = record.label or "(nobody yet)"
            way = {"sender": "to", "recipient": "from"}.get(record.role, "to or from")
            size = f"{_size(record.durable)} of {_size(record.total)}"
            began = record.began[:19] or "-"
            click.echo(f"{one.short_id}  {began:19}  {state:10}  {way} {shown(who, 64)}, {size}")
    if not unfinished and not as_json:
        _say("Nothing is unfinished.")


@main.command()
@click.option("--listen", type=_Address(), default=":8080", help="HOST:PORT; [::] by default.")
@_tls_files
@click.option("--local-ca", is_flag=True, help="https by this machine's own certificate authority.")
@_names
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
)
def serve(
    listen: tuple[str, int],
    tls_cert: Path | None,
    tls_key: Path | None,
    local_ca: bool,
    names: tuple[str, ...],
    log_level: str,
) -> None:
    """Run the signaling server on its own."""
    from signaling.app import Server

    logging.basicConfig(
        level=log_level.upper(), force=True, format="%(asctime)s %(levelname)s %(message)s"
    )
    if local_ca and (tls_cert or tls_key):
        raise click.UsageError("--local-ca and --tls-cert exclude each other")
    if names and not local_ca:
        raise click.UsageError("--name goes with --local-ca")
    with _told():
        served = _from_files(tls_cert, tls_key)
        if local_ca:
            authority = _authority(names)
            served = _issue(authority, names)
            for line in _authority_lines(authority):
                _say(line)
            _left_out(served)
    tls = served.context if served else None

    async def run() -> None:
        server = Server()
        try:
            await server.start(*listen, tls)
        except OSError as error:
            raise Failure("server_unreachable", error.strerror or "cannot listen") from None
        scheme = "https" if tls else "http"
        _say(f"Serving on port {server.port} ({scheme}). Ctrl-C stops it.")
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
        await server.stop()

    with _told():
        asyncio.run(run())


@contextlib.contextmanager
def _told(as_json: bool = False) -> Iterator[None]:
    """Say a failure as its sentence and exit with its code."""
    try:
        yield
    except HandoverError as error:
        _fail(error, as_json)


def _authority_lines(authority: Authority) -> list[str]:
    return [
        f"certificate  {authority.path}",
        f"SHA-256      {authority.fingerprint}",
        f"valid        {authority.valid[0]:%Y-%m-%d} to {authority.valid[1]:%Y-%m-%d}",
        f"for          {', '.join(authority.constraints)}, and nothing else",
        "IT has to install this certificate once, as a trusted root, on every computer whose "
        "browser is to use this machine's server; the command line needs none of it.",
    ]


@main.group("local-ca")
def local_ca_group() -> None:
    """This machine's own certificate authority: https where there is no public name."""


@local_ca_group.command("show")
@_names
@click.option("--export", type=click.Path(path_type=Path), help="Copy the certificate there.")
def local_ca_show(names: tuple[str, ...], export: Path | None) -> None:
    """Show certificate, fingerprint and validity; makes the authority where there is none."""
    with _told():
        authority = _authority(names)
        if export is not None:
            try:
                with open(export, "xb") as file:
                    file.write(authority.path.read_bytes())
            except OSError as error:
                raise Failure("not_writable", (error.strerror or "").lower()) from None
    for line in _authority_lines(authority):
        click.echo(line)


@main.command("verify-web")
@click.argument("url")
@click.option("--ca", type=click.Path(path_type=Path), help="Trust this certificate (PEM) as well.")
def verify_web(url: str, ca: Path | None) -> None:
    """Compare the page a server gives browsers with the one this version ships.

    Exit code 0 only when every file and every security header is the same.
    """
    from signaling import pages

    from .verify_web import compare

    with _told():
        shipped = pages.shipped()
        if not shipped:
            raise Failure("no_web_client")
        found = asyncio.run(compare(url, shipped, pages.client_headers, ca))
    for one in found:
        click.echo(f"{one.verdict:12} {one.path}{f' ({one.detail})' if one.detail else ''}")
    if any(one.verdict != "same" for one in found):
        click.echo(
            "This server does not give browsers the web client of this version: it may be another "
            "version's or an altered one, so receive on the command line until whoever runs it has "
            "explained it. What others are given, this cannot tell."
        )
        raise SystemExit(1)
    click.echo(
        f"This server just gave this computer exactly the web client of this version, "
        f"{_many(len(found), 'file')}; that does not prove that others are given the same."
    )


@main.group()
def identity() -> None:
    """This machine's key and label."""


@identity.command("show")
def identity_show() -> None:
    """Show label, fingerprint and key id."""
    with _told():
        own = Home().identity()
    click.echo(f"label        {own.label}")
    click.echo(f"fingerprint  {receipts.fingerprint(own.public)}")
    click.echo(f"key id       {receipts.thumbprint(own.public)}")


@identity.command("set-label")
@click.argument("label")
def identity_set_label(label: str) -> None:
    """Set the name that others see, e.g. "Radiology, St. Mary"."""
    with _told():
        click.echo(f"label        {Home().set_label(label).label}")


@main.group()
def contacts() -> None:
    """Peers that were met before; a known name with another key is blocked."""


@contacts.command("list")
def contacts_list() -> None:
    """List contacts: name, fingerprint, first met, whether digits were compared."""
    with _told():
        for one in Home().contacts().values():
            checked = "checked" if one.verified else "not checked"
            print_name = receipts.fingerprint(one.identity)
            click.echo(f"{shown(one.name)}\t{print_name}\t{one.first_met}\t{checked}")


@contacts.command("rename")
@click.argument("name")
@click.argument("new")
def contacts_rename(name: str, new: str) -> None:
    """Give a contact another name."""
    with _told():
        Home().rename_contact(name, new)


@contacts.command("remove")
@click.argument("name")
def contacts_remove(name: str) -> None:
    """Forget a contact and its key."""
    with _told():
        Home().remove_contact(name)


@main.group()
def receipt() -> None:
    """Receipts: what was sent, by whom, to whom, and that it arrived unaltered."""


def _read_receipt(file: Path) -> receipts.Receipt:
    try:
        return receipts.verify(file.read_bytes())
    except OSError:
        _fail(Failure("not_readable", shown(str(file))))
    except receipts.BadReceipt as reason:
        _say(f"This receipt does not hold: {reason}. Do not rely on it.")
        raise SystemExit(1) from None


@receipt.command("show")
@click.argument("file", type=click.Path(path_type=Path))
def receipt_show(file: Path) -> None:
    """Show what a receipt says, and the names where this machine knows them."""
    found = _read_receipt(file)
    for line in _receipt_lines(found):
        click.echo(line)
    with contextlib.suppress(Failure):
        manifest, results, _ = Home().annex(found.payload["transfer_id"])
        click.echo("entries (from this machine's annex, not part of the receipt):")
        failures = dict(results.failures())
        from .protocol.manifest import STATUS_TEXTS

        for index, entry in enumerate(manifest.entries):
            digest = results[index][1].hex() if entry.kind == "file" else ""
            status = STATUS_TEXTS[failures[index]] if index in failures else digest
            click.echo(f"  {shown(entry.path, 1024)}  {entry.size}  {status}")


def _receipt_lines(found: receipts.Receipt) -> list[str]:
    payload = found.payload
    content, times, security = payload["content"], payload["times"], payload["security"]
    lines = [
        f"transfer     {encode_base64url(payload['transfer_id'])}",
        f"outcome      {payload['outcome']}",
    ]
    for role in ("sender", "recipient"):
        party = payload[role]
        key = receipts.fingerprint(party["jwk"]["x"])
        lines.append(f"{role:12} {shown(party['label'])}, key {key}")
    lines += [
        f"delivered    {content['delivered_entries']} of {content['entries']} entries, "
        f"{content['delivered_bytes']} of {content['bytes']} bytes",
        f"root         {content['root'].hex()}",
        f"stored       {payload['stored']}, read back and hashed with {content['hash']}",
        f"digits       {'confirmed' if security['digits_confirmed'] else 'not confirmed'}",
        f"offered      {shown(times['offered'])} (sender's clock)",
        f"accepted     {shown(times['accepted'])} (recipient's clock)",
        f"closed       {shown(times['closed'])} (sender's clock)",
        f"verified     {shown(times['verified'])} (recipient's clock)",
        f"signed by    {'recipient and sender' if found.confirmed else 'the recipient only'}",
    ]
    return lines


@receipt.command("verify")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--files", type=click.Path(path_type=Path), help="Also hold the files in this folder to it."
)
def receipt_verify(file: Path, files: Path | None) -> None:
    """Check signatures, keys and roles; with --files, the files themselves too.

    --files is the folder that was received into, or on the sender's side the one that holds what
    was sent. The names come from this machine's annex, which must fit the receipt's root.
    """
    from .files import compare
    from .protocol.manifest import results_root

    found = _read_receipt(file)
    for line in _receipt_lines(found):
        click.echo(line)
    if files is not None:
        with _told():
            manifest, results, placed = Home().annex(found.payload["transfer_id"])
        if results_root(manifest, results) != found.payload["content"]["root"]:
            _say("The annex on this machine does not belong to this receipt.")
            raise SystemExit(1)
        wrong = list(compare(files, manifest, results, placed))
        for path, why in wrong:
            _say(f"  {shown(path, 1024)}: {why}")
        if wrong:
            _say(f"{_many(len(wrong), 'entry')} not as delivered.")
            raise SystemExit(1)
        click.echo("files        every delivered file is as it was")
    click.echo(
        "It proves that software holding these keys sent and received exactly these bytes; "
        "not who sat at the keyboard, nor that anyone looked at them."
    )


@main.group("audit")
def audit_group() -> None:
    """The audit log of this machine."""


@audit_group.command("verify")
def audit_verify() -> None:
    """Check the chain of the log; names the first bad line."""
    with _told():
        home = Home()
    try:
        found = home.verify_audit()
    except audit.BadLine as bad:
        _say(f"The audit log does not hold. {home.audit_path}, {bad}.")
        raise SystemExit(1) from None
    click.echo(f"{_many(found.lines, 'entry')}, head {found.head}")


@main.command()
def demo() -> None:
    """A real transfer between two processes here: DICOM files, verified, with its receipt."""
    from .demo import run

    raise SystemExit(run())
