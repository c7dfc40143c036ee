"""Tables of the kernel that all containers share and that nothing counts by cgroup, user or namespace: larger than anybody can fill.

Each entry takes memory that is counted as its holder's, so memory is the limit.  As they come, 65,536 events of asynchronous input and output
(libaio), which databases ask for when they start, are one container's to take.
"""

from __future__ import annotations

from pathlib import Path

from runtime import logs

SETTINGS = Path("/proc/sys")
ROOM = {"fs/aio-max-nr": 1 << 32, "fs/file-max": 1 << 40}
"""sysctl/fs.rst.  32 bytes an event; some 250 an open file, which systemd leaves without a limit, too."""

logger = logs.of(__name__)


def make_room() -> None:
    """Where it cannot be had, containers go on with what there is."""
    for name, wanted in ROOM.items():
        file = SETTINGS / name
        try:
            if int(file.read_text(encoding="ascii")) < wanted:
                file.write_text(str(wanted), encoding="ascii")
        except OSError as error:
            logger.warning("containers share what %s allows, which cannot be raised: %s", name, error)
