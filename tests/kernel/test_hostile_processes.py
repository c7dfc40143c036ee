"""Processes that reach for what is not theirs: neighbours, strangers, the node's processes, its files in /proc and /sys, its sockets."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import patience
from tests.kernel.scene import Scene, armed, engine, programs, scene
from tests.marks import no_cgroup

__all__ = ["armed", "engine", "programs", "scene"]
pytestmark = pytest.mark.root


@no_cgroup
def test_it_sees_and_signals_its_own_processes_alone(scene: Scene) -> None:
    attacker, neighbour, stranger = scene.run(), scene.run(), scene.run(tenant="tenant2")
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        pids = [scene.engine.inspect(id).pid for id in (neighbour, stranger)] + [bystander.pid, os.getpid()]
        seen = scene.inside(attacker, "cat /proc/[0-9]*/comm | sort -u").split()
        assert set(seen) <= {"tini-static", "init", "sleep", "sh", "cat", "sort", "busybox"}
        text = scene.inside(attacker, "; ".join(f"kill -9 {pid} && echo hit" for pid in pids if pid and pid > 1000))
        assert "hit" not in text
        with contextlib.suppress(Exception):  # it takes its own exec with it
            scene.inside(attacker, "kill -9 -1")
        assert scene.alive(neighbour, stranger)
        assert bystander.poll() is None
        bystander.kill()


@no_cgroup
def test_neither_a_neighbour_nor_the_node_is_traced(armed: Scene) -> None:
    attacker, neighbour = armed.run(), armed.run()
    armed.arm(attacker, "call")
    for pid in (armed.engine.inspect(neighbour).pid, os.getpid()):
        assert armed.inside(attacker, f"call ptrace 16 {pid} 0 0; call process_vm_writev {pid} 0 0 0 0 0").split()[
            0
        ] in {"ESRCH", "EPERM"}
        assert Path(f"/proc/{pid}/status").read_text().split("TracerPid:")[1].split()[0] == "0"
    assert armed.alive(neighbour)


def test_nothing_of_the_kernels_files_can_be_written(scene: Scene) -> None:
    """Every file of /sys and /proc but a process's own is opened to append, which changes nothing where it is let."""
    id = scene.run()
    places = "/sys /proc/sys /proc/irq /proc/bus /proc/fs /proc/acpi"
    script = (
        f"(find {places} -type f; find /proc -maxdepth 1 -type f; echo /tmp/all) 2>/dev/null > /tmp/all; wc -l < /tmp/all;"
        'while read -r f; do true 2> /dev/null >> "$f" && echo open $f; done < /tmp/all'
    )
    lines = scene.inside(id, script).splitlines()
    assert int(lines[0]) > 300, "there was something to try"
    assert lines[1:] == ["open /tmp/all"], "of these the last alone is its own"


@pytest.mark.parametrize(
    "attempt",
    [
        "echo '|/tmp/own' > /proc/sys/kernel/core_pattern", "echo /tmp/own > /sys/kernel/uevent_helper", "echo c > /proc/sysrq-trigger",
        "echo -1000 > /proc/self/oom_score_adj", "echo 1 > $(find /sys/fs/cgroup -name cgroup.procs | head -n 1)", "mkdir /sys/fs/cgroup/memory/out /sys/fs/cgroup/out2",
        "echo 0 > /proc/sys/kernel/randomize_va_space", "echo 1 > /proc/sys/net/ipv4/ip_forward", "echo x > /proc/1/root/../../../../../../proc/sys/kernel/hostname",
        "nsenter -t 1 -m -u -n -i -p true", "nsenter --net=/proc/1/ns/net --user=/proc/1/ns/user true", "mount -t cgroup2 none /tmp", "umount -l /proc/keys",
        "mount -o remount,rw /sys", "mount --bind / /tmp", "unshare -m true", "unshare -U true", "unshare -p true", "losetup -f /bin/busybox",
        "echo '100 200' > /proc/self/uid_map", "date -s 2001-01-01; [ $(date +%Y) = 2001 ]", "hwclock -w", "insmod /bin/busybox", "swapoff -a && false", "halt -f",
    ],
)  # fmt: skip
def test_what_root_of_the_node_could_do_is_refused(common: tuple[Scene, str], attempt: str) -> None:
    scene, id = common
    before = [
        Path(path).read_bytes()
        for path in (
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/randomize_va_space",
            "/proc/sys/kernel/hostname",
        )
    ]
    assert scene.inside(id, f"({attempt}) > /dev/null 2>&1 && echo done || echo refused") == "refused"
    assert [
        Path(path).read_bytes()
        for path in (
            "/proc/sys/kernel/core_pattern",
            "/proc/sys/kernel/randomize_va_space",
            "/proc/sys/kernel/hostname",
        )
    ] == before


