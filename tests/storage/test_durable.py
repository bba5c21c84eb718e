"""What an error of the operating system means for a transfer."""

from __future__ import annotations

import errno
import os

import pytest

from p2p.storage.durable import disk_failure

AWAY = (
    *("EACCES", "ECONNABORTED", "ECONNRESET", "EDQUOT", "EHOSTDOWN", "EHOSTUNREACH", "EIO"),
    *("ENETDOWN", "ENETUNREACH", "ENODEV", "ENOSPC", "ENOTCONN", "ENXIO", "EPROTO", "EREMOTEIO"),
    *("EROFS", "ESHUTDOWN", "ESTALE", "ETIMEDOUT"),
)
LASTING = ("EBADF", "EFBIG", "EINVAL", "EISDIR", "ELOOP", "ENAMETOOLONG", "ENOENT", "EPERM")


def failure(name):
    number = getattr(errno, name)
    return disk_failure(OSError(number, os.strerror(number))).code


@pytest.mark.parametrize("name", AWAY)
def test_a_disk_that_may_come_back_is_waited_for(name):
    """Whatever a file system calls it when its server is away."""
    assert failure(name) == "disk_paused"


@pytest.mark.parametrize("name", LASTING)
def test_what_waiting_does_not_change_ends_it(name):
    assert failure(name) == "disk_error"


@pytest.mark.parametrize("name", ["EMFILE", "ENFILE"])
def test_no_descriptors_are_no_failure_of_the_disk(name):
    assert failure(name) == "descriptors_short"
