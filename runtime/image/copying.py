"""A tar that somebody else made, into a folder of a container that may be running and changing names meanwhile.

Parents are opened by the kernel with the container's root as root; last components are made new relative to that descriptor, never
opened, never followed.  So nothing that the archive says or the container does leads to a file that is not the container's own.
"""

from __future__ import annotations

import errno
import os
import tarfile
from collections.abc import Callable
from typing import BinaryIO

from runtime.errors import Conflict, ImageCorrupt, ImageUnsuitable, InvalidSpec, OutOfSpace
from runtime.image.blobs import CHUNK
from runtime.image.layer_writer import (
    FOLDER,
    KEPT_XATTRS,
    MOST_ID,
    NEW,
    XATTR_HEADER,
    entry_parts,
    entry_time,
    write_all,
)
from runtime.image.room import disk_full
from runtime.image.unpack import DAMAGE, entries
from runtime.kernel.beneath import open_in_root

UNREADABLE: tuple[type[Exception], ...] = (ImageCorrupt, ImageUnsuitable, OverflowError, *DAMAGE)


def bad_copy(name: str, what: str) -> InvalidSpec:
    return InvalidSpec(
        f"The archive has the entry {name[:100]!r}, which {what}.", hint="Leave it out.", field="archive"
    )


class TreeWriter:
    """Entries into ``path``, a folder below ``root`` that exists."""

    def __init__(
        self,
        root: int,
        path: str,
        uid_base: int,
        within: Callable[[os.stat_result], bool],
        *,
        disowned: bool = False,
        renamed: str | None = None,
    ) -> None:
        """``uid_base`` is added to each owner; ``within``: whether a folder may be written to.

        ``disowned``: whoever the archive says, all is the calling process's, and no program is set-uid.
        ``renamed``: the first part of each entry's name becomes this.
        """
        self._root = root
        self._path = path
        self._uid_base = uid_base
        self._within = within
        self._disowned = disowned
        self._renamed = renamed

    def take(self, source: BinaryIO) -> None:
        """All of a plain tar stream.  Raises InvalidSpec (the archive), Conflict (a part is read-only), OutOfSpace, OSError.

        What was written before an error stays.
        """
        try:
            for member, archive in entries(source):
                self.write(member, archive)
        except UNREADABLE:
            raise InvalidSpec(
                "The archive is damaged, too large, or is none.", hint="Make it anew.", field="archive"
            ) from None

    def write(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        parts = self._checked(member)
        if not parts:
            return  # the folder itself: it is the container's
        try:
            parent = self._parent(parts[:-1])
            try:
                self._entry(parent, parts[-1], member, archive)
            finally:
                os.close(parent)
        except OSError as error:
            raise _told(error, member.name) from error

    def _checked(self, member: tarfile.TarInfo) -> list[str]:
        try:
            parts = self._parts(member.name)
        except ImageCorrupt:
            raise bad_copy(member.name, "leads out of the container") from None
        if not 0 <= min(member.uid, member.gid) <= max(member.uid, member.gid) <= MOST_ID:
            raise bad_copy(member.name, f"has an owner above {MOST_ID}")
        return parts

    def _parts(self, name: str) -> list[str]:
        """Raises ImageCorrupt."""
        parts = entry_parts(name)
        return parts if self._renamed is None or not parts else [self._renamed, *parts[1:]]

    # parents ---------------------------------------------------------------------------------------------

    def _parent(self, parts: list[str]) -> int:
        """A descriptor of the folder, made where it is missing."""
        here = self._open(self._path)
        for depth in range(1, len(parts) + 1):
            try:
                below = self._below(here, parts[:depth])
            finally:
                os.close(here)
            here = below
        return here

    def _below(self, above: int, parts: list[str]) -> int:
        path = f"{self._path}/{'/'.join(parts)}"
        try:
            return self._open(path)
        except FileNotFoundError:
            os.mkdir(parts[-1], 0o755, dir_fd=above)
        made = os.open(parts[-1], FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        os.fchown(made, *self._owner(0, 0))
        return made

    def _open(self, path: str) -> int:
        return self._allowed(open_in_root(self._root, path, FOLDER))

    def _allowed(self, folder: int) -> int:
        if self._within(os.fstat(folder)):
            return folder
        os.close(folder)
        raise InvalidSpec("/proc, /sys and /dev hold no files to copy.", hint="Choose another path.", field="path")

    # entries ---------------------------------------------------------------------------------------------

    def _entry(self, parent: int, name: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        if member.isdir():
            self._folder(parent, name, member)
        elif member.isreg() and not member.issparse():
            self._file(parent, name, member, archive)
        elif member.islnk():
            self._hard_link(parent, name, member)
        elif member.issym():
            self._clear(parent, name, member)
            os.symlink(member.linkname, name, dir_fd=parent)
            self._dress_name(parent, name, member)
        elif member.isfifo():
            self._clear(parent, name, member)
            os.mkfifo(name, member.mode & 0o777, dir_fd=parent)  # chmod would follow what may be a link by now
            self._dress_name(parent, name, member)
        else:
            raise bad_copy(member.name, "is a device node or of an unknown kind")

    @staticmethod
    def _clear(parent: int, name: str, member: tarfile.TarInfo) -> None:
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except IsADirectoryError:
            raise bad_copy(member.name, "replaces a folder by something else") from None

    def _folder(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            if not _is_folder(parent, name):
                raise bad_copy(member.name, "replaces something else by a folder") from None
        descriptor = self._allowed(open_in_root(parent, name, FOLDER | os.O_NOFOLLOW))
        try:
            self._dress(descriptor, member)
        finally:
            os.close(descriptor)

    def _file(self, parent: int, name: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        self._clear(parent, name, member)
        with os.fdopen(os.open(name, NEW, 0o600, dir_fd=parent), "wb", buffering=0) as target:
            source = archive.extractfile(member)
            while source and (chunk := source.read(CHUNK)):
                write_all(target.fileno(), chunk)
            self._dress(target.fileno(), member)
            os.utime(target.fileno(), entry_time(member))

    def _hard_link(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        try:
            parts = self._parts(member.linkname)
            folder = self._parent_of_link(parts)
        except (ImageCorrupt, IndexError, OSError):
            raise bad_copy(member.name, "links to what is not in the archive") from None
        self._clear(parent, name, member)
        try:
            os.link(parts[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if disk_full(error):
                raise
            raise bad_copy(member.name, "links to what is not in the archive") from None
        finally:
            os.close(folder)

    def _parent_of_link(self, parts: list[str]) -> int:
        return self._open("/".join([self._path, *parts[:-1]]))

    # owner, mode, times, attributes ----------------------------------------------------------------------

    def _owner(self, uid: int, gid: int) -> tuple[int, int]:
        return (os.geteuid(), os.getegid()) if self._disowned else (self._uid_base + uid, self._uid_base + gid)

    def _dress(self, descriptor: int, member: tarfile.TarInfo) -> None:
        """Owner first: a change of owner clears set-uid."""
        os.fchown(descriptor, *self._owner(member.uid, member.gid))
        os.fchmod(descriptor, member.mode & (0o777 if self._disowned else 0o7777))
        for header, value in member.pax_headers.items():
            name = header.removeprefix(XATTR_HEADER) if header.startswith(XATTR_HEADER) else ""
            if name.startswith(KEPT_XATTRS):
                self._attribute(descriptor, name, value.encode("utf-8", "surrogateescape"))

    @staticmethod
    def _attribute(descriptor: int, name: str, value: bytes) -> None:
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            if error.errno != errno.ENOTSUP:  # as in a folder in memory
                raise

    def _dress_name(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        os.chown(name, *self._owner(member.uid, member.gid), dir_fd=parent, follow_symlinks=False)
        os.utime(name, entry_time(member), dir_fd=parent, follow_symlinks=False)


def _is_folder(parent: int, name: str) -> bool:
    try:
        os.close(os.open(name, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent))
    except OSError:
        return False
    return True


def read_only() -> Conflict:
    return Conflict("That part of the container is read-only.", hint="Copy to another path.", field="path")


def _told(error: OSError, name: str) -> Exception:
    if disk_full(error):
        return OutOfSpace(
            "The container's disk or volume is full.", hint="Make room in it, or use a larger one.", entry=name[:100]
        )
    if error.errno in {errno.EROFS, errno.EBUSY}:
        return read_only()
    if error.errno in {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EEXIST,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.ENOTSUP,
    }:
        return bad_copy(name, "cannot be stored")
    return error
