"""Layers written by somebody who means harm.  Every test unpacks a real tar into a real folder."""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
from pathlib import Path

import pytest
import zstandard

from runtime.errors import ImageCorrupt, ImageUnsuitable
from runtime.image.unpack import OPAQUE_XATTR, unpack

pytestmark = pytest.mark.root


def entry(
    name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: object
) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.size, made.mode = kind, len(content), 0o644
    for key, value in fields.items():
        setattr(made, key, value)
    return made, content


def tar(*entries: tuple[tarfile.TarInfo, bytes]) -> io.BytesIO:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for made, content in entries:
            archive.addfile(made, io.BytesIO(content))
    raw.seek(0)
    return raw


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "fs").mkdir()
    return tmp_path / "fs"


@pytest.mark.parametrize(
    "bad",
    [
        entry("../escape", content=b"x"),
        entry("a/../../escape", content=b"x"),
        entry("/etc/escape", content=b"x"),
        entry("dev", tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=0),
        entry("link", tarfile.LNKTYPE, linkname="../../../etc/passwd"),
        entry("link", tarfile.LNKTYPE, linkname="not-there"),
    ],
)
def test_what_leads_out_or_is_a_device_is_refused(root: Path, bad: tuple[tarfile.TarInfo, bytes]) -> None:
    with pytest.raises(ImageCorrupt):
        unpack(tar(bad), root)
    assert not (root.parent / "escape").exists()
    assert list(root.iterdir()) == []


def test_a_symbolic_link_never_leads_a_write_out(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = entry("door", tarfile.SYMTYPE, linkname=str(outside))
    with pytest.raises(ImageCorrupt):
        unpack(tar(link, entry("door/file", content=b"x")), root)
    assert list(outside.iterdir()) == []


def test_a_file_replaces_a_link_and_is_not_written_through_it(root: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("before")
    unpack(tar(entry("x", tarfile.SYMTYPE, linkname=str(victim)), entry("x", content=b"after")), root)
    assert victim.read_text() == "before"
    assert (root / "x").read_text() == "after"


def test_a_link_within_the_layer_is_followed_within_it(root: Path) -> None:
    unpack(
        tar(
            entry("usr/lib", tarfile.DIRTYPE, mode=0o755),
            entry("lib", tarfile.SYMTYPE, linkname="/usr/lib"),
            entry("lib/x", content=b"in"),
        ),
        root,
    )
    assert (root / "usr/lib/x").read_bytes() == b"in"


def test_whiteouts_and_opaque_folders(root: Path) -> None:
    unpack(tar(entry("etc/.wh.gone"), entry("var/.wh..wh..opq")), root)
    gone = (root / "etc/gone").lstat()
    assert stat.S_ISCHR(gone.st_mode)
    assert gone.st_rdev == 0
    assert os.getxattr(root / "var", OPAQUE_XATTR) == b"y"


def test_owners_modes_times_and_hard_links_are_kept(root: Path) -> None:
    unpack(
        tar(
            entry("a", content=b"x", uid=33, gid=44, mode=0o4755, mtime=1000), entry("b", tarfile.LNKTYPE, linkname="a")
        ),
        root,
    )
    found = (root / "a").stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode), found.st_mtime) == (33, 44, 0o4755, 1000)
    assert (root / "b").stat().st_ino == found.st_ino


def test_ids_beyond_the_tenants_range_are_refused(root: Path) -> None:
    with pytest.raises(ImageUnsuitable):
        unpack(tar(entry("x", uid=70000)), root)


@pytest.mark.parametrize("squeeze", [gzip.compress, zstandard.ZstdCompressor().compress, bytes])
def test_compressions_have_one_diff_id(root: Path, squeeze: object) -> None:
    raw = tar(entry("file", content=b"hello")).getvalue()
    first, size = unpack(io.BytesIO(squeeze(raw)), root)  # type: ignore[operator]
    assert size == len(raw)
    assert first.startswith("sha256:")
    assert (root / "file").read_bytes() == b"hello"


@pytest.mark.parametrize(
    "broken", [b"garbage" * 100, gzip.compress(b"x" * 5000)[:40], b"\x28\xb5\x2f\xfd" + b"\0" * 50]
)
def test_a_damaged_layer_is_a_sentence(root: Path, broken: bytes) -> None:
    with pytest.raises(ImageCorrupt):
        unpack(io.BytesIO(broken), root)
