"""The other peer: Debian's podman, in network, mount and pid namespaces of its own, with a ``/run``, a ``/dev/shm`` and a
``/var/lib`` that end with them.

Its API service is what a program calls; its command line enters the namespaces (``nsenter``, 2 ms) and is what a person calls.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from runtime.kernel.cgroup import Cgroup
from tests.bench._api import Api
from tests.bench._docker import READY_WITHIN_S, descendants, parent_of, remove_folder

PROGRAM = "/usr/bin/podman"
INSIDE = """
for folder in /run /dev/shm /var/lib; do mount -t tmpfs tmpfs $folder || exit 1; done
ip link set lo up || exit 1
"$@" & wait $!
"""
"""As the docker peer's: this shell is the pid namespace's first process."""
CONFIGURATION = """
[containers]
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[network]
network_backend = "netavark"
network_config_dir = "{folder}/networks"
default_subnet = "172.30.0.0/20"
"""
"""runc as docker and we: crun of Debian 12 refuses the mixed layout of cgroup versions."""


class Podman:
    """A podman with its API served; ``close`` takes away every trace of it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slipway-bench-podman-", dir="/var/tmp"))
        self.parent = f"/slipwaybenchp{secrets.token_hex(3)}"
        (self.folder / "containers.conf").write_text(CONFIGURATION.format(folder=self.folder))
        (self.folder / "networks").mkdir()
        self._environment = {
            **os.environ,
            "CONTAINERS_CONF": f"{self.folder}/containers.conf",
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        }
        self._podman = [
            PROGRAM, "--root", f"{self.folder}/data", "--runroot", "/run/podman-storage", "--tmpdir", "/run/podman-tmp",
            "--storage-driver", "overlay",
        ]  # fmt: skip
        socket = f"{self.folder}/podman.sock"
        self.api = Api(socket, parent=self.parent)
        self._log = (self.folder / "service.log").open("wb")
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
             "--mount-proc", "sh", "-c", INSIDE, "podman", *self._podman, "system", "service", "--time", "0", f"unix://{socket}"],
            stdout=self._log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True, env=self._environment,
        )  # fmt: skip
        try:
            self._wait(Path(socket))
        except BaseException:
            self.close()
            raise

    def _wait(self, socket: Path) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if socket.exists():
                with contextlib.suppress(OSError):
                    self.api.call("GET", "/_ping")
                    return
            time.sleep(0.1)
        last = (self.folder / "service.log").read_text(errors="replace")[-1500:]
        raise RuntimeError(f"podman did not become ready:\n{last}")

    def _shell(self) -> int:
        """The pid namespace's first process."""
        parents = {pid: parent_of(pid) for pid in descendants(self._process.pid)}
        return next(pid for pid, parent in parents.items() if parent == self._process.pid)

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        enter = ["nsenter", "--target", str(self._shell()), "--net", "--mount", "--pid"]
        done = subprocess.run(
            [*enter, *self._podman, *words],
            check=False, capture_output=True, text=True, timeout=120, env=self._environment,
        )  # fmt: skip
        if check and done.returncode:
            raise RuntimeError(f"podman {words[0]} failed: {done.stderr.strip()}")
        return done

    def description(self) -> str:
        known = json.loads(self.run("info", "--format", "json").stdout)
        host = known["host"]
        return (
            f"podman {known['version']['Version']} ({known['store']['graphDriverName']}, cgroup {host['cgroupVersion']},"
            f" {host['ociRuntime']['name']}, {host['networkBackend']})"
        )

    def load(self, archive: Path) -> None:
        self.run("load", "--input", str(archive))

    def launch(self, name: str, image: str, command: Sequence[str], *flags: str) -> None:
        self.run("run", "--detach", "--name", name, "--cgroup-parent", self.parent, *flags, image, *command)

    def remove(self, *names: str) -> None:
        """By SIGKILL at once, as ``docker rm -f`` does; podman would wait ten seconds."""
        self.run("rm", "--force", "--time", "0", *names)

    def processes(self) -> set[int]:
        """Of the whole tree, as pids of the host."""
        return descendants(self._process.pid)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._log.close()
        group = Cgroup(self.parent)
        group.kill()
        group.remove()
        remove_folder(self.folder)


@contextlib.contextmanager
def podman() -> Iterator[Podman]:
    peer = Podman()
    try:
        yield peer
    finally:
        peer.close()
