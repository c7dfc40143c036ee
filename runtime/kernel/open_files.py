"""What processes hold of files that no folder names any more, and how much they write (proc(5): fd, maps, map_files, io).

An unlinked file, and one opened with O_TMPFILE, takes room until the last process has let go of it, and no walk of folders finds it.
One that only a message on its way through a unix socket holds (unix(7), SCM_RIGHTS) is not seen; that there is such a message is.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path

Inode = tuple[int, int]
"""Device and number."""
BLOCK = 512
"""Of st_blocks (inode(7))."""
LOOK_EVERY = 200
"""Files between two looks at the clock."""


@dataclass(slots=True)
class OpenFiles:
    unlinked: dict[Inode, int] = field(default_factory=dict)
    """Bytes that each takes of the disk, also what is not written to it yet."""
    writable: set[Inode] = field(default_factory=set)
    """Those of ``unlinked`` that somebody can write to."""
    writing: set[int] = field(default_factory=set)
    """Devices that a file is open on for writing, one with a name or without."""
    in_flight: bool = False
    """Whether a message that a socket of theirs has not received yet holds descriptors, of whatever: the kernel tells no more."""


def of(pids: Collection[int], devices: Collection[int], by: float) -> OpenFiles:
    """Of regular files on these devices, each once however many hold it.  Those that end meanwhile are left out.

    A thread may have descriptors of its own (unshare(2), CLONE_FILES), and a first thread that has ended shows none: so those of each
    thread are looked at.  Raises TimeoutError when it is ``by`` (monotonic) before all was seen.
    """
    found = OpenFiles()
    for number, (path, writable) in enumerate(_held(pids)):
        if number % LOOK_EVERY == 0 and time.monotonic() >= by:
            raise TimeoutError
        try:
            at = os.stat(path)
        except OSError:  # it was closed, or the process has ended
            continue
        if stat.S_ISREG(at.st_mode) and at.st_dev in devices:
            _note(found, at, writable=writable)
        elif stat.S_ISSOCK(at.st_mode) and not found.in_flight:
            found.in_flight = _holds_descriptors(path)
    return found


def _holds_descriptors(path: str) -> bool:
    """Messages in the queue of this socket, and in those of who waits to be accepted there (net/unix, since Linux 5.8)."""
    try:
        rows = Path(path.replace("/fd/", "/fdinfo/")).read_bytes().splitlines()
    except OSError:  # it was closed, or the process has ended
        return False
    return any(row.startswith(b"scm_fds:") and int(row.split()[1]) > 0 for row in rows)


def _note(found: OpenFiles, at: os.stat_result, *, writable: bool) -> None:
    inode = (at.st_dev, at.st_ino)
    if writable:
        found.writing.add(at.st_dev)
    if at.st_nlink == 0:
        found.unlinked[inode] = at.st_blocks * BLOCK
        if writable:
            found.writable.add(inode)


def _held(pids: Collection[int]) -> Iterator[tuple[str, bool]]:
    """Links to what is open or mapped, and whether it is so for writing."""
    for pid in pids:
        for thread in _names(f"/proc/{pid}/task"):
            yield from _descriptors(f"/proc/{pid}/task/{thread}/fd")
        yield from _mapped_unlinked(pid)


def _descriptors(folder: str) -> Iterator[tuple[str, bool]]:
    """The link's own mode tells how the file is open (proc_pid_fd(5))."""
    for name in _names(folder):
        path = f"{folder}/{name}"
        try:
            yield path, bool(os.lstat(path).st_mode & stat.S_IWUSR)
        except OSError:
            continue


def _mapped_unlinked(pid: int) -> Iterator[tuple[str, bool]]:
    """A file that is really called so has a link yet: whoever looks at it finds out."""
    try:
        with Path(f"/proc/{pid}/maps").open("rb") as lines:
            for line in lines:
                if line.endswith(b" (deleted)\n"):
                    where, access = line.split(None, 2)[:2]
                    low, high = where.decode().split("-")  # map_files has them without zeros in front
                    yield f"/proc/{pid}/map_files/{int(low, 16):x}-{int(high, 16):x}", access[1::2] == b"ws"
    except OSError:
        return


def written(pids: Collection[int]) -> int:
    """Bytes of files that these processes, and those they have waited for, have made dirty since their start, rewritten ones included.

    fallocate(2) makes none dirty.  0 where the kernel does not count (CONFIG_TASK_IO_ACCOUNTING).
    """
    return sum(_written(pid) for pid in pids)


def _written(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/io").read_bytes().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(b"write_bytes:"))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
