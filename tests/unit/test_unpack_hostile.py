"""Layers that aim at the unpacking itself: its memory, the node's disk, what it takes for an end, names that no file can have."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import resource
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.errors import ImageCorrupt, ImageUnsuitable, OutOfSpace, RuntimeFault
from runtime.home import Home
from runtime.image.store import ImageStore
from runtime.image.unpack import OPAQUE_XATTR, unpack
from runtime.kernel.tree import remove_tree
from tests.unit.test_unpack import entry, tar

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "fs").mkdir()
    return tmp_path / "fs"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A folder on an ext4 of 32 MiB of its own."""
    image, point = tmp_path / "disk", tmp_path / "small"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True)
    point.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
    try:
        (point / "fs").mkdir()
        yield point / "fs"
    finally:
        subprocess.run(["umount", str(point)], check=True)


def refused(root: Path, raw: bytes, expected: type[RuntimeFault] = ImageCorrupt) -> RuntimeFault:
    with pytest.raises(expected) as caught:
        unpack(io.BytesIO(raw), root)
    assert caught.value.hint
    return caught.value


def header(name: str, kind: bytes, size: int, *, number: bytes | None = None) -> bytes:
    """One block; ``number`` replaces the size field's twelve bytes."""
    made = tarfile.TarInfo(name)
    made.type, made.size = kind, size
    block = bytearray(made.tobuf(format=tarfile.GNU_FORMAT))
    if number is not None:
        block[124:136] = number
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def pax(records: dict[str, str]) -> bytes:
    """An extended header for the entry that follows."""
    body = b""
    for key, value in records.items():
        text = f" {key}={value}\n".encode()
        length = len(text)
        while len(str(length)) + len(text) != length:
            length = len(str(length)) + len(text)
        body += str(length).encode() + text
    return header("pax", tarfile.XHDTYPE, len(body)) + body + b"\0" * (-len(body) % 512)


END = b"\0" * 1024


