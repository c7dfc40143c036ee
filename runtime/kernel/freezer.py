"""Freezing a cgroup (cgroup-v1/freezer-subsystem.rst; cgroup-v2.rst, cgroup.freeze).

On version 1 a frozen process does not die by SIGKILL before it is thawed; on version 2 it does.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from pathlib import Path

from runtime.errors import DeadlineExceeded, HostUnfit
from runtime.kernel.hierarchy import ROOT, version

DEADLINE_S = 10.0
POLL_S = 0.002
ANEW_EVERY = 50
ANEW_S = 0.01
"""Version 1 may wait for good for a process that was forked in the very moment: thawed for a moment, it takes the next try."""


def _file(group: str, name: str) -> Path:
    return (ROOT if version() == 2 else ROOT / "freezer") / group.lstrip("/") / name


def frozen(group: str) -> bool:
    """Whether all of it stands still; False for a cgroup that is not there."""
    try:
        if version() == 2:
            return "frozen 1" in _file(group, "cgroup.events").read_text(encoding="ascii").splitlines()
        return _file(group, "freezer.state").read_text(encoding="ascii").strip() == "FROZEN"
    except OSError:
        return False


def freeze(group: str) -> None:
    """Returns when all of it stands still.  Raises HostUnfit, FileNotFoundError (no such cgroup), DeadlineExceeded; then it is thawed."""
    if version() == 1 and not (ROOT / "freezer").is_dir():
        raise HostUnfit(
            "The kernel offers no cgroup controller freezer to containers.",
            hint="Boot without cgroup_disable= and let nothing else hold the controllers.",
        )
    deadline = time.monotonic() + DEADLINE_S
    file, word = ("cgroup.freeze", "1") if version() == 2 else ("freezer.state", "FROZEN")
    for number in itertools.count(1):
        _file(group, file).write_text(
            word, encoding="ascii"
        )  # version 1: again, for what was not to be frozen just then
        if frozen(group):
            return
        if version() == 1 and number % ANEW_EVERY == 0:
            thaw(group)
            time.sleep(ANEW_S)
        if time.monotonic() > deadline:
            thaw(group)
            raise DeadlineExceeded("The container could not be frozen within 10 seconds.", hint="Try again.")
        time.sleep(POLL_S)


def thaw(group: str) -> None:
    """A cgroup that is not there is not frozen either."""
    file, word = ("cgroup.freeze", "0") if version() == 2 else ("freezer.state", "THAWED")
    with contextlib.suppress(OSError):
        _file(group, file).write_text(word, encoding="ascii")
