"""Containers that take all they can get: each is stopped by a limit of its own, and its neighbour, a stranger and the node go on."""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import ExecSpec, Limits, State, VolumeMount, VolumeSpec
from runtime.engines.native import bundle
from runtime.kernel import idmap, tables
from tests.conftest import patience
from tests.kernel.scene import MIB, Scene, armed, engine, programs, scene
from tests.marks import like_another, no_cgroup

__all__ = ["armed", "engine", "programs", "scene"]
pytestmark = pytest.mark.root


@pytest.fixture
def others(scene: Scene) -> tuple[str, str]:
    """A neighbour and a stranger, who live on."""
    return scene.run(), scene.run(tenant="tenant2")


def test_a_fork_bomb_stays_within_its_processes(scene: Scene, others: tuple[str, str]) -> None:
    id = scene.run(
        command=("sh", "-c", "b() { b | b & }; b; echo gone off; exec sleep 1000"), limits=Limits(64 * MIB, 500, 32)
    )
    scene.said(id, "gone off")
    for _ in range(5):
        pids = scene.engine.counters([id])[id].pids
        assert pids is not None
        assert pids <= 32
        assert scene.alive(*others)
    scene.engine.remove(id, force=True)
    assert subprocess.run(["true"], check=False).returncode == 0


@pytest.mark.parametrize(
    "where", ["/dev/shm", "/sys/fs/cgroup", *(pytest.param(at, marks=like_another) for at in ("/dev", "/run"))]
)
def test_a_memory_bomb_is_killed_in_its_own_cgroup_or_has_no_more_room(
    scene: Scene, others: tuple[str, str], where: str
) -> None:
    """Memory of a process and of every file system in memory that a container can write to."""
    script = f"i=0; while dd if=/dev/zero of={where}/bomb$i bs=1M count=1 2>/dev/null; do i=$((i+1)); [ $i -gt 200 ] && echo grew; done; x=a; while :; do x=$x$x; done"
    id = scene.run(command=("sh", "-c", script), limits=Limits(24 * MIB, 1000, 32), read_only=where == "/run")
    lines = scene.ended(id)
    assert "grew" not in lines
    assert scene.engine.inspect(id).oom_killed
    assert scene.engine.inspect(id).reason == "out of memory"
    assert scene.alive(*others)


@pytest.mark.parametrize("place", ["/dev/shm", "/dev/mqueue", pytest.param("/dev", marks=like_another)])
def test_empty_files_in_memory_are_memory_too(scene: Scene, others: tuple[str, str], place: str) -> None:
    script = f"i=0; while true; do true > {place}/$i || break; i=$((i+1)); done 2>/dev/null; echo $i; exec sleep 1000"
    id = scene.run(command=("sh", "-c", script), limits=Limits(16 * MIB, 1000, 16))
    deadline = time.monotonic() + patience(40)
    while scene.engine.settle(id).state is State.RUNNING and not list(scene.engine.logs(id)):
        assert time.monotonic() < deadline
        used = scene.engine.counters([id])[id].memory_bytes if scene.engine.inspect(id).state is State.RUNNING else 0
        assert (used or 0) <= 16 * MIB
        time.sleep(0.2)
    assert scene.alive(*others)


