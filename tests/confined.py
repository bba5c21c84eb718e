"""What tests mount, start and name in the network ends with their process, even when it is killed.

Mounts are in a namespace of the process's own: the kernel takes it away with the last process in it.
So do network namespaces, once no name of theirs is left, and those are mounts as well. Processes
that are started are killed with whoever started them.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

NETWORKS = Path("/run/netns")  # where `ip netns` names namespaces
CLONE_NEWNS, PR_SET_PDEATHSIG = 0x00020000, 1  # sched.h, prctl(2)

_libc = ctypes.CDLL(None, use_errno=True)


def confine() -> None:
    """Give this process mounts of its own, where it may; before it starts threads, for the others
    would keep what they have."""
    if _libc.unshare(CLONE_NEWNS):
        return  # not root: what needs mounts says so itself
    mount("--make-rprivate", "/")
    with contextlib.suppress(OSError):
        NETWORKS.mkdir(parents=True, exist_ok=True)
        mount("-t", "tmpfs", "tmpfs", NETWORKS)  # names leave files, else


def die_with_parent() -> None:
    """Have this process killed when the thread that started it is gone. For `preexec_fn`."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def mount(*arguments: str | Path) -> None:
    """mount(8). Raises `CalledProcessError`."""
    subprocess.run(["mount", *arguments], check=True)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of so many MB in this new folder, for as long as the context lasts."""
    folder.mkdir()
    mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def grow(folder: Path, megabytes: int) -> None:
    """Give such a file system another size."""
    mount("-o", f"remount,size={megabytes}m", folder)