# ------------------------------------------------------------------------------------------------ memory and disk


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK])
def test_a_header_as_large_as_a_layer_is_not_read_into_memory(root: Path, kind: bytes) -> None:
    """A few hundred kilobytes on the wire would be 200 MiB in the worker."""
    raw = gzip.compress(header("bomb", kind, 200 << 20) + bytes(200 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises((ImageCorrupt, ImageUnsuitable)):
        unpack(io.BytesIO(raw), root)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10, "KiB"


def test_headers_in_a_chain_without_end_are_refused(root: Path) -> None:
    refused(root, pax({"comment": "again"}) * 5000 + END, RuntimeFault)


def test_headers_for_all_that_follows_do_not_pile_up(root: Path) -> None:
    def one(number: int) -> bytes:
        body = pax({f"SCHILY.xattr.user.{number}": "x"})
        return header("pax", tarfile.XGLTYPE, len(body[512:].rstrip(b"\0"))) + body[512:] + header("f", b"0", 0)

    refused(root, b"".join(one(number) for number in range(200)) + END)


@pytest.mark.parametrize("size", [b"%011o\0" % (8 << 30), b"\x80" + (1 << 60).to_bytes(11, "big")])
def test_a_hole_costs_neither_room_nor_time(root: Path, size: bytes) -> None:
    """The old way to write a sparse file: 512 bytes that claim any size."""
    block = bytearray(header("sparse", tarfile.GNUTYPE_SPARSE, 0))
    block[483:495] = size
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    refused(root, bytes(block) + END)
    assert list(root.iterdir()) == []


def test_a_bomb_stops_before_the_disk_is_full(small: Path) -> None:
    """What expands to more than is free leaves a part free for everybody else."""
    raw = gzip.compress(tar(entry("noise", content=os.urandom(1 << 20) * 40)).getvalue(), 1)
    refused(small, raw, OutOfSpace)
    found = os.statvfs(small)
    assert found.f_bavail > 0


def test_content_without_end_stops_before_the_disk_is_full(small: Path) -> None:
    """As a commit of a file that is a hole of any size: what is stored of it is whole."""
    store = ImageStore(Home(small, "tsmall", "10.1.0.0/16", 0x50000000))
    left = []

    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            left.append(os.statvfs(small).f_bavail)
            return bytes(size)

    with store.leases.lease("test") as lease, pytest.raises(OutOfSpace):
        store.blobs.copy_in(cast("BinaryIO", Endless()), lease)
    assert min(left) > 0
    assert not list(store.blobs.ingest.iterdir())


def test_a_flood_of_empty_files_leaves_inodes(small: Path) -> None:
    many = os.statvfs(small).f_files
    refused(small, tar(*(entry(f"f{number}") for number in range(many))).getvalue(), OutOfSpace)
    assert os.statvfs(small).f_ffree > 100


# ------------------------------------------------------------------------------------------------ what is not a tar


def test_a_damaged_header_is_not_the_end(root: Path) -> None:
    raw = bytearray(tar(entry("a", content=b"x"), entry("b", content=b"y")).getvalue())
    raw[1024 + 150] ^= 0x55
    refused(root, bytes(raw))


def test_an_archive_that_is_cut_off_in_a_header_is_damaged(root: Path) -> None:
    refused(root, tar(entry("a", content=b"x"), entry("b", content=b"y")).getvalue()[: 1024 + 100])


@pytest.mark.parametrize("number", [b"\xff" * 12, b"\x80" + b"\xff" * 11])
def test_a_size_that_is_none_is_refused(root: Path, number: bytes) -> None:
    refused(root, header("x", b"0", 0, number=number) + END)


@pytest.mark.parametrize(
    "records",
    [
        {"size": "-1024"},
        {"size": "99999999999999"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"},
        {"path": "a\0b"},
    ],
)
def test_an_extended_header_that_lies_is_refused(root: Path, records: dict[str, str]) -> None:
    with pytest.raises(ImageCorrupt):
        unpack(io.BytesIO(pax(records) + header("x", b"0", 0) + END), root)


@pytest.mark.parametrize("mtime", ["nan", "inf", "-inf", "1e300", "-5"])
def test_a_time_of_no_calendar_is_the_epoch(root: Path, mtime: str) -> None:
    unpack(
        io.BytesIO(pax({"mtime": mtime}) + header("x", b"0", 0) + pax({"mtime": mtime}) + header("d", b"5", 0) + END),
        root,
    )
    assert (root / "x").stat().st_mtime == (root / "d").stat().st_mtime == 0


@pytest.mark.parametrize(
    "raw",
    [
        gzip.compress(tar(entry("a", content=b"x" * 5000)).getvalue()) + b"garbage",
        zstandard.ZstdCompressor().compress(tar(entry("a", content=b"x" * 5000)).getvalue()) + b"garbage",
        gzip.compress(os.urandom(100_000))[:50_000],
        zstandard.ZstdCompressor().compress(tar(entry("a", content=os.urandom(100_000))).getvalue())[:50_000],
    ],
)
def test_a_stream_that_is_cut_off_or_goes_on_with_garbage_is_damaged(root: Path, raw: bytes) -> None:
    refused(root, raw)


def test_frames_of_zstd_that_hold_something_else_are_passed_over(root: Path) -> None:
    raw = tar(entry("file", content=b"hello")).getvalue()
    other = (0x184D2A50).to_bytes(4, "little") + (8).to_bytes(4, "little") + b"12345678"
    packed = zstandard.ZstdCompressor().compress(raw)
    assert unpack(io.BytesIO(other + packed + other), root)[1] == len(raw)
    assert (root / "file").read_bytes() == b"hello"


# ------------------------------------------------------------------------------------------------ names and kinds


@pytest.mark.parametrize(
    "bad",
    [
        entry("n" * 256),
        entry("/".join(["d" * 200] * 30)),
        entry(".wh."),
        entry(".wh.."),
        entry("d/.wh..."),
        entry("./", tarfile.SYMTYPE, linkname="/etc"),
        entry(".", uid=70000, kind=tarfile.DIRTYPE),
        entry("x", tarfile.SYMTYPE, linkname=""),
        entry("x", tarfile.SYMTYPE, linkname="t" * 5000),
        entry("x", tarfile.LNKTYPE, linkname="/etc/passwd"),
        entry("x", tarfile.LNKTYPE, linkname="x"),
        entry("x", uid=2**40),
        entry("x", pax_headers={"SCHILY.xattr.user.large": "v" * 70_000}),
        entry("x", pax_headers={"SCHILY.xattr.security.capability": "nonsense"}),
    ],
)
def test_what_no_file_can_be_is_a_sentence(root: Path, bad: tuple[tarfile.TarInfo, bytes]) -> None:
    with pytest.raises((ImageCorrupt, ImageUnsuitable)) as caught:
        unpack(tar(bad), root)
    assert caught.value.hint
    assert list(root.parent.iterdir()) == [root]


def test_folders_as_deep_as_a_name_can_say_are_unpacked_and_removed(root: Path) -> None:
    unpack(tar(entry("a/" * 1500 + "f")), root)
    remove_tree(root)
    assert not root.exists()


def test_attributes_of_the_kernel_and_of_overlayfs_are_not_taken(root: Path) -> None:
    """An opaque marker, a redirect and a security label would speak to the kernel with root's voice."""
    names = (
        "trusted.overlay.redirect",
        "trusted.overlay.opaque",
        "security.selinux",
        "security.ima",
        "system.posix_acl_access",
    )
    held = {f"SCHILY.xattr.{name}": "/etc" for name in names} | {
        "SCHILY.xattr.user.ours": "kept",
        "LIBARCHIVE.xattr.user.b": "aGk=",
    }
    unpack(tar(entry("x", pax_headers=held), entry("d", tarfile.DIRTYPE, pax_headers=held)), root)
    assert os.listxattr(root / "x") == os.listxattr(root / "d") == ["user.ours"]


def test_a_link_among_the_parents_that_leads_to_itself_is_refused(root: Path) -> None:
    loop = entry("loop", tarfile.SYMTYPE, linkname="loop")
    refused(root, tar(loop, entry("loop/x", content=b"x")).getvalue())


def test_a_hard_link_through_a_link_stays_inside(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    door = entry("door", tarfile.SYMTYPE, linkname=str(outside))
    refused(root, tar(door, entry("mine", tarfile.LNKTYPE, linkname="door/secret")).getvalue())
    again = tmp_path / "again"
    again.mkdir()
    refused(again, tar(entry("up", tarfile.SYMTYPE, linkname="../outside"), entry("up/new", content=b"x")).getvalue())
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert (outside / "secret").stat().st_nlink == 1


def test_a_fifo_has_the_mode_that_it_was_given(root: Path) -> None:
    unpack(tar(entry("pipe", tarfile.FIFOTYPE, mode=0o666, uid=3, mtime=77)), root)
    found = (root / "pipe").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_mtime) == (0o666, 3, 77)


# ------------------------------------------------------------------------------------------------ whiteouts


def opaque(path: Path) -> bool:
    return OPAQUE_XATTR in os.listxattr(path)


def test_a_whiteout_hides_nothing_of_its_own_layer(root: Path) -> None:
    folder = entry("d", tarfile.DIRTYPE, mode=0o755)
    unpack(tar(folder, entry("d/kept", content=b"x"), entry("f", content=b"y"), entry(".wh.d"), entry(".wh.f")), root)
    assert (root / "d/kept").read_bytes() == b"x"
    assert opaque(root / "d"), "what lower layers have in it is hidden"
    assert (root / "f").read_bytes() == b"y"


def test_a_folder_after_its_whiteout_hides_what_was_in_the_old_one(root: Path) -> None:
    unpack(
        tar(entry(".wh.d"), entry("d", tarfile.DIRTYPE, mode=0o700), entry(".wh.e"), entry("e/f", content=b"x")), root
    )
    assert opaque(root / "d")
    assert opaque(root / "e")
    assert (root / "e/f").read_bytes() == b"x"


def test_a_file_after_its_whiteout_takes_its_place(root: Path) -> None:
    unpack(tar(entry(".wh.f"), entry("f", content=b"new")), root)
    assert (root / "f").read_bytes() == b"new"


def test_what_the_first_docker_kept_for_itself_is_left_out(root: Path) -> None:
    unpack(tar(entry(".wh..wh.plnk", tarfile.DIRTYPE), entry(".wh..wh.aufs"), entry("x", content=b"x")), root)
    assert os.listdir(root) == ["x"]


# ------------------------------------------------------------------------------------------------ anything


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.lists(st.tuples(st.integers(0, 4095), st.integers(0, 255)), min_size=1, max_size=12))
def test_any_damage_is_unpacked_or_refused(tmp_path: Path, where: list[tuple[int, int]]) -> None:
    raw = bytearray(
        tar(
            entry("a/b", content=b"x" * 600), entry("c", tarfile.SYMTYPE, linkname="a"), entry("d", tarfile.DIRTYPE)
        ).getvalue()
    )
    for place, value in where:
        raw[place % len(raw)] = value
    root = tmp_path / os.urandom(8).hex() / "fs"
    root.mkdir(parents=True)
    with contextlib.suppress(RuntimeFault):
        unpack(io.BytesIO(bytes(raw)), root)
    assert list(root.parent.iterdir()) == [root]
