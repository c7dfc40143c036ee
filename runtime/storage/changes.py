"""What an overlay's upper changed of the folders below it (overlayfs.rst), without mounting anything."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from runtime.api import Change
from runtime.kernel.beneath import FOLDER, open_plainly
from runtime.kernel.overlay import is_opaque, is_whiteout

LeftOut = Callable[[str, os.stat_result], bool]
"""Whether what is at this path, without a slash ahead, is no change."""


def nothing(_path: str, _found: os.stat_result) -> bool:
    return False


def changes(upper: int, lowers: Sequence[Path], left_out: LeftOut = nothing) -> Iterator[Change]:
    """``lowers`` bottom first.  A folder comes before what is in it; what changes meanwhile is told as it is when its turn comes.

    A folder that is there for what is ``left_out`` alone, and has the mode that it had, is none either.
    """
    with contextlib.ExitStack() as opened:
        layers = [_kept(opened, os.open(lower, FOLDER | os.O_CLOEXEC)) for lower in reversed(lowers)]
        waiting = [""]
        while waiting:
            path = waiting.pop()
            with contextlib.suppress(FileNotFoundError, NotADirectoryError), contextlib.ExitStack() as here:
                folder = _kept(here, open_plainly(upper, path or ".", FOLDER))
                below = _stack(here, layers, path)
                folders = []
                for change, is_folder in _folder(folder, path, below, left_out):
                    yield change
                    if is_folder:
                        folders.append(change.path.removeprefix("/"))
                waiting += reversed(folders)


def _kept(stack: contextlib.ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor


def _folder(folder: int, path: str, below: Sequence[int], left_out: LeftOut) -> Iterator[tuple[Change, bool]]:
    names = sorted(os.listdir(folder))
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            here, before = _join(path, name), _before(below, name)
            if is_whiteout(found):
                if before is not None:
                    yield Change("deleted", f"/{here}"), False
            elif not left_out(here, found) and not _carries(folder, here, found, before, left_out):
                yield Change("added" if before is None else "changed", f"/{here}"), stat.S_ISDIR(found.st_mode)
    if is_opaque(folder):
        hidden = {name for lower in below for name in os.listdir(lower)}.difference(names)
        yield from (
            (Change("deleted", f"/{_join(path, name)}"), False) for name in sorted(hidden) if _before(below, name)
        )


def _before(folders: Sequence[int], name: str) -> os.stat_result | None:
    """What these, top first, show together."""
    for folder in folders:
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            return None if is_whiteout(found) else found
    return None


def _carries(folder: int, path: str, found: os.stat_result, before: os.stat_result | None, left_out: LeftOut) -> bool:
    """Whether it is a folder of the image with the mode that it had, and all that is new in it is left out."""
    if before is None or not stat.S_ISDIR(found.st_mode) or found.st_mode != before.st_mode:
        return False
    with (
        contextlib.suppress(OSError),
        contextlib.ExitStack() as opened,
    ):  # of what changes meanwhile each is told as it is
        inner = _kept(opened, open_plainly(folder, path.rpartition("/")[2], FOLDER))
        names = os.listdir(inner)
        left = (left_out(_join(path, name), os.stat(name, dir_fd=inner, follow_symlinks=False)) for name in names)
        return bool(names) and all(left) and not is_opaque(inner)
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
