"""Opening paths that somebody else chose, without ever leaving a folder (openat2(2), RESOLVE_IN_ROOT)."""

from __future__ import annotations

import ctypes
import os

SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x02, 0x10

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Like os.open with ``root`` as the root directory: ``..`` and absolute symbolic links stay inside.  Raises OSError."""
    how = _OpenHow(flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    result = int(_libc.syscall(SYS_OPENAT2, root, os.fsencode(path or "."), ctypes.byref(how), ctypes.sizeof(how)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
