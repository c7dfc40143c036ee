"""A folder that somebody else may be changing right now, as a tar stream (POSIX pax), in constant memory.

Every folder is opened from a root by a path without a single link in it, every file relative to its folder, and what it is is asked of
the open descriptor; so a name that turns into a link meanwhile is left out, never followed.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import stat
import struct
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from runtime.errors import LimitExceeded
from runtime.image.layer_writer import KEPT_XATTR, KEPT_XATTRS, MOST_ID, OPAQUE, WHITEOUT, XATTR_HEADER
from runtime.kernel.beneath import FOLDER, open_plainly
from runtime.kernel.overlay import is_opaque, is_whiteout

MOST_NAMES = 2_000_000
"""Of one folder: they are held in memory and sorted, so that the same folder gives the same stream."""
MOST_LINKED = 100_000
"""Files with several names of which not all were met yet; beyond it each name is a file of its own."""
CAPABILITY = struct.Struct("<I")
CAPABILITY_V2, CAPABILITY_V3, V2_SIZE, V3_SIZE = 0x02000000, 0x03000000, 20, 24
"""Of the xattr security.capability (linux/capability.h); version 3 ends with the user namespace's root."""
CHANGED_MEANWHILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ESTALE, errno.EXDEV})
READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
BLOCK = 1 << 16


def everything(_found: os.stat_result) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Packing:
    """How a tree is to be told."""

    uid_base: int = 0
    """Subtracted from each owner; an owner outside the 65,536 from there is told as nobody's (65534)."""
    within: Callable[[os.stat_result], bool] = everything
    """Whether a folder's content belongs to the tree; of one that does not, only the folder itself is told."""
    layer: bool = False
    """The tree is the upper of an overlay: what it hides is told as whiteouts (image-spec, layer.md)."""
    capabilities: bool = False
    left_out: Callable[[str, os.stat_result], bool] | None = None
    """Files, by what they are called in the tree, that do not belong to it."""


class Packer:
    """Writes to ``target``, which need not be seekable; whatever writing to it raises goes through.  Close it at the end."""

    def __init__(self, target: BinaryIO, packing: Packing) -> None:
        self._target = _Blocks(target)
        self._archive = tarfile.TarFile(fileobj=cast("BinaryIO", self._target), mode="w", format=tarfile.PAX_FORMAT)
        self._packing = packing
        self._linked: dict[tuple[int, int], tuple[str, int]] = {}
        self.newest = 0
        """Latest time of change of all that was told, seconds since the epoch."""

    def close(self) -> None:
        self._archive.close()
        self._target.flush()

    def tree(self, root: int, path: str, name: str) -> None:
        """What ``path`` is, below the folder ``root``, as ``name``, with all below it.  Raises LimitExceeded, OSError."""
        waiting = [(path, name)]
        while waiting:
            here, told = waiting.pop()
            with contextlib.suppress(_Gone):
                folders = list(self._folder(root, here, told))
                waiting += [(_join(here, child), _join(told, child)) for child in reversed(folders)]

    def _folder(self, root: int, path: str, told: str) -> Iterator[str]:
        """The folder and its files; yields the names of the folders in it."""
        descriptor = _opened(lambda: open_plainly(root, path or ".", FOLDER))
        try:
            found = os.fstat(descriptor)
            if told:
                self._add(self._entry(told, found, descriptor))
            if self._packing.layer and is_opaque(descriptor):
                self._add(_mark(_join(told, OPAQUE)))
            if self._packing.within(found):
                yield from (name for name in _names(descriptor) if not self._file(descriptor, name, _join(told, name)))
        finally:
            os.close(descriptor)

    def file(self, parent: int, name: str, told: str) -> bool:
        """One file of a folder.  False: it is a folder.  Raises OSError."""
        return self._file(parent, name, told)

    def _file(self, parent: int, name: str, told: str) -> bool:
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            if stat.S_ISDIR(found.st_mode):
                return False
            if self._packing.left_out is not None and self._packing.left_out(told, found):
                return True
            if stat.S_ISREG(found.st_mode):
                self._regular(parent, name, told)
            elif stat.S_ISLNK(found.st_mode):
                entry = self._entry(told, found)
                entry.linkname = _target(parent, name)
                self._add(entry)
            elif stat.S_ISFIFO(found.st_mode):
                self._add(self._entry(told, found))
            elif self._packing.layer and is_whiteout(found):
                above, _, last = told.rpartition("/")
                self._add(_mark(_join(above, WHITEOUT + last)))
        except OSError as error:
            if error.errno not in CHANGED_MEANWHILE:
                raise
        return True

    def _regular(self, parent: int, name: str, told: str) -> None:
        descriptor = os.open(name, READ, dir_fd=parent)
        with os.fdopen(descriptor, "rb", buffering=0) as source:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return
            first = self._other_name(found, told)
            entry = self._entry(told, found, descriptor)
            if first:
                entry.type, entry.linkname, entry.size = tarfile.LNKTYPE, first, 0
                self._add(entry)
            else:
                self._add(entry, cast("BinaryIO", _Exactly(source)))

    def _other_name(self, found: os.stat_result, told: str) -> str:
        """By which the file was told already; empty when it was not."""
        if found.st_nlink < 2:
            return ""
        key = (found.st_dev, found.st_ino)
        first, left = self._linked.pop(key, ("", found.st_nlink))
        if left > 1 and len(self._linked) < MOST_LINKED:
            self._linked[key] = (first or told, left - 1)
        return first

    def _entry(self, told: str, found: os.stat_result, descriptor: int | None = None) -> tarfile.TarInfo:
        entry = tarfile.TarInfo(told)
        entry.mode = stat.S_IMODE(found.st_mode)
        entry.uid, entry.gid = self._owner(found.st_uid), self._owner(found.st_gid)
        entry.mtime = max(0, int(found.st_mtime))
        entry.type = _KINDS[stat.S_IFMT(found.st_mode)]
        entry.size = found.st_size if stat.S_ISREG(found.st_mode) else 0
        if descriptor is not None:
            entry.pax_headers = dict(self._attributes(descriptor))
        self.newest = max(self.newest, int(entry.mtime))
        return entry

    def _owner(self, id: int) -> int:
        inside = id - self._packing.uid_base
        return inside if 0 <= inside <= MOST_ID else MOST_ID - 1

    def _attributes(self, descriptor: int) -> Iterator[tuple[str, str]]:
        for name in sorted(os.listxattr(descriptor)):
            if name.startswith(KEPT_XATTRS) or (name == KEPT_XATTR and self._packing.capabilities):
                value = os.getxattr(descriptor, name)
                if name == KEPT_XATTR:
                    value = self._capability(value)
                yield XATTR_HEADER + name, value.decode("utf-8", "surrogateescape")

    def _capability(self, value: bytes) -> bytes:
        """Those that the container's root gave are the image's own: no image knows whose user ids it will run under."""
        (version,) = CAPABILITY.unpack_from(value)
        if len(value) != V3_SIZE or CAPABILITY.unpack_from(value, V2_SIZE)[0] != self._packing.uid_base:
            return value
        return CAPABILITY.pack(version - CAPABILITY_V3 + CAPABILITY_V2) + value[CAPABILITY.size : V2_SIZE]

    def _add(self, entry: tarfile.TarInfo, content: BinaryIO | None = None) -> None:
        self._archive.addfile(entry, content)
        self._archive.members.clear()  # type: ignore[attr-defined]  # else all of them stay in memory


