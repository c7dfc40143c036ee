"""Deleting folders that somebody else filled: any depth, no link followed, few descriptors."""

from __future__ import annotations

import os
from pathlib import Path

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> int:
    """Returns how many bytes of files that frees.  Gone already: does nothing.  One caller at a time.

    Raises OSError for what cannot be deleted.

    A folder in a folder is moved up to ``path`` before it is looked into, so depth costs neither stack nor descriptors
    and no name gets too long.
    """
    try:
        root = os.open(path, FLAGS)
    except FileNotFoundError:
        return 0
    except NotADirectoryError:
        found = path.lstat()
        path.unlink(missing_ok=True)
        return freed_by(found)
    try:
        freed = _empty(root)
    finally:
        os.close(root)
    path.rmdir()
    return freed


def freed_by(found: os.stat_result) -> int:
    """Bytes on disk that deleting this name gives back: none while the file has others."""
    return found.st_blocks * 512 if found.st_nlink == 1 else 0


def _empty(root: int) -> int:
    waiting, freed = _delete_files(root)
    mark, number = os.urandom(4).hex(), 0
    while waiting:
        name = waiting.pop()
        folder = os.open(name, FLAGS, dir_fd=root)
        try:
            children, size = _delete_files(folder)
            freed += size
            for child in children:
                number += 1
                moved = f".deleted-{mark}-{number}"
                os.rename(child, moved, src_dir_fd=folder, dst_dir_fd=root)
                waiting.append(moved)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=root)
    return freed


def _delete_files(folder: int) -> tuple[list[str], int]:
    """Everything but folders; returns these, and the bytes that it freed."""
    folders, freed = [], 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                freed += freed_by(entry.stat(follow_symlinks=False))
                os.unlink(entry.name, dir_fd=folder)
    return folders, freed
