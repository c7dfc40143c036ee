"""Processes by pidfd, so that a signal never hits a process that took over a pid."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from runtime.kernel.ready import readable

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
EXITING = 0x4
OCI_INIT = "runc:[2:INIT]"
"""The name of runc's process that becomes the container's first one."""


def boot_id() -> str:
    """Another after each start of the kernel."""
    return BOOT_ID.read_text(encoding="ascii").strip()


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which the process started (proc(5), stat field 22); None when there is no such process.

    With the pid it names a process for good.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat[stat.rindex(b")") + 2 :].split()
    threads = int(fields[17])
    # a first thread that has ended is a zombie until the others have, too
    return None if fields[0] == b"X" or (fields[0] == b"Z" and threads <= 1) else int(fields[19])


def ends(pid: int) -> bool:
    """Whether it is ending or has ended (proc(5), stat field 9, PF_EXITING).  Raises FileNotFoundError or ProcessLookupError when there is none."""
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    return bool(int(stat[stat.rindex(b")") + 2 :].split()[6]) & EXITING)


def age_s(started: int) -> float:
    """Of a process whose :func:`start_time` this is."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def boottime_ns(started: int) -> int:
    """CLOCK_BOOTTIME at a :func:`start_time`, to the tick."""
    return started * 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def session_id(pid: int) -> int | None:
    """Of the session (setsid(2)) it is in, as the host numbers it; None when there is no such process."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def pids() -> Iterator[int]:
    """Of every process that this one can see."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def arguments_of(pid: int) -> list[bytes]:
    """Of its command line; empty when there is no such process, or it is a thread of the kernel."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return []


def children_of(pid: int) -> tuple[int, ...]:
    """Of all its threads, also those that have ended and that nobody has waited for; none when there is no such process.

    One that another's end hides for a moment may be missing (proc(5), ``children``).
    """
    found: list[int] = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_bytes().split())
    except (FileNotFoundError, ProcessLookupError):
        return tuple(found)
    return tuple(found)


def shows_children() -> bool:
    """Whether this kernel has what :func:`children_of` reads."""
    return Path("/proc/thread-self/children").exists()


def levels_of(pid: int) -> int:
    """In how many pid namespaces it has a number, from the one that /proc is of downwards: of a process beside us 1.  Raises as :func:`status_of`."""
    return len(status_of(pid)["NSpid"].split())


def status_of(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status (proc(5)).  Raises FileNotFoundError or ProcessLookupError when there is no such process.

    A process' own name, the first of them, has any bytes but an end of line, other ends of line among them.
    """
    rows = Path(f"/proc/{pid}/status").read_bytes().decode("utf-8", "replace").split("\n")
    return {key: value.strip() for key, _, value in (row.partition(":") for row in rows)}


class Process:
    """An open pidfd.  Raises ProcessLookupError when ``pid`` is gone or is not the one that started at ``started``."""

    def __init__(self, pid: int, started: int | None = None) -> None:
        self.pid = pid
        self._fd = os.pidfd_open(pid)
        if started is not None and start_time(pid) != started:
            os.close(self._fd)
            raise ProcessLookupError(pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        os.close(self._fd)

    def hears(self, number: int) -> bool:
        """Whether the first process of a container seems to be ready for this signal: it blocks it, has a handler for it, or has children.

        The kernel drops every signal that such a process has no handler for, but SIGKILL and SIGSTOP (pid_namespaces(7)).  A program just
        after its start has none yet, and :data:`OCI_INIT`, which it replaces, has those of Go.  An init waits in sigtimedwait(2), which
        shows nothing; but by the time it has a child it blocks.  True when it has ended.
        """
        if number in {signal.SIGKILL, signal.SIGSTOP}:
            return True
        try:
            status = status_of(self.pid)
            children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return True
        taken = int(status["SigBlk"], 16) | int(status["SigCgt"], 16)
        return status["Name"] != OCI_INIT and bool(children or taken >> number - 1 & 1)

    def send(self, number: int) -> None:
        """A process that has just ended is not an error."""
        try:
            signal.pidfd_send_signal(self._fd, number)
        except ProcessLookupError:
            return

    def wait(self, timeout_s: float) -> bool:
        """True once it has ended.  Raises OSError (EBADF) when it is closed."""
        return bool(readable([self._fd], timeout_s))
