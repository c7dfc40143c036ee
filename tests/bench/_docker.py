"""The peer: Debian's real dockerd, in network, mount and pid namespaces of its own, so that it leaves nothing behind.

Its bridge, its iptables rules and its mounts live and die with the namespaces; its cgroups and its data have names of
their own and are removed.  What it does for a container is what it does on any machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.kernel.cgroup import Cgroup
from tests.bench._api import Api

CLIENT = "/usr/bin/docker"
READY_WITHIN_S = 30.0
INSIDE = 'ip link set lo up; mount -t tmpfs tmpfs "$0" || exit 1; "$@" & wait $!'
"""The shell is the pid namespace's first process: it reaps dockerd's orphans, and with it everything ends.  What dockerd keeps in
``/run`` on other machines (``$0``) is in memory, as there."""


class Docker:
    """A running dockerd; ``close`` takes away every trace of it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slipway-bench-docker-", dir="/var/tmp"))
        self.parent = f"/slipwaybench{secrets.token_hex(3)}"
        self.socket = f"unix://{self.folder}/docker.sock"
        self.api = Api(f"{self.folder}/docker.sock", parent=self.parent)
        self._run = self.folder / "exec"
        self._run.mkdir()
        self._log = (self.folder / "dockerd.log").open("wb")
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
             "--mount-proc", "sh", "-c", INSIDE, str(self._run), "dockerd", *self._flags()],
            stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            self._wait()
        except BaseException:
            self.close()
            raise

    def _flags(self) -> list[str]:
        options = {
            "--host": self.socket,
            "--data-root": f"{self.folder}/data",
            "--exec-root": str(self._run),
            "--pidfile": f"{self.folder}/dockerd.pid",
            "--bip": "172.31.0.1/20",
            "--cgroup-parent": self.parent,
            "--exec-opt": "native.cgroupdriver=cgroupfs",
            "--log-level": "warn",
        }
        return [word for pair in options.items() for word in pair]

    def _wait(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            if self.run("version", check=False).returncode == 0:
                return
            time.sleep(0.1)
        last = (self.folder / "dockerd.log").read_text(errors="replace")[-1500:]
        raise RuntimeError(f"dockerd did not become ready:\n{last}")

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [CLIENT, "--host", self.socket, *words], check=False, capture_output=True, text=True, timeout=120
        )
        if check and done.returncode:
            raise RuntimeError(f"docker {words[0]} failed: {done.stderr.strip()}")
        return done

    def description(self) -> str:
        """Version, storage driver, cgroup version and runtime, as it says itself."""
        known = json.loads(self.run("info", "--format", "{{json .}}").stdout)
        return (
            f"dockerd {known['ServerVersion']} ({known['Driver']}, cgroup v{known['CgroupVersion']},"
            f" {known['DefaultRuntime']})"
        )

    def load(self, archive: Path) -> None:
        self.run("load", "--input", str(archive))

    def launch(self, name: str, image: str, command: Sequence[str], *flags: str) -> None:
        self.run("run", "--detach", "--name", name, *flags, image, *command)

    def remove(self, *names: str) -> None:
        self.run("rm", "--force", *names)

    def processes(self) -> set[int]:
        """Of the whole tree: dockerd, containerd, shims, proxies, containers, as pids of the host."""
        return descendants(self._process.pid)

    def close(self) -> None:
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            names = self.run("ps", "--all", "--quiet", check=False).stdout.split()
            if names:
                self.remove(*names)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        group = Cgroup(self.parent)
        group.kill()
        group.remove()
        remove_folder(self.folder)


def remove_folder(folder: Path) -> None:
    """The mounts' last users may be ending still: the kernel refuses for a moment."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)
    shutil.rmtree(folder)


def parent_of(pid: int) -> int:
    """0: it has none, or is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def descendants(root: int) -> set[int]:
    """``root`` and all below it, by parent pid."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            parents[int(entry.name)] = parent_of(int(entry.name))
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


@contextlib.contextmanager
def docker() -> Iterator[Docker]:
    peer = Docker()
    try:
        yield peer
    finally:
        peer.close()