_KINDS = {
    stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: tarfile.DIRTYPE, stat.S_IFLNK: tarfile.SYMTYPE, stat.S_IFIFO: tarfile.FIFOTYPE,
}  # fmt: skip


def _target(parent: int, name: str) -> str:
    """Of a link.  Raises OSError: FileNotFoundError also where it is no link any more, which readlink(2) tells by EINVAL."""
    try:
        return os.readlink(name, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise FileNotFoundError(errno.ENOENT, "no link any more", name) from error
        raise


class _Gone(Exception):
    """A folder that was there when its name was read and that is not there any more."""


class _Blocks:
    """Gathers headers and small files, so that a pipe or a socket is not written to entry by entry."""

    def __init__(self, target: BinaryIO) -> None:
        self._target = target
        self._held = bytearray()
        self._written = 0

    def tell(self) -> int:
        return self._written

    def write(self, content: bytes) -> int:
        self._held += content
        self._written += len(content)
        if len(self._held) >= BLOCK:
            self.flush()
        return len(content)

    def flush(self) -> None:
        left = memoryview(bytes(self._held))
        self._held.clear()
        while left:
            left = left[self._target.write(left) :]  # a raw one may take less


class _Exactly(io.RawIOBase):
    """A file that somebody may be writing to: what it has lost since it was measured reads as zeros, as tar does it."""

    def __init__(self, source: io.RawIOBase) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return (self._source.read(size) or b"").ljust(size, b"\0") if size > 0 else b""


def _opened(open_it: Callable[[], int]) -> int:
    try:
        return open_it()
    except OSError as error:
        if error.errno in CHANGED_MEANWHILE:
            raise _Gone from None
        raise


def _names(folder: int) -> list[str]:
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            if len(names) > MOST_NAMES:
                raise LimitExceeded(
                    f"A folder has more than {MOST_NAMES} names.", hint="Copy parts of it.", most=MOST_NAMES
                )
    return sorted(names)


def _mark(name: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.mode = 0o600
    return entry


def _join(above: str, name: str) -> str:
    return f"{above}/{name}" if above else name
