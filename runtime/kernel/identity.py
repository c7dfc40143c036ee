"""Making files in somebody's name: what is new belongs to them from the start, while every right of root is kept.

An id-mapped mount takes new files only from an id that it maps (mount_setattr(2)), and the host's root is none.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator

CAPABILITY_VERSION_3 = 0x20080522
NOBODY_ASKED = 0xFFFFFFFF
"""Not an id: setfsuid(2) answers with the present one and changes nothing."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Data(ctypes.Structure):
    """Twice, of capset(2): the low and the high 32 capabilities."""

    _fields_ = [(name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable")]


@contextlib.contextmanager
def acting_as(id: int) -> Iterator[None]:
    """The calling thread's new files are this user's and group's.  Threads have ids and capabilities of their own.

    A thread that could not be root again would be refused from then on, so that ends the process.
    """
    try:
        _become(id)
        yield
    finally:
        _libc.setfsgid(0)
        _libc.setfsuid(0)  # with it the capabilities for files come back
        if _libc.setfsuid(ctypes.c_uint32(NOBODY_ASKED)) != 0:
            os.abort()


def _become(id: int) -> None:
    header, data = _Header(CAPABILITY_VERSION_3, 0), (_Data * 2)()
    _check(_libc.capget(ctypes.byref(header), data))
    _libc.setfsgid(ctypes.c_uint32(id))
    _libc.setfsuid(ctypes.c_uint32(id))  # takes the capabilities for files away
    _check(_libc.capset(ctypes.byref(header), data))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
