"""Opening paths that somebody else chose, without ever leaving a folder (openat2(2), RESOLVE_IN_ROOT)."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os

from runtime.errors import DeadlineExceeded

SYS_OPENAT2 = 437
RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH, RESOLVE_IN_ROOT = 0x02, 0x04, 0x08, 0x10
FOLDER = os.O_RDONLY | os.O_DIRECTORY
TRIES = 1000
"""A try costs microseconds, or what a path of many links costs: it fails by chance, however much is renamed on the node."""

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("flags", "mode", "resolve")]


def open_in_root(root: int, path: str, flags: int, mode: int = 0) -> int:
    """Like os.open with ``root`` as the root directory: ``..`` and absolute symbolic links stay inside.

    Raises OSError: FileNotFoundError also for what somebody moves out of ``root`` meanwhile, of which the kernel says EXDEV; DeadlineExceeded.

    EAGAIN says nothing of the path: while anybody renames or mounts anything on the node, the kernel cannot tell where a ``..`` leads, and
    wants to be asked again (openat2(2)).
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    for _ in range(TRIES):
        try:
            return _open(root, path, how)
        except BlockingIOError:
            continue
        except OSError as error:
            if error.errno == errno.EXDEV:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from error
            raise
    raise DeadlineExceeded(
        "The path cannot be followed while so much is renamed on the node.", hint="Try again in a moment."
    )


def open_plainly(folder: int, path: str, flags: int) -> int:
    """Below ``folder``, through real folders alone: a symbolic link on the way or at the end raises OSError ELOOP."""
    return _open(folder, path, _OpenHow(flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS))


def make_folders(root: int, parts: tuple[str, ...], owner: int) -> int:
    """A descriptor of the folder that the path leads to inside ``root``; what is missing of it is made, for ``owner``.

    Raises OSError: ENOTDIR, or EEXIST for a link that leads nowhere; DeadlineExceeded.
    """
    here = open_in_root(root, "", FOLDER)
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        try:
            below = _enter(root, here, path, parts[depth - 1], owner)
        finally:
            os.close(here)
        here = below
    return here


def _enter(root: int, above: int, path: str, name: str, owner: int) -> int:
    with contextlib.suppress(FileNotFoundError):
        return open_in_root(root, path, FOLDER)
    os.mkdir(name, 0o755, dir_fd=above)
    made = os.open(name, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    os.fchown(made, owner, owner)
    return made


def _open(folder: int, path: str, how: _OpenHow) -> int:
    result = int(_libc.syscall(SYS_OPENAT2, folder, os.fsencode(path or "."), ctypes.byref(how), ctypes.sizeof(how)))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return result
