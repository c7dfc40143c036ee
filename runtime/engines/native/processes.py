"""The processes of a container, as /proc tells of them (proc(5))."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from runtime.api import ProcessRow
from runtime.engines.native import passwd
from runtime.kernel.process import status_of

TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
LONGEST_COMMAND = 4096


def rows(pids: Iterable[int], uid_base: int, root: Path) -> tuple[ProcessRow, ...]:
    """``root`` is the container's, for the names of users.  Those that end meanwhile are left out."""
    names = passwd.names(root)
    found = [row for row in (_row(pid, uid_base, names) for pid in pids) if row is not None]
    return tuple(sorted(found, key=lambda row: row.pid))


def _row(pid: int, uid_base: int, names: dict[int, str]) -> ProcessRow | None:
    folder = Path(f"/proc/{pid}")
    try:
        status = status_of(pid)
        stat = (folder / "stat").read_bytes()
        command = (folder / "cmdline").read_bytes()[:LONGEST_COMMAND]
    except (FileNotFoundError, ProcessLookupError):
        return None
    after = stat[stat.rindex(b")") + 2 :].split()
    uid = int(status["Uid"].split()[1]) - uid_base
    name = stat[stat.index(b"(") + 1 : stat.rindex(b")")].decode(errors="replace")
    return ProcessRow(
        pid=int(status["NSpid"].split()[-1]),
        node_pid=pid,
        user=names.get(uid, str(uid)),
        cpu_ns=(int(after[11]) + int(after[12])) * 10**9 // TICKS,
        rss_bytes=int(after[21]) * PAGE,
        command=command.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace") or f"[{name}]",
    )
