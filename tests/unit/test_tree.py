"""Deleting what somebody else filled: deep, wide, and full of links."""

from __future__ import annotations

import os
from pathlib import Path

from runtime.kernel.tree import remove_tree


def deep(root: Path, depth: int) -> None:
    """Deeper than any path name can say."""
    here = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def test_a_folder_deeper_than_a_path_name_is_deleted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    deep(root, 2500)
    remove_tree(root)
    assert list(tmp_path.iterdir()) == []


def test_links_are_deleted_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    root = tmp_path / "root"
    (root / "a" / "b").mkdir(parents=True)
    (root / "a" / "door").symlink_to(outside)
    (root / "file").symlink_to(outside / "kept")
    remove_tree(root)
    remove_tree(root)
    assert not root.exists()
    assert (outside / "kept").read_text() == "kept"
    (tmp_path / "door").symlink_to(outside)
    remove_tree(tmp_path / "door")
    assert [path.name for path in outside.iterdir()] == ["kept"]