@pytest.fixture(scope="module")
def common(engine: object) -> tuple[Scene, str]:
    """One container for attempts that change nothing."""
    made = Scene(engine)  # type: ignore[arg-type]
    return made, made.run()


def test_no_device_but_the_harmless_ones_is_there(common: tuple[Scene, str]) -> None:
    scene, id = common
    rows = scene.inside(id, "find /dev -type c -o -type b | sort").split()
    assert {row for row in rows if not row.startswith("/dev/pts/")} == {
        f"/dev/{name}" for name in ("full", "null", "random", "tty", "urandom", "zero")
    }
    assert (
        scene.inside(
            id, "chmod 600 /dev/null 2>&1; chown 5 /dev/null 2>&1; rm -f /dev/zero 2>&1; stat -c %a /dev/null"
        ).splitlines()[-1]
        == "666"
    )
    assert (os.stat("/dev/null").st_mode & 0o777, os.stat("/dev/null").st_uid) == (0o666, 0)
    assert Path("/dev/zero").is_char_device()


@no_cgroup
def test_the_nodes_sockets_are_not_reached(common: tuple[Scene, str]) -> None:
    """Abstract ones have no file, and belong to a network namespace."""
    scene, id = common
    name = f"slipway-{secrets.token_hex(6)}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"\0{name}")
        listening.listen()
        assert name in Path("/proc/net/unix").read_text()
        assert name not in scene.inside(id, "cat /proc/net/unix")
        program = f"import socket; socket.socket(socket.AF_UNIX).connect('\\0{name}')"
        enter = ["nsenter", f"--net=/proc/{scene.engine.inspect(id).pid}/ns/net", sys.executable, "-c", program]
        done = subprocess.run(enter, check=False, capture_output=True, text=True, timeout=patience(20))
        assert "refused" in done.stderr
    found = scene.inside(id, "find / -xdev -type s 2>/dev/null; find /run /var/run -type s 2>/dev/null")
    assert found == "", "neither the agent's, nor Redis', nor any other"


@no_cgroup
def test_nothing_listens_for_it_but_names(scene: Scene) -> None:
    """The node's services on its bridges' addresses, its loopback, the cloud's metadata and another tenant's gateway."""
    attacker, stranger = scene.run(), scene.run(tenant="tenant2")
    own = scene.engine.inspect(attacker).address or ""
    other = scene.engine.inspect(stranger).address or ""
    with socket.create_server(("0.0.0.0", 0)) as listening:
        port = listening.getsockname()[1]
        for address in (
            own.rpartition(".")[0] + ".1",
            other.rpartition(".")[0] + ".1",
            other,
            "169.254.169.254",
            "169.254.1.1",
        ):
            assert (
                scene.inside(attacker, f"nc -w 2 {address} {port} < /dev/null && echo reached || echo no").splitlines()[
                    -1
                ]
                == "no"
            ), address
        with socket.create_connection(("127.0.0.1", port), timeout=2):
            pass


def test_an_exec_that_is_left_behind_holds_nothing_of_the_node(scene: Scene) -> None:
    """A process that outlives its exec is in the container's cgroup and namespaces, and ends with it."""
    id = scene.run()
    scene.inside(id, "setsid sleep 4321 > /dev/null 2>&1 < /dev/null & echo left")
    left = [path for path in Path("/proc").glob("[0-9]*") if b"4321" in _words(path)]
    group = scene.engine.home.cgroup("tenant1", id)
    for path in left:
        assert f":{group}" in (path / "cgroup").read_text()
        assert os.readlink(path / "ns/user") != os.readlink("/proc/self/ns/user")
    scene.engine.stop(id, grace_s=0)
    assert not [path for path in left if b"4321" in _words(path)]


def _words(path: Path) -> bytes:
    try:
        return (path / "cmdline").read_bytes()
    except OSError:
        return b""
