"""Entries of one layer into a folder that overlayfs can use as a lower (image-spec, layer.md; overlayfs.rst).

Nothing in an entry can name a file outside the folder: parents are opened by the kernel with the folder as root, and
the last component is made relative to that descriptor and never followed.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
from pathlib import Path

from runtime.errors import ImageCorrupt, ImageUnsuitable
from runtime.image.blobs import CHUNK
from runtime.image.room import ENTRY, Room, check_room, disk_full
from runtime.kernel.beneath import open_in_root
from runtime.kernel.overlay import OPAQUE_XATTR

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
AUFS_OWN = ".wh..wh."
"""What the file system of the first Docker kept for itself; old images still have it, and it means nothing."""
KEPT_XATTR, KEPT_XATTRS = "security.capability", "user."
XATTR_HEADER = "SCHILY.xattr."
MOST_BYTES = 64 << 30
MOST_ID = 65535
LAST_SECOND = 1 << 34
"""Of the times that ext4 can hold."""
THE_NODES_FAULT = {errno.EIO, errno.EROFS, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EUCLEAN}
ZEROS = bytes(CHUNK)
FOLDER = os.O_RDONLY | os.O_DIRECTORY
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def bad_entry(name: str, what: str) -> ImageCorrupt:
    return ImageCorrupt(
        f"A layer of the image has the entry {name[:100]!r}, which {what}.",
        hint="Do not use this image.",
        entry=name[:100],
    )


def entry_parts(name: str) -> list[str]:
    """Raises ImageCorrupt for one that leads upwards or away."""
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise bad_entry(name, "leads out of the container")
    return parts


def entry_time(member: tarfile.TarInfo) -> tuple[float, float]:
    """For utime; what is no time of this world is the epoch."""
    seconds = member.mtime if 0 <= member.mtime < LAST_SECOND else 0
    return seconds, seconds


class LayerWriter:
    """``target`` exists and is empty.  Close it after use."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._root = os.open(target, FOLDER | os.O_CLOEXEC)
        self._room = Room(target, MOST_BYTES)
        self._times: dict[str, tuple[float, float]] = {}

    def close(self) -> None:
        os.close(self._root)

    def write(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        """Raises ImageCorrupt, ImageUnsuitable, OutOfSpace, OverflowError (beyond :data:`MOST_BYTES`), OSError (the node's fault)."""
        self._room.take(ENTRY)
        try:
            self._write(member, archive)
        except OSError as error:
            if error.errno is None or error.errno in THE_NODES_FAULT or disk_full(error):
                raise
            raise bad_entry(member.name, "cannot be stored") from None

    def _write(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        parts = entry_parts(member.name)
        if max(member.uid, member.gid) > MOST_ID or min(member.uid, member.gid) < 0:
            raise ImageUnsuitable(
                f"The image has files of owner {max(member.uid, member.gid)}; ids go up to {MOST_ID} in a container.",
                hint="Rebuild the image with smaller ids.",
            )
        if not parts:
            if not member.isdir():
                raise bad_entry(member.name, "replaces a folder by something else")
            self._dress(self._root, member)
            return
        parent = self._parent(parts[:-1])
        try:
            self._entry(parent, parts[-1], member, archive)
        finally:
            os.close(parent)

    # parents ---------------------------------------------------------------------------------------------

    def _parent(self, parts: list[str]) -> int:
        """A descriptor of the folder, made where it is missing."""
        try:
            return open_in_root(self._root, "/".join(parts), FOLDER)
        except (FileNotFoundError, NotADirectoryError):
            here = os.dup(self._root)
        for depth in range(1, len(parts) + 1):
            try:
                below = self._enter(here, parts[:depth])
            finally:
                os.close(here)
            here = below
        return here

    def _enter(self, above: int, parts: list[str]) -> int:
        path = "/".join(parts)
        try:
            return open_in_root(self._root, path, FOLDER)
        except FileNotFoundError:
            pass
        except NotADirectoryError:
            if not _is_whiteout(above, parts[-1]):
                raise bad_entry(path, "goes through something that is not a folder") from None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise bad_entry(path, "goes through a broken link") from None
            raise
        try:
            return self._make_folder(above, parts[-1])
        except FileExistsError:
            raise bad_entry(path, "goes through a broken link") from None

    def _make_folder(self, parent: int, name: str) -> int:
        """One in the place of a whiteout hides what the layers below have in theirs."""
        hides = _is_whiteout(parent, name)
        if hides:
            os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o755, dir_fd=parent)
        made = os.open(name, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        if hides:
            os.setxattr(made, OPAQUE_XATTR, b"y")
        return made

    # entries ---------------------------------------------------------------------------------------------

    def _entry(self, parent: int, name: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        if name == OPAQUE:
            os.setxattr(parent, OPAQUE_XATTR, b"y")
        elif name.startswith(AUFS_OWN):
            return
        elif name.startswith(WHITEOUT):
            self._whiteout(parent, name.removeprefix(WHITEOUT), member)
        elif member.isdir():
            self._folder(parent, name, member)
        elif member.issparse():
            raise bad_entry(member.name, "is a sparse file, which layers must not have")
        elif member.isreg():
            self._file(parent, name, member, archive)
        elif member.islnk():
            self._hard_link(parent, name, member)
        elif member.issym():
            self._clear(parent, name)
            os.symlink(member.linkname, name, dir_fd=parent)
            self._dress_name(parent, name, member)
        elif member.isfifo():
            self._clear(parent, name)
            os.mkfifo(name, 0o600, dir_fd=parent)
            self._dress_name(parent, name, member)
            os.chmod(name, member.mode & 0o7777, dir_fd=parent)
        else:
            raise bad_entry(member.name, "is a device node or of an unknown kind")

    @staticmethod
    def _whiteout(parent: int, name: str, member: tarfile.TarInfo) -> None:
        """Hides what lower layers have; what this very layer has stays, and hides it as well."""
        if name in {"", ".", ".."}:
            raise bad_entry(member.name, "hides nothing that can be named")
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
            return
        if stat.S_ISDIR(found.st_mode):
            folder = os.open(name, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
            try:
                os.setxattr(folder, OPAQUE_XATTR, b"y")
            finally:
                os.close(folder)

    @staticmethod
    def _clear(parent: int, name: str) -> None:
        """A later entry replaces an earlier one of the same name."""
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            raise bad_entry(name, "replaces a folder by something else") from None

    def _folder(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        try:
            descriptor = os.open(name, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileNotFoundError:
            descriptor = self._make_folder(parent, name)
        except NotADirectoryError:
            self._clear(parent, name)
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=parent)
            descriptor = self._make_folder(parent, name)
        try:
            self._dress(descriptor, member)
        finally:
            os.close(descriptor)
        self._times["/".join(entry_parts(member.name))] = entry_time(member)

    def _file(self, parent: int, name: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        self._clear(parent, name)
        with os.fdopen(os.open(name, NEW, 0o600, dir_fd=parent), "wb", buffering=0) as target:
            source = archive.extractfile(member)
            while source and (chunk := source.read(CHUNK)):
                self._room.take(len(chunk))
                if not chunk[0] and chunk == ZEROS[: len(chunk)]:
                    target.seek(len(chunk), os.SEEK_CUR)
                else:
                    write_all(target.fileno(), chunk)
            target.truncate()
            self._dress(target.fileno(), member)
            os.utime(target.fileno(), entry_time(member))

    def _hard_link(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        parts = entry_parts(member.linkname)
        if not parts:
            raise bad_entry(member.name, "links to nothing")
        self._clear(parent, name)
        try:
            folder = open_in_root(self._root, "/".join(parts[:-1]), FOLDER)
        except OSError:
            raise bad_entry(member.name, "links to what is not in its layer") from None
        try:
            os.link(parts[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if disk_full(error):
                raise
            raise bad_entry(member.name, "links to what is not in its layer") from None
        finally:
            os.close(folder)

    # owner, mode, times, attributes ----------------------------------------------------------------------

    def _dress(self, descriptor: int, member: tarfile.TarInfo) -> None:
        """Owner first: a change of owner clears set-uid and file capabilities."""
        os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, member.mode & 0o7777)
        for header, value in member.pax_headers.items():
            name = header.removeprefix(XATTR_HEADER) if header.startswith(XATTR_HEADER) else ""
            if name == KEPT_XATTR or name.startswith(KEPT_XATTRS):
                self._attribute(descriptor, name, value.encode("utf-8", "surrogateescape"), member)

    def _attribute(self, descriptor: int, name: str, value: bytes, member: tarfile.TarInfo) -> None:
        """ENOSPC means that the file system has no room for one so large, as well as that the disk is full."""
        try:
            os.setxattr(descriptor, name, value)
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return
            if disk_full(error):
                check_room(self._target)
            raise bad_entry(member.name, "has an extended attribute that cannot be stored") from None

    @staticmethod
    def _dress_name(parent: int, name: str, member: tarfile.TarInfo) -> None:
        os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, entry_time(member), dir_fd=parent, follow_symlinks=False)

    def finish(self) -> None:
        """Folders' times last: writing into them changed them."""
        for path, times in reversed(self._times.items()):
            try:
                descriptor = open_in_root(self._root, path, FOLDER)
            except OSError:
                continue  # a later entry replaced the folder
            os.utime(descriptor, times)
            os.close(descriptor)
        os.fsync(self._root)


def _is_whiteout(parent: int, name: str) -> bool:
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
