"""How much of the node's disk folders hold that strangers fill: any depth, no link followed, by du(1), which is quick at it."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

Kind = Literal["bytes", "inodes"]
HOW: Mapping[Kind, Sequence[str]] = {"bytes": ("--block-size=1",), "inodes": ("--inodes",)}
AT_ONCE = 500
"""Folders to a call: what the kernel takes of words is bounded."""
SHARE = 4
"""A tree may take this part of the time that is left when it is begun with; the last ones may take more."""
PIPE = 1 << 16
PATIENCE_S = 5.0
"""For a figure that somebody looks at: some millions of names."""


def on_disk(folder: Path) -> int | None:
    """Bytes; hard links count once.  None: there is no such folder, or it has too many names to count in a moment."""
    return held([folder], "bytes", time.monotonic() + PATIENCE_S).get(folder)


def held(folders: Sequence[Path], kind: Kind, by: float) -> Mapping[Path, int]:
    """Of each folder that is there and whose file system it is on, counted in this order until it is ``by`` (monotonic).

    One that takes more than its part of the time is given up and those after it are counted yet.  Both, what was given up and what
    there was no time for, are left out: whoever asked for it sees that it is not there.
    """
    found: dict[Path, int] = {}
    begun = 0
    while begun < len(folders) and time.monotonic() < by:
        batch = folders[begun : begun + AT_ONCE]
        counted, through = _counted(batch, kind, len(folders) - begun, by)
        found |= counted
        last = max((batch.index(folder) for folder in counted), default=-1)
        begun += len(batch) if through else last + 2  # what du was at is given up
    return found


def _counted(batch: Sequence[Path], kind: Kind, left: int, by: float) -> tuple[dict[Path, int], bool]:
    """What du told, a line for each folder as soon as it is done, and whether it was through with all before one took too long."""
    found: dict[Path, int] = {}
    # it complains of what went away meanwhile: nobody listens
    command = ["du", "--summarize", "--one-file-system", *HOW[kind], "--", *map(str, batch)]
    du = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    with du, selectors.DefaultSelector() as selector:
        assert du.stdout is not None
        selector.register(du.stdout, selectors.EVENT_READ)
        until, rest = _until(left, by), b""
        while selector.select(max(0.0, until - time.monotonic())):
            read = os.read(du.stdout.fileno(), PIPE)
            if not read:
                return found, True
            *lines, rest = (rest + read).split(b"\n")
            for number, folder in (line.split(b"\t", 1) for line in lines):
                found[Path(os.fsdecode(folder))] = int(number)
            until = _until(left - len(found), by)
        du.kill()
    return found, False


def _until(left: int, by: float) -> float:
    """When the next tree is given up."""
    now = time.monotonic()
    return now + (by - now) / min(SHARE, max(1, left))
