"""System calls that the C library has no function for, or none that acts on the calling thread alone."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Mapping

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def syscall(name: str, numbers: Mapping[str, int], *arguments: int | None) -> int:
    """``numbers``: architecture, as uname(2) calls it, -> number of the call.  Raises OSError."""
    number = numbers.get(os.uname().machine)
    if number is None:
        raise OSError(errno.ENOSYS, f"{name}: no number for this architecture")
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result
