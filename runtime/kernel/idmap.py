"""User namespaces as descriptors, for id-mapped mounts."""

from __future__ import annotations

import os
import subprocess
import threading

_lock = threading.Lock()
_cache: dict[tuple[int, int], int] = {}


def userns_fd(base: int, count: int = 65536) -> int:
    """A user namespace that maps ids 0..count-1 to base..base+count-1.  Cached for the process, never closed.

    The namespace is made by a short-lived ``unshare`` child: forking a threaded process to call unshare(2) in it is not safe.
    Raises OSError.
    """
    with _lock:
        if (base, count) not in _cache:
            _cache[base, count] = _make(base, count)
        return _cache[base, count]


def _make(base: int, count: int) -> int:
    command = ["unshare", "--user", "--", "sh", "-c", "echo; read -r _"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            if not child.stdout or not child.stdout.readline():
                raise OSError("unshare could not make a user namespace")
            for name in ("uid_map", "gid_map"):
                with open(f"/proc/{child.pid}/{name}", "w", encoding="ascii") as table:
                    table.write(f"0 {base} {count}")
            return os.open(f"/proc/{child.pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            child.kill()
