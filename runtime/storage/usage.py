"""How much of the node's disk folders hold that strangers fill: any depth, no link followed, by du(1), which is quick at it."""

from __future__ import annotations

import logging
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

Kind = Literal["bytes", "inodes"]
HOW: Mapping[Kind, Sequence[str]] = {"bytes": ("--block-size=1",), "inodes": ("--inodes",)}
DEADLINE_S = 60.0
AT_ONCE = 500
"""Folders to a call: what the kernel takes of words is bounded."""

logger = logging.getLogger(__name__)


def held(folders: Sequence[Path], kind: Kind) -> Mapping[Path, int]:
    """Of each folder that is there and whose file system it is on.  One that could not be counted within the deadline is left out."""
    found: dict[Path, int] = {}
    for at in range(0, len(folders), AT_ONCE):
        command = ["du", "--summarize", "--one-file-system", *HOW[kind], "--", *map(str, folders[at : at + AT_ONCE])]
        try:
            done = subprocess.run(
                command, capture_output=True, check=False, timeout=DEADLINE_S, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            logger.warning("what containers hold of the disk could not be counted within %g s", DEADLINE_S)
            continue
        for line in done.stdout.decode().splitlines():  # it has complained of what went away meanwhile
            number, _, folder = line.partition("\t")
            found[Path(folder)] = int(number)
    return found
