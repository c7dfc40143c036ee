"""Opening below a folder while somebody renames: what is moved out of it, and what has nothing to do with it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.errors import DeadlineExceeded
from runtime.kernel import beneath

RENAMER = """
import os, sys
a, b = sys.argv[1:]
print("ready", flush=True)
while True:
    os.rename(a, b)
    os.rename(b, a)
"""
OPENS = 20_000
"""Of which dozens met EAGAIN, where there was a second processor."""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "root/d/e").mkdir(parents=True)
    (tmp_path / "root/link").symlink_to("d/e/../../d/e")
    descriptor = os.open(tmp_path / "root", beneath.FOLDER)
    yield descriptor
    os.close(descriptor)


def saying(*numbers: int) -> Callable[..., int]:
    """The kernel, which answers with these errors first."""
    left, real = list(numbers), beneath._open

    def answer(folder: int, path: str, how: beneath._OpenHow) -> int:
        if left:
            number = left.pop(0)
            raise OSError(number, os.strerror(number), path)
        return real(folder, path, how)

    return answer


@pytest.mark.parametrize(
    ("said", "told"),
    [(errno.EXDEV, errno.ENOENT), (errno.ENOTDIR, errno.ENOTDIR), (errno.EIO, errno.EIO)],
)
def test_what_is_moved_out_meanwhile_is_not_there(
    root: int, monkeypatch: pytest.MonkeyPatch, said: int, told: int
) -> None:
    monkeypatch.setattr(beneath, "_open", saying(said))
    with pytest.raises(OSError, match=os.strerror(told)) as found:
        beneath.open_in_root(root, "d", beneath.FOLDER)
    assert found.value.errno == told


def test_what_the_kernel_wants_to_be_asked_again_is_asked_again(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beneath, "_open", saying(*[errno.EAGAIN] * (beneath.TRIES - 1)))
    os.close(beneath.open_in_root(root, "link", beneath.FOLDER))


def test_a_kernel_that_never_answers_is_no_missing_folder(
    root: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beneath, "_open", saying(*[errno.EAGAIN] * beneath.TRIES))
    with pytest.raises(DeadlineExceeded, match="renamed on the node"):
        beneath.open_in_root(root, "link", beneath.FOLDER)
    monkeypatch.setattr(beneath, "_open", saying(*[errno.EAGAIN] * beneath.TRIES))
    with pytest.raises(DeadlineExceeded, match="renamed on the node"):
        beneath.make_folders(root, ("new",), os.getuid())
    assert not (tmp_path / "root/new").exists()


def test_what_others_rename_elsewhere_takes_nothing_away(root: int, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    names = [str(tmp_path / "other"), str(tmp_path / "another")]
    with subprocess.Popen([sys.executable, "-c", RENAMER, *names], stdout=subprocess.PIPE) as renamer:
        try:
            assert renamer.stdout
            assert renamer.stdout.readline() == b"ready\n"
            for _ in range(OPENS):
                os.close(beneath.open_in_root(root, "link", beneath.FOLDER))
        finally:
            renamer.kill()
