"""What is kept for ending things on a full disk, where the disk is played."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime.storage import reserve
from runtime.storage.reserve import BYTES, FILES, PART, Reserve


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "reserve"


def kept(folder: Path) -> int:
    return len(os.listdir(folder))


def full_until(monkeypatch: pytest.MonkeyPatch, folder: Path, left: int, code: int = errno.ENOSPC) -> list[bytes]:
    """Nothing can be written while more than ``left`` files are kept.  What was written."""
    written: list[bytes] = []

    def write(path: Path, data: bytes) -> None:
        if kept(folder) > left:
            raise OSError(code, os.strerror(code))
        written.append(data)

    monkeypatch.setattr(reserve, "atomic_write", write)
    return written


def test_it_has_room_for_content_and_for_files(folder: Path) -> None:
    assert Reserve(folder).fill()
    assert kept(folder) == FILES
    assert all(file.stat().st_blocks * 512 >= BYTES for file in folder.iterdir())


def test_a_part_of_it_is_given_up_at_a_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Reserve(folder)
    made.fill()
    written = full_until(monkeypatch, folder, FILES - 2 * PART)
    made.write(folder.with_name("status"), b"ended")
    assert written == [b"ended"]
    assert kept(folder) == FILES - 2 * PART
    assert made.fill()
    assert kept(folder) == FILES


def test_when_all_is_given_up_the_refusal_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Reserve(folder)
    made.fill()
    full_until(monkeypatch, folder, -1)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        made.write(folder.with_name("status"), b"ended")
    assert kept(folder) == 0


def test_for_another_fault_nothing_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Reserve(folder)
    made.fill()
    full_until(monkeypatch, folder, 0, errno.EROFS)
    with pytest.raises(OSError, match=os.strerror(errno.EROFS)):
        made.write(folder.with_name("status"), b"ended")
    assert kept(folder) == FILES


def test_without_room_it_is_told_and_what_is_there_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = iter([True] * 5)

    def allocate(descriptor: int, start: int, size: int) -> None:
        if not next(room, False):
            raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    assert not Reserve(folder).fill()
    assert kept(folder) == 5


def test_the_one_file_of_an_earlier_version_becomes_it(folder: Path) -> None:
    folder.write_bytes(bytes(BYTES))
    assert Reserve(folder).fill()
    assert kept(folder) == FILES
