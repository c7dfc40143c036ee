"""A reboot of the node, for one instance: what a power cut leaves is its home on the disk, and nothing else."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from runtime.engines.native import choice
from runtime.home import Home
from runtime.kernel import cgroup, mount, process
from runtime.kernel.process import Process
from tests.conftest import patience
from tests.traces import traces


def reboot(home: Home, monkeypatch: pytest.MonkeyPatch, other: Path) -> None:
    """``other``: a file for the new boot's id.  Supervisors die first, so that none of them tells an end."""
    for pid_file in (home.run / "conmon").glob("*/conmon.pid"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid_file.read_text()), signal.SIGKILL)
    ids = tuple(path.name for path in home.containers.iterdir())
    root = cgroup.Cgroup(f"/{home.instance}")
    root.kill()
    _gone(root)
    root.remove()
    for pid in (
        int(row.split()[0]) for row in traces(home).processes
    ):  # name servers, and what else serves the instance
        with contextlib.suppress(ProcessLookupError), Process(pid) as served:
            served.send(signal.SIGKILL)
            served.wait(patience(10))
    for path in sorted((*mount.mounts_under(home.run), *mount.mounts_under(home.root)), reverse=True):
        mount.unmount(path, lazy=True)
    for name in {one.split("/")[-1] for one in traces(home, containers=ids).interfaces}:
        subprocess.run(["ip", "link", "delete", name], check=False, capture_output=True)
    for family in ("inet", "bridge", "ip", "netdev"):
        subprocess.run(["nft", "delete", "table", family, home.table], check=False, capture_output=True)
    shutil.rmtree(home.run)
    other.write_text("11111111-2222-3333-4444-555555555555\n")
    monkeypatch.setattr(process, "BOOT_ID", other)
    choice.choose.cache_clear()
    left = traces(home, containers=ids)
    for kind in ("mounts", "cgroups", "interfaces", "processes", "firewall"):
        assert not getattr(left, kind), f"{kind} outlived the reboot"


def _gone(root: cgroup.Cgroup) -> None:
    deadline = time.monotonic() + patience(10)
    while root.populated():
        assert time.monotonic() < deadline
        time.sleep(0.02)
