"""Which disk carries a folder, as the block controllers of cgroups name it: ``major:minor`` of the whole disk, no partition's."""

from __future__ import annotations

import os
from pathlib import Path

BLOCK = Path("/sys/dev/block")


def carrying(path: Path) -> str | None:
    """None where there is none: a file system in memory, over a network, or of several disks."""
    number = os.stat(path).st_dev
    found = f"{os.major(number)}:{os.minor(number)}"
    if os.major(number) == 0:  # numbered by the file system itself (btrfs)
        found = _source(found) or ""
    entry = BLOCK / found
    if not found or not entry.exists():
        return None
    whole = entry.resolve().parent if (entry / "partition").exists() else entry
    return (whole / "dev").read_text(encoding="ascii").strip()


def _source(device: str) -> str | None:
    """Of the block device that a file system is mounted from (proc(5), mountinfo)."""
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        words = line.split()
        source = words[words.index("-") + 2]
        if words[2] == device and source.startswith("/dev/"):
            try:
                number = os.stat(source).st_rdev
            except OSError:
                return None
            return f"{os.major(number)}:{os.minor(number)}"
    return None


def scheduler(device: str) -> str:
    """Of the disk's queue: ``bfq``, ``mq-deadline``, ``none``; empty where it has no choice."""
    try:
        words = (BLOCK / device / "queue/scheduler").read_text(encoding="ascii").split()
    except OSError:
        return ""
    return next((word.strip("[]") for word in words if word.startswith("[")), "")