@no_cgroup
def test_a_flood_of_words_is_bounded_and_holds_nobody_up(scene: Scene, others: tuple[str, str]) -> None:
    limits = Limits(32 * MIB, 500, 16, log_bytes=MIB)
    id = scene.run(command=("sh", "-c", "yes 0123456789012345678901234567890123456789"), limits=limits)
    folder = scene.engine.home.container(id)
    used = []
    for _ in range(20):
        scene.engine.rotate_logs()
        sizes: dict[int, int] = {}
        for path in folder.glob("ctr.log*"):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                sizes[found.st_ino] = found.st_size
        assert sum(sizes.values()) <= MIB
        used.append(scene.engine.counters([id])[id].cpu_ns or 0)
        time.sleep(0.05)
    assert used[-1] > used[len(used) // 2], "it goes on to write"
    assert scene.alive(*others)
    assert len(list(scene.engine.logs(id, tail=5))) == 5


def flood(scene: Scene, id: str, folder: str, most: int) -> int:
    """How many empty files were made there until it failed, at most ``most``."""
    script = f"cd {folder}; i=0; while [ $i -lt {most} ]; do true > f$i || break; i=$((i+1)); done 2>/dev/null; echo $i"
    return int(scene.inside(id, script).splitlines()[-1])


@no_cgroup
def test_files_without_content_end_with_the_disk_of_a_container_or_a_volume(
    scene: Scene, others: tuple[str, str]
) -> None:
    node = os.statvfs(scene.engine.home.root).f_ffree
    scene.engine.volumes.create(VolumeSpec("tenant1", "flooded", size_bytes=16 * MIB))
    limits = Limits(64 * MIB, 1000, 16, disk_bytes=16 * MIB)
    id = scene.run(limits=limits, volumes=(VolumeMount("flooded", "/v"),))
    for folder in ("/tmp", "/v"):
        assert 0 < flood(scene, id, folder, 20_000) < 20_000
    assert node - os.statvfs(scene.engine.home.root).f_ffree < 1000, "the node's inodes are not theirs"
    assert scene.alive(*others)
    scene.engine.remove(id, force=True)
    scene.engine.volumes.remove("tenant1", "flooded")


@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_what_nobody_reads_from_sockets_is_memory_too(armed: Scene, others: tuple[str, str], kind: str) -> None:
    """The node has so much for all sockets of all containers, and for its own (tcp_mem, udp_mem)."""
    id = armed.run(limits=Limits(32 * MIB, 1000, 32))
    armed.arm(id, "sockets")
    before = _in_sockets()
    session = armed.engine.exec(id, ExecSpec(("sockets", kind, "400")))
    assert session.stdout.read(4) in {b"full", b""}, "or the kernel ended it"
    assert _in_sockets() - before < 24 * MIB
    assert armed.alive(*others)
    session.close()


@no_cgroup
@pytest.mark.parametrize(
    "call", ["call x500 io_setup 1000 '#8'", "call x900 openat -100 =/dev/null 0 0"], ids=["events", "files"]
)
def test_tables_of_the_whole_node_are_not_one_containers_to_use_up(
    armed: Scene, others: tuple[str, str], call: str
) -> None:
    """fs.aio-max-nr and fs.file-max: what is in them is memory of who has it."""
    id = armed.run(limits=Limits(64 * MIB, 1000, 32))
    for one in (id, *others):
        armed.arm(one, "call")
    with _held(armed, id, call) as words:
        assert words.split()[0] in {"500", "900"}, "as much as its memory holds"
        assert [armed.inside(other, "call io_setup 1000 '#8' </dev/null") for other in others] == ["allowed"] * 2
    for name, wanted in tables.ROOM.items():
        assert int((tables.SETTINGS / name).read_text()) >= wanted


def _in_sockets() -> int:
    """Bytes of UDP and TCP on the whole node (proc_net(5), sockstat)."""
    rows = Path("/proc/net/sockstat").read_text(encoding="ascii").splitlines()
    return sum(int(row.split()[-1]) for row in rows if row.startswith(("TCP:", "UDP:"))) * os.sysconf("SC_PAGE_SIZE")


@no_cgroup
def test_terminals_are_not_one_containers_to_use_up(armed: Scene, others: tuple[str, str]) -> None:
    id = armed.run()
    armed.arm(id, "call")
    with _held(armed, id, "call x5000 openat -100 =/dev/ptmx 2 0") as words:
        assert words == f"{bundle.TERMINALS} ENOSPC"
        for other in others:
            session = armed.engine.exec(other, ExecSpec(("tty",), terminal=True))
            assert session.stdout.read(8) == b"/dev/pts"
            session.close()


CONTAINERS = 24
"""Of one tenant: more than the console lets one have, unless an admin says otherwise."""


@no_cgroup
def test_terminals_are_not_one_tenants_to_use_up(armed: Scene, others: tuple[str, str]) -> None:
    """All of its containers hold all that they get."""
    with contextlib.ExitStack() as held:
        for _ in range(CONTAINERS):
            id = armed.run()
            armed.arm(id, "call")
            words = held.enter_context(_held(armed, id, "call x5000 openat -100 =/dev/ptmx 2 0"))
            assert words == f"{bundle.TERMINALS} ENOSPC"
        most, reserve, taken = (
            int(Path(f"/proc/sys/kernel/pty/{name}").read_text()) for name in ("max", "reserve", "nr")
        )
        assert taken >= CONTAINERS * bundle.TERMINALS, "they are the node's own"
        assert (most - reserve) / 4 >= CONTAINERS * bundle.TERMINALS, "three quarters are left"
        for other in others:
            assert armed.engine.isolation(other).terminals_most == bundle.TERMINALS
            session = armed.engine.exec(other, ExecSpec(("tty",), terminal=True))
            assert session.stdout.read(8) == b"/dev/pts"
            session.close()


@contextlib.contextmanager
def _held(scene: Scene, id: str, command: str) -> Iterator[str]:
    """What an attack has said of itself, while it holds what it got."""
    session = scene.engine.exec(id, ExecSpec(("sh", "-c", command)))
    try:
        ready, _, _ = select.select([session.stdout], [], [], patience(30))
        assert ready, "it says nothing"
        yield session.stdout.readline().decode().strip()  # type: ignore[attr-defined]
    finally:
        session.close()


TAKE = {
    "inotify": "libc.inotify_init1(0)",
    "queues": "(libc.syscall(240, b'taken%d-%d' % (os.getpid(), n), 0o102, 0o600, None), libc.syscall(241, b'taken%d-%d' % (os.getpid(), n)))[0]",
    "signals": "libc.sigqueue(os.getpid(), 64, None)",
}
"""Each takes one, and is below zero when there is none left.  240 is mq_open on amd64, 241 mq_unlink: what is open stays counted."""
TAKER = (
    "import ctypes, os, signal, sys; libc = ctypes.CDLL(None); signal.pthread_sigmask(signal.SIG_BLOCK, [64]); n = 0\n"
    "most = int(sys.argv[1])\n"
    "while n < most and {take} >= 0: n += 1\n"
    "print(n, flush=True); sys.stdin.read()"
)


@no_cgroup
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of amd64's system calls")
@pytest.mark.skipif(
    not idmap.owned_apart(),
    reason="root of this machine lacks CAP_SYS_RESOURCE: containers' user namespaces are root's, and share what root has",
)
@pytest.mark.parametrize("what", TAKE)
def test_what_the_kernel_counts_by_user_is_not_one_tenants_to_use_up(
    scene: Scene, others: tuple[str, str], what: str
) -> None:
    """inotify instances, message queues and pending signals: counted for the owner of a user namespace, too (kernel/ucount.c).

    The taker is the node's Python, as root of a container's user namespace: the kernel counts it as that.
    """
    attacker, (_, stranger) = scene.run(), others
    one, other = (Path(f"/proc/{scene.engine.inspect(id).pid}/ns/user") for id in (attacker, stranger))
    _leaves_others_theirs(what, one, other)


@no_cgroup
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="numbers of amd64's system calls")
@pytest.mark.parametrize("what", TAKE)
def test_a_user_namespace_takes_from_its_owner_alone(what: str) -> None:
    """As containers have them, also where a container's runtime cannot use them."""
    first, second = (0x50000000 + secrets.randbelow(0x1000) * 65536 for _ in range(2))
    with idmap.UserNamespace(first) as one, idmap.UserNamespace(second) as other:
        _leaves_others_theirs(what, one.path(), other.path())


