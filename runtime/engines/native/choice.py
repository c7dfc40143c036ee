"""runc or crun: the first that makes a container on this node, tried once a boot.

crun before 1.9, for one, refuses hosts that mix both cgroup versions.
"""

from __future__ import annotations

import functools
import json
import os
import shutil

from runtime.engines.native.oci import Runtime
from runtime.errors import HostUnfit, RuntimeFault
from runtime.home import Home, atomic_write

CANDIDATES = ("runc", "crun")
TRIAL = "self-test"
"""Stands for a container's id and tenant, and names a folder of RUN."""


@functools.cache
def choose(home: Home) -> Runtime:
    """Raises HostUnfit with what each of them said."""
    reasons = []
    for name in CANDIDATES:
        path = shutil.which(name)
        if path is None:
            reasons.append(f"{name} is not installed")
            continue
        runtime = Runtime(path, home.runc)
        try:
            _try_once_a_boot(home, runtime)
        except HostUnfit:
            raise  # the node's own, whichever runtime it has
        except RuntimeFault as fault:
            reasons.append(f"{name}: {fault.message}")
        else:
            return runtime
    raise HostUnfit(
        f"No container runtime works on this node ({'; '.join(reasons)}).", hint="Install the package runc."
    )


def _try_once_a_boot(home: Home, runtime: Runtime) -> None:
    """RUN is gone after a reboot, and with it what was passed."""
    status = os.stat(runtime.path)
    mark = json.dumps([runtime.path, status.st_size, status.st_mtime_ns]).encode()
    passed = home.run / TRIAL / "passed.json"

    def has_passed() -> bool:
        return passed.exists() and passed.read_bytes() == mark

    if has_passed():
        return
    from runtime.engines.native import trial

    with home.lock(TRIAL):
        if not has_passed():  # by another that was first
            trial.run(home, runtime)
            atomic_write(passed, mark)
