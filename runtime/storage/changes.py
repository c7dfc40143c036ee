"""What an overlay's upper changed of the folders below it (overlayfs.rst), without mounting anything."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.api import Change
from runtime.kernel.beneath import FOLDER, open_plainly
from runtime.kernel.overlay import is_opaque, is_whiteout


def changes(upper: int, lowers: Sequence[Path]) -> Iterator[Change]:
    """``lowers`` bottom first.  A folder comes before what is in it; what changes meanwhile is told as it is when its turn comes."""
    with contextlib.ExitStack() as opened:
        layers = [_kept(opened, os.open(lower, FOLDER | os.O_CLOEXEC)) for lower in reversed(lowers)]
        waiting = [""]
        while waiting:
            path = waiting.pop()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), contextlib.ExitStack() as here:
                folder = _kept(here, open_plainly(upper, path or ".", FOLDER))
                below = _stack(here, layers, path)
                folders = []
                for change, is_folder in _folder(folder, path, below):
                    yield change
                    if is_folder:
                        folders.append(change.path.removeprefix("/"))
                waiting += reversed(folders)


def _kept(stack: contextlib.ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _folder(folder: int, path: str, below: Sequence[int]) -> Iterator[tuple[Change, bool]]:
    names = sorted(os.listdir(folder))
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            had = _has(below, name)
            if not is_whiteout(found):
                yield Change("changed" if had else "added", f"/{_join(path, name)}"), stat.S_ISDIR(found.st_mode)
            elif had:
                yield Change("deleted", f"/{_join(path, name)}"), False
    if is_opaque(folder):
        hidden = {name for lower in below for name in os.listdir(lower)}.difference(names)
        yield from ((Change("deleted", f"/{_join(path, name)}"), False) for name in sorted(hidden) if _has(below, name))


def _has(folders: Sequence[int], name: str) -> bool:
    """Whether these, top first, show it together."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            return not is_whiteout(os.stat(name, dir_fd=folder, follow_symlinks=False))
    return False


def _stack(opened: contextlib.ExitStack, layers: Sequence[int], path: str) -> list[int]:
    """The folders of that name that show through each other, top first; none when the image has no folder there."""
    found: list[int] = []
    for layer in layers:
        seen = _descend(opened, layer, path)
        if seen is None:
            break
        folder, ends = seen
        found += [folder] if folder is not None else []
        if ends:
            break
    return found


def _descend(opened: contextlib.ExitStack, layer: int, path: str) -> tuple[int | None, bool] | None:
    """The folder in one layer, if it is there, and whether what lies below is hidden; None: hidden by what is no folder."""
    here, hides = layer, False
    for name in filter(None, path.split("/")):
        try:
            found = os.stat(name, dir_fd=here, follow_symlinks=False)
        except FileNotFoundError:
            return None, hides
        if not stat.S_ISDIR(found.st_mode):
            return None
        here = _kept(opened, os.open(name, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here))
        hides = hides or is_opaque(here)
    return here, hides


def _join(above: str, name: str) -> str:
    return f"{above}/{name}" if above else name