def _leaves_others_theirs(what: str, one: Path, other: Path) -> None:
    """Root of one user namespace takes all that there is; root of another, and the node's own, still get three."""
    program = TAKER.format(take=TAKE[what])

    def taker(namespace: Path | None, most: int) -> subprocess.Popen[str]:
        enter = ["nsenter", f"--user={namespace}", "--setuid=0", "--setgid=0"] if namespace else []
        command = [*enter, "/usr/bin/python3", "-c", program, str(most)]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with taker(one, 1_000_000) as attack:
        try:
            assert attack.stdout
            assert 0 < int(attack.stdout.readline()) < 1_000_000
            for namespace in (other, None):
                with taker(namespace, 3) as modest:
                    said, _ = modest.communicate("", timeout=patience(20))
                    assert int(said) == 3, "nothing left for others"
        finally:
            attack.kill()


@pytest.mark.parametrize(
    "script",
    [
        "kill -STOP 1; echo stopped; sleep 1000",
        "trap '' TERM INT HUP QUIT; echo deaf; while :; do sleep 1; done",
        "(setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done' &) ; (setsid sh -c 'setsid sleep 1000 &' &); echo forked; exec sleep 1000",
    ],
    ids=["stops its own init", "ignores every signal", "daemons of daemons"],
)
def test_nothing_outlives_the_end_of_its_container(scene: Scene, script: str) -> None:
    id = scene.run(command=("sh", "-c", script))
    word = script.split("echo ")[1].split(";", maxsplit=1)[0]
    scene.said(id, word)
    status = scene.engine.inspect(id)
    group = scene.engine.home.cgroup("tenant1", id)
    before = members(group)
    assert before
    began = time.monotonic()
    assert scene.engine.stop(id, grace_s=0.5).state is State.EXITED
    assert time.monotonic() - began < patience(15)
    assert not members(group)
    assert not [
        pid
        for pid in before
        if Path(f"/proc/{pid}/cgroup").exists() and group in Path(f"/proc/{pid}/cgroup").read_text()
    ]
    assert status.pid


def members(group: str) -> set[int]:
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f":{group}" in (entry / "cgroup").read_text():
                found.add(int(entry.name))
    return found


def test_the_end_of_the_first_process_is_the_end_of_all(scene: Scene) -> None:
    id = scene.run(command=("sh", "-c", "(setsid sh -c 'trap \"\" TERM; sleep 1000' &); sleep 0.3; exit 7"))
    scene.ended(id)
    assert scene.engine.inspect(id).exit_code == 7
    assert not members(scene.engine.home.cgroup("tenant1", id))


def test_a_core_dump_lands_within_or_nowhere(scene: Scene, tmp_path: Path) -> None:
    before = {path.name for path in Path("/").iterdir()}
    id = scene.run()
    text = scene.inside(id, "ulimit -c; cd /tmp; ulimit -c unlimited; (kill -SEGV $$) & sh -c 'kill -SEGV $$'; ls -A")
    assert text.splitlines()[0] == "0", "none unless a program wants one"
    assert {path.name for path in Path("/").iterdir()} == before
