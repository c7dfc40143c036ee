"""One layer, a tar written by somebody else, into a folder that overlayfs can use as a lower (image-spec, layer.md).

Nothing in the archive can name a file outside the folder: parents are opened by the kernel with the folder as root, and
the last component is made relative to that descriptor and never followed.  Refused: absolute names and ``..``, device
nodes, hard links to what the layer does not have, owners above 65535, and archives larger than the limits.
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from runtime.errors import ImageCorrupt, ImageUnsuitable
from runtime.image.blobs import CHUNK, disk_full, out_of_space
from runtime.image.compression import Hashing, decompressed
from runtime.kernel.beneath import open_in_root

WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"
OPAQUE_XATTR = "trusted.overlay.opaque"
KEPT_XATTRS = ("security.capability", "user.")
XATTR_HEADERS = ("SCHILY.xattr.", "LIBARCHIVE.xattr.")
MOST_BYTES = 64 << 30
MOST_ENTRIES = 2_000_000
MOST_ID = 65535


def unpack(source: BinaryIO, target: Path) -> tuple[str, int]:
    """Returns the diff_id and the uncompressed size.  ``target`` exists and is empty; after an error it holds a part.

    Raises ImageCorrupt, ImageUnsuitable, OutOfSpace.
    """
    try:
        stream = Hashing(decompressed(source), MOST_BYTES)
        writer = _Writer(target)
        try:
            with tarfile.open(fileobj=cast("BinaryIO", stream), mode="r|", errorlevel=2) as archive:
                for count, member in enumerate(archive):
                    if count >= MOST_ENTRIES:
                        raise OverflowError(count)
                    writer.write(member, archive)
            stream.drain()
            writer.finish()
        finally:
            writer.close()
    except OverflowError:
        raise ImageUnsuitable("A layer of the image is too large to unpack.", hint="Use a smaller image.") from None
    except (tarfile.TarError, zlib.error, zstandard.ZstdError, EOFError, UnicodeError, ValueError) as error:
        raise ImageCorrupt(
            f"A layer of the image is damaged: {type(error).__name__}.", hint="The image must be pushed anew."
        ) from None
    except OSError as error:
        if disk_full(error):
            raise out_of_space() from None
        if error.errno is None or "gzip" in str(error):
            raise ImageCorrupt("A layer of the image is damaged.", hint="The image must be pushed anew.") from None
        raise
    return stream.digest, stream.size


def _parts(name: str) -> list[str]:
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise ImageCorrupt(
            f"A layer of the image has the entry {name[:100]!r}, which leads out of the container.",
            hint="Do not use this image.",
            entry=name[:100],
        )
    return parts


class _Writer:
    def __init__(self, target: Path) -> None:
        self._root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._times: list[tuple[str, int]] = []

    def close(self) -> None:
        os.close(self._root)

    def write(self, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        parts = _parts(member.name)
        if not parts:
            self._dress(self._root, member)
            return
        parent = self._parent(parts[:-1])
        try:
            self._entry(parent, parts[-1], member, archive)
        finally:
            os.close(parent)

    def _parent(self, parts: list[str]) -> int:
        """A descriptor of the folder, made where it is missing."""
        path = "/".join(parts)
        try:
            return open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            above = self._parent(parts[:-1])
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP}:
                raise _bad_entry(path, "goes through something that is not a folder") from None
            raise
        try:
            os.mkdir(parts[-1], 0o755, dir_fd=above)
            return os.open(parts[-1], os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
        except FileExistsError:
            raise _bad_entry(path, "goes through a broken link") from None
        finally:
            os.close(above)

    def _entry(self, parent: int, name: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        if max(member.uid, member.gid) > MOST_ID or min(member.uid, member.gid) < 0:
            raise ImageUnsuitable(
                f"The image has files of owner {max(member.uid, member.gid)}; ids go up to {MOST_ID} in a container.",
                hint="Rebuild the image with smaller ids.",
            )
        if name == OPAQUE:
            os.setxattr(parent, OPAQUE_XATTR, b"y")
        elif name.startswith(WHITEOUT):
            self._clear(parent, name.removeprefix(WHITEOUT))
            os.mknod(name.removeprefix(WHITEOUT), stat.S_IFCHR, 0, dir_fd=parent)
        elif member.isdir():
            self._folder(parent, name, member)
        elif member.isreg():
            self._file(parent, name, member, archive)
        elif member.issym():
            self._clear(parent, name)
            os.symlink(member.linkname, name, dir_fd=parent)
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        elif member.islnk():
            self._hard_link(parent, name, member)
        elif member.isfifo():
            self._clear(parent, name)
            os.mkfifo(name, member.mode & 0o7777, dir_fd=parent)
            os.chown(name, member.uid, member.gid, dir_fd=parent, follow_symlinks=False)
        else:
            raise _bad_entry(member.name, "is a device node or of an unknown kind")

    @staticmethod
    def _clear(parent: int, name: str) -> None:
        """A later entry replaces an earlier one of the same name."""
        try:
            os.unlink(name, dir_fd=parent)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            raise _bad_entry(name, "replaces a folder by something else") from None

    def _folder(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                self._clear(parent, name)
                os.mkdir(name, 0o755, dir_fd=parent)
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            self._dress(descriptor, member)
        finally:
            os.close(descriptor)
        self._times.append((member.name, int(member.mtime)))

    def _file(self, parent: int, name: str, member: tarfile.TarInfo, archive: tarfile.TarFile) -> None:
        self._clear(parent, name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
        with os.fdopen(descriptor, "wb") as target:
            source = archive.extractfile(member)
            while source and (chunk := source.read(CHUNK)):
                target.write(chunk)
            target.flush()
            self._dress(target.fileno(), member)
            os.utime(target.fileno(), (member.mtime, member.mtime))

    def _dress(self, descriptor: int, member: tarfile.TarInfo) -> None:
        """Owner first: a change of owner clears set-uid and file capabilities."""
        os.fchown(descriptor, member.uid, member.gid)
        os.fchmod(descriptor, member.mode & 0o7777)
        for header, value in member.pax_headers.items():
            name = next((header.removeprefix(prefix) for prefix in XATTR_HEADERS if header.startswith(prefix)), "")
            if name.startswith(KEPT_XATTRS):
                os.setxattr(descriptor, name, value.encode("utf-8", "surrogateescape"))

    def _hard_link(self, parent: int, name: str, member: tarfile.TarInfo) -> None:
        parts = _parts(member.linkname)
        if not parts:
            raise _bad_entry(member.name, "links to nothing")
        self._clear(parent, name)
        try:
            folder = open_in_root(self._root, "/".join(parts[:-1]), os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            raise _bad_entry(member.name, "links to what is not in its layer") from None
        try:
            os.link(parts[-1], name, src_dir_fd=folder, dst_dir_fd=parent, follow_symlinks=False)
        except OSError as error:
            if disk_full(error):
                raise
            raise _bad_entry(member.name, "links to what is not in its layer") from None
        finally:
            os.close(folder)

    def finish(self) -> None:
        """Folders' times last: writing into them changed them."""
        for path, mtime in reversed(self._times):
            try:
                descriptor = open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
            except OSError:
                continue  # a later entry replaced the folder
            os.utime(descriptor, (mtime, mtime))
            os.close(descriptor)
        os.fsync(self._root)


def _bad_entry(name: str, what: str) -> ImageCorrupt:
    return ImageCorrupt(
        f"A layer of the image has the entry {name[:100]!r}, which {what}.",
        hint="Do not use this image.",
        entry=name[:100],
    )
