"""Everything that an instance has in the kernel and on disk, as sets of names: taken before and after, and compared."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from dataclasses import dataclass, fields
from pathlib import Path

from runtime.home import Home
from runtime.kernel.loop import devices_of
from runtime.kernel.mount import mounts_under
from runtime.kernel.process import pids

CGROUPS = Path("/sys/fs/cgroup")
VOLATILE = re.compile(r"/locks(/|$)|/up\.lock$|/ctr\.log\.(current|1)$")
"""A lock's file may stay: it holds nothing.  Generations of a log come and go beside the log itself, which counts."""


@dataclass(frozen=True, slots=True)
class Traces:
    mounts: frozenset[str]
    cgroups: frozenset[str]
    interfaces: frozenset[str]
    firewall: frozenset[str]
    """Lines of the instance's nftables tables, without counters and handles: addresses and ports are elements of sets."""
    processes: frozenset[str]
    files: frozenset[str]
    """Under HOME/runtime and RUN: images, containers, claimed addresses and ports, sockets."""
    loops: frozenset[str]
    """Files that have a loop device; one goes when the last process's copy of its mounts is gone, so they are waited for."""

    def new_since(self, before: Traces) -> dict[str, list[str]]:
        """What is here and was not there, by kind; empty when nothing is."""
        found = {one.name: sorted(getattr(self, one.name) - getattr(before, one.name)) for one in fields(self)}
        return {kind: names for kind, names in found.items() if names}

    def lost_since(self, before: Traces) -> dict[str, list[str]]:
        return before.new_since(self)


def traces(home: Home, *, containers: tuple[str, ...] = ()) -> Traces:
    """``containers``: ids whose interfaces are looked for by name too, should they hang on no bridge."""
    return Traces(
        mounts=frozenset(str(path) for root in (home.root, home.run) for path in mounts_under(root)),
        cgroups=frozenset(_cgroups(home.instance)),
        interfaces=frozenset(_interfaces(home, containers)),
        firewall=frozenset(_firewall(home.table)),
        processes=frozenset(_processes(home)),
        files=frozenset(_files(home)),
        loops=frozenset(_loops(home)),
    )


def _loops(home: Home) -> set[str]:
    deadline = time.monotonic() + 2
    while True:
        found = set(map(str, devices_of(home.root).values()))
        mounted = {str(point) for point in (*mounts_under(home.run), *mounts_under(home.root))}
        if not found or mounted or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def _cgroups(instance: str) -> set[str]:
    found = set()
    for root in (CGROUPS, *(entry for entry in CGROUPS.iterdir() if entry.is_dir() and not entry.is_symlink())):
        for folder, _, _ in os.walk(root / instance):
            found.add(folder)
    return found


def _interfaces(home: Home, containers: tuple[str, ...]) -> set[str]:
    """Bridges of the instance's tenants with their members, and veths of the containers named."""
    here = Path("/sys/class/net")
    bridges = {home.bridge(path.stem) for path in home.tenants.glob("*.json")}
    bridges |= {home.bridge(path.parent.name, path.stem) for path in home.networks.glob("*/*.json")}
    names = [name for id in containers for name in (home.veth(id), *home.shapers(id))]
    found = {name for name in names if (here / name).exists()}
    for bridge in bridges:
        if (here / bridge).exists():
            found.add(bridge)
            found |= {f"{bridge}/{member.name}" for member in (here / bridge / "brif").iterdir()}
    return found


def _firewall(table: str) -> set[str]:
    found = set()
    tables = subprocess.run(["nft", "list", "tables"], check=True, capture_output=True, text=True).stdout
    for family in re.findall(rf"^table (\w+) {table}$", tables, re.MULTILINE):
        listed = subprocess.run(["nft", "list", "table", family, table], check=False, capture_output=True, text=True)
        lines = re.sub(r"counter packets \d+ bytes \d+", "counter", listed.stdout)
        found |= {
            f"{family}: {word.strip()}" for line in lines.splitlines() for word in line.split(",") if word.strip(" {}")
        }
    return found


def _processes(home: Home) -> set[str]:
    """Those that name the instance's folders, and those in its cgroups; not this test itself.

    Nor what is dead and waits only for the system's first process to collect it, which is nobody else's to do.
    """
    wanted, group = (os.fsencode(home.root), os.fsencode(f"{home.run}/")), os.fsencode(f":/{home.instance}/")
    found = set()
    for pid in pids():
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command = _of(pid, "cmdline").replace(b"\0", b" ")
            ours = any(text in command for text in wanted) or group in _of(pid, "cgroup")
            if ours and _of(pid, "stat").rpartition(b")")[2].split()[:2] != [b"Z", b"1"]:
                found.add(f"{pid} {command[:120].decode(errors='replace')}")
    return found


def _of(pid: int, name: str) -> bytes:
    with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
        return file.readall()


def _files(home: Home) -> set[str]:
    found = set()
    for root in (home.state, home.run):
        for folder, folders, files in os.walk(root):
            if "layers" in Path(folder).parts and Path(folder).name == "fs":
                folders.clear()
                continue
            folders[:] = [name for name in folders if not os.path.ismount(os.path.join(folder, name))]
            found |= {os.path.join(folder, name) for name in (*files, *folders)}
    return {path for path in found if not VOLATILE.search(path)}
