"""Making layers: a tar of a folder that overlayfs wrote to, and the busybox layer that all built-in images share."""

from __future__ import annotations

import io
import os
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import BinaryIO

from runtime.errors import HostUnfit
from runtime.image.unpack import OPAQUE, OPAQUE_XATTR, WHITEOUT

EPOCH = 0
"""Time of every entry of a layer that must come out the same each time it is made."""
LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
FOLDERS = {
    "dev": 0o755, "etc": 0o755, "home": 0o755, "proc": 0o555, "root": 0o700, "run": 0o755, "sys": 0o555, "tmp": 0o1777,
    "usr": 0o755, "usr/bin": 0o755, "usr/lib": 0o755, "usr/lib64": 0o755, "usr/sbin": 0o755, "var": 0o755, "var/tmp": 0o1777,
}  # fmt: skip
FILES = {
    "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/false\n",
    "etc/group": "root:x:0:\nnogroup:x:65534:\n",
}


def busybox(target: BinaryIO) -> None:
    """A root file system of the host's static busybox with a link for each applet; the same bytes every time."""
    binary = next((path for path in map(Path, ("/bin/busybox", "/usr/bin/busybox")) if path.exists()), None)
    if binary is None:
        raise HostUnfit("busybox is missing.", hint="Install the package busybox-static.")
    listing = subprocess.run([binary, "--list-full"], capture_output=True, text=True, check=True, timeout=10).stdout
    applets = sorted({f"usr/{path.removeprefix('usr/')}" for path in listing.split() if path != "linuxrc"})
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, mode in sorted(FOLDERS.items()):
            archive.addfile(_entry(name, tarfile.DIRTYPE, mode))
        for name, link in LINKS.items():
            archive.addfile(_entry(name, tarfile.SYMTYPE, 0o777, link=link))
        for name, text in FILES.items():
            archive.addfile(_entry(name, tarfile.REGTYPE, 0o644, size=len(text)), io.BytesIO(text.encode()))
        entry = _entry("usr/bin/busybox", tarfile.REGTYPE, 0o755, size=binary.stat().st_size)
        with binary.open("rb") as source:
            archive.addfile(entry, source)
        for name in applets:
            if name != "usr/bin/busybox":
                archive.addfile(_entry(name, tarfile.SYMTYPE, 0o777, link="/usr/bin/busybox"))


def _entry(name: str, kind: bytes, mode: int, *, size: int = 0, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.mode, entry.size, entry.linkname, entry.mtime = kind, mode, size, link, EPOCH
    return entry


def from_upper(upper: Path, target: BinaryIO) -> None:
    """The changes that overlayfs recorded in ``upper``, as a layer with OCI whiteouts (image-spec, layer.md)."""
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for parent, folders, files in os.walk(upper):
            folders.sort()
            for name in sorted(folders + files):
                _add(archive, Path(parent, name), upper)


def _add(archive: tarfile.TarFile, path: Path, upper: Path) -> None:
    name = str(path.relative_to(upper))
    found = path.lstat()
    if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
        archive.addfile(_entry(str(Path(name).parent / (WHITEOUT + path.name)), tarfile.REGTYPE, 0o600))
        return
    if stat.S_ISSOCK(found.st_mode):
        return
    entry = archive.gettarinfo(str(path), name)
    entry.uname = entry.gname = ""
    for attribute in os.listxattr(path, follow_symlinks=False):
        if attribute == "security.capability":
            value = os.getxattr(path, attribute, follow_symlinks=False)
            entry.pax_headers = {f"SCHILY.xattr.{attribute}": value.decode("utf-8", "surrogateescape")}
    if entry.isreg():
        with path.open("rb") as source:
            archive.addfile(entry, source)
    else:
        archive.addfile(entry)
    if path.is_dir() and not path.is_symlink() and OPAQUE_XATTR in os.listxattr(path):
        archive.addfile(_entry(f"{name}/{OPAQUE}", tarfile.REGTYPE, 0o600))


def prune(upper: Path, names: tuple[str, ...]) -> None:
    """Delete what the making of a layer left in it; ``names`` ending in ``/`` keep the folder and lose its content."""
    for name in names:
        path = upper / name
        if name.endswith("/") and path.is_dir() and not path.is_symlink():
            for child in path.iterdir():
                prune(upper, (str(child.relative_to(upper)),))
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
