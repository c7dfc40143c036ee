"""A tree that changes while it becomes a tar stream: what is something else than it was is left out."""

from __future__ import annotations

import contextlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.image.pack import Packer, Packing

Reads = Callable[..., str]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A link between two files."""
    made = tmp_path / "tree"
    made.mkdir()
    for name in ("a", "z"):
        (made / name).write_text(name)
    (made / "link").symlink_to("a")
    return made


def packed(tree: Path) -> list[str]:
    held = io.BytesIO()
    root = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.closing(Packer(held, Packing())) as packer:
            packer.tree(root, "", "")
    finally:
        os.close(root)
    held.seek(0)
    with tarfile.open(fileobj=held) as archive:
        return archive.getnames()


def to_file(name: str, folder: int) -> None:
    os.unlink(name, dir_fd=folder)
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT, dir_fd=folder))


def to_folder(name: str, folder: int) -> None:
    os.unlink(name, dir_fd=folder)
    os.mkdir(name, dir_fd=folder)


def to_nothing(name: str, folder: int) -> None:
    os.unlink(name, dir_fd=folder)


def test_a_link_is_told(tree: Path) -> None:
    assert packed(tree) == ["a", "link", "z"]


@pytest.mark.parametrize("becomes", [to_file, to_folder, to_nothing])
def test_a_link_that_is_none_any_more_is_left_out(
    tree: Path, monkeypatch: pytest.MonkeyPatch, becomes: Callable[[str, int], None]
) -> None:
    """In the moment between the look at what it is and the one at where it leads."""
    read: Reads = os.readlink

    def late(name: str, *, dir_fd: int) -> str:
        becomes(name, dir_fd)
        return read(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", late)
    assert packed(tree) == ["a", "z"]
