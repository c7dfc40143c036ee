"""Deleting folders that somebody else filled: any depth, no link followed, few descriptors."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Gone already: does nothing.  One caller at a time.  Raises OSError for what cannot be deleted.

    A folder in a folder is moved up to ``path`` before it is looked into, so depth costs neither stack nor descriptors
    and no name gets too long.
    """
    try:
        root = os.open(path, FLAGS)
    except FileNotFoundError:
        return
    except NotADirectoryError:
        path.unlink(missing_ok=True)
        return
    try:
        _empty(root)
    finally:
        os.close(root)
    path.rmdir()


def _empty(root: int) -> None:
    waiting = _delete_files(root)
    mark, number = secrets.token_hex(4), 0
    while waiting:
        name = waiting.pop()
        folder = os.open(name, FLAGS, dir_fd=root)
        try:
            for child in _delete_files(folder):
                number += 1
                moved = f".deleted-{mark}-{number}"
                os.rename(child, moved, src_dir_fd=folder, dst_dir_fd=root)
                waiting.append(moved)
        finally:
            os.close(folder)
        os.rmdir(name, dir_fd=root)


def _delete_files(folder: int) -> list[str]:
    """Everything but folders; returns these."""
    folders = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
            else:
                os.unlink(entry.name, dir_fd=folder)
    return folders
