"""A container without a disk limit that fills the node's disk, by content or by names, on a node with a small disk of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.api import Limits, RestartPolicy, State, VolumeMount, VolumeSpec
from runtime.engines.native import flooding
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
from runtime.keeper import Keeper
from runtime.kernel.cgroup import Cgroup
from tests.conftest import Place, patience
from tests.kernel.containers import KINDS, SMALL, inside, kept_until_told, run, spec
from tests.marks import no_cgroup
from tests.prepared import busybox
from tests.traces import traces

pytestmark = [pytest.mark.root, no_cgroup]
MIB = 2**20
DISK = 256 * MIB
CONTENT = "i=0; while dd if=/dev/zero of={where}/f$i bs=256k count=4 2>/dev/null; do i=$((i+1)); sleep 0.2; done; exec sleep 1000"
NAMES = (
    "mkdir {where}/deep; cd {where}/deep; i=0; while true >n$i; do i=$((i+1)); "
    f"[ $((i % 50)) = 0 ] && {{{{ mkdir d; cd d; sleep {patience(0.2)}; }}}}; done; exec sleep 1000"
)
"""A few mebibytes a second, or a few hundred names, in folders deeper than a path is long.  Of names fewer where the processor is emulated: the watch
has a part of the time that is left to count them, and begins a program for it, which takes longer there.
"""
UNLINKED = "exec 3>{where}/x; rm {where}/x; while dd if=/dev/zero bs=256k count=4 >&3 2>/dev/null; do sleep 0.3; done; exec sleep 1000"
ALLOCATED = "i=0; while fallocate -l 1048576 {where}/f$i; do i=$((i+1)); sleep 0.3; done; exec sleep 1000"
FAST = (
    "until [ -e /tmp/go ]; do sleep 0.1; done; i=0; while dd if=/dev/zero of=/tmp/f$i bs=2M count=1 2>/dev/null; "
    f"do i=$((i+1)); sleep {patience(0.04)}; done; exec sleep 1000"
)
"""About 35 MiB a second: what is left at the mark is gone in less than one.  Less where the processor is emulated, as of names."""
MESSAGES = """
import os, socket, sys, time
near, far = socket.socketpair()
while True:
    file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
    os.unlink(sys.argv[1])
    os.posix_fallocate(file, 0, 1 << 20)
    socket.send_fds(near, [b"x"], [file])
    os.close(file)
    time.sleep(0.3)
"""
"""Files that have no name, and that nobody has open: a message that nobody receives keeps each.  No byte of them is written."""
HOLDS = """
import os, sys, time
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
os.unlink(sys.argv[1])
while True:
    os.write(file, bytes(1 << 20))
    time.sleep(0.3)
"""
REWRITES_WITH_A_MESSAGE = """
import os, socket, sys, time
near, far = socket.socketpair()
socket.send_fds(near, [b"x"], [0])
file = os.open(sys.argv[1], os.O_CREAT | os.O_RDWR)
while True:
    os.pwrite(file, bytes(4 << 20), 0)
    os.fsync(file)
    time.sleep(0.1)
"""
SIZED = 16 * MIB
MODERATE = "while dd if=/dev/zero bs=64k count=1 2>/dev/null >>/tmp/f; do sleep 1; done; exec sleep 1000"
REWRITES = "while true; do dd if=/dev/zero of=/tmp/f bs=256k count=4 conv=notrunc 2>/dev/null; sleep 0.3; done"
SLOW_DU = """#!/bin/sh
for last; do case $last in */SLOW/*) slow=$last;; esac; done
[ -z "$slow" ] && exec /usr/bin/du "$@"
options= ; while [ "$1" != -- ]; do options="$options $1"; shift; done; shift
for folder; do case $folder in */SLOW/*) exec sleep 100;; *) /usr/bin/du $options -- "$folder";; esac; done
"""
"""A du to which this container's tree is endless."""


@pytest.fixture
def engine(place: Place, tmp_path: Path) -> Iterator[NativeEngine]:
    """Its home is a disk of 256 MiB and 8,192 inodes."""
    image = tmp_path / "node.img"
    with image.open("wb") as handle:
        handle.truncate(DISK)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-N", "8192", "-J", "size=4", str(image)], check=True)
    place.home.mkdir()
    subprocess.run(["mount", "-o", "loop", str(image), str(place.home)], check=True)
    place.home.chmod(0o755)
    try:
        made = NativeEngine(Home.from_environment())
        busybox(made)
        yield made
        made.teardown()
    finally:
        subprocess.run(["umount", str(place.home)], check=True)
    left = traces(made.home)
    for kind in KINDS:
        assert not getattr(left, kind), f"{kind} left behind"


def filler(engine: NativeEngine, kind: str) -> None:
    """What others have: so much that a little more than the mark is left."""
    left = flooding.room(engine.home.state).free
    if kind == "bytes":
        subprocess.run(
            ["fallocate", "-l", str(left["bytes"] - int(DISK * 0.14)), str(engine.home.root / "filler")], check=True
        )
        return
    folder = engine.home.root / "fillers"
    folder.mkdir()
    for number in range(left["inodes"] - int(8192 * 0.14)):
        (folder / str(number)).touch()


def ended(engine: NativeEngine, id: str, begin: Callable[[], object] = lambda: None) -> None:
    """A keeper keeps the node until the container has ended; ``begin`` is called once it does."""
    told: list[str] = []
    kept_until_told(Keeper(engine, lambda status: told.append(status.id)), told, 60, begin)
    assert told == [id]


@pytest.mark.parametrize("where", ["/tmp", "/v"])
@pytest.mark.parametrize("kind", ["bytes", "inodes"])
def test_who_fills_the_nodes_disk_is_ended_and_nobody_else(engine: NativeEngine, kind: str, where: str) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "open"))
    limited = run(engine, spec(engine, limits=Limits(64 * MIB, 1000, 64, disk_bytes=16 * MIB)))
    neighbour = run(engine, spec(engine))
    filler(engine, kind)
    script = (CONTENT if kind == "bytes" else NAMES).format(where=where)
    flooder = run(
        engine,
        spec(
            engine, "sh", "-c", script,
            volumes=(VolumeMount("open", "/v"),), restart=RestartPolicy("always"), limits=SMALL,
        ),
    )  # fmt: skip
    ended(engine, flooder)
    status = engine.inspect(flooder)
    assert (status.state, status.reason, status.restart_at) == (State.EXITED, flooding.FLOODED, None)
    left = flooding.room(engine.home.state).free[kind]  # type: ignore[index]
    assert left > 0, "before it was full"
    for other in (limited, neighbour):
        assert inside(engine, other, "echo x > /tmp/file && cat /tmp/file") == "x"
    assert engine.guard_disk() is None
    engine.remove(flooder, force=True)
    engine.volumes.remove("tenant1", "open")


def test_who_writes_a_little_on_a_nearly_full_disk_goes_on(engine: NativeEngine) -> None:
    id = run(engine, spec(engine, "sh", "-c", "while echo x >> /tmp/file; do sleep 0.1; done"))
    left = flooding.room(engine.home.state).free["bytes"]
    subprocess.run(["fallocate", "-l", str(left - 8 * MIB), str(engine.home.root / "filler")], check=True)
    assert flooding.room(engine.home.state).nearly_full == {"bytes"}
    for _ in range(4):
        assert engine.guard_disk() is None
        time.sleep(0.5)
    assert engine.inspect(id).state is State.RUNNING


def test_where_no_container_does_it_none_is_ended(engine: NativeEngine) -> None:
    """The node's own, an image, a disk that was promised: they are nobody's without a limit."""
    id = run(engine, spec(engine))
    left = flooding.room(engine.home.state).free["bytes"]
    descriptor = os.open(engine.home.root / "filler", os.O_RDWR | os.O_CREAT)
    os.posix_fallocate(descriptor, 0, left - 20 * MIB)
    for step in range(4):
        os.posix_fallocate(descriptor, 0, left - (19 - step) * MIB)
        assert engine.guard_disk() is None
    os.close(descriptor)
    assert engine.inspect(id).state is State.RUNNING


def flood(engine: NativeEngine, script: str, where: str, **changes: Any) -> str:
    """The id of a container that began to."""
    return run(engine, spec(engine, "sh", "-c", script.format(where=where), limits=SMALL, **changes))


@pytest.mark.parametrize("where", ["/tmp", "/v"])
def test_a_file_without_a_name_is_found_and_neighbours_that_write_go_on(engine: NativeEngine, where: str) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "open"))
    neighbours = [run(engine, spec(engine, "sh", "-c", MODERATE)) for _ in range(2)]
    filler(engine, "bytes")
    flooder = flood(engine, UNLINKED, where, volumes=(VolumeMount("open", "/v"),))
    ended(engine, flooder)
    assert flooding.room(engine.home.state).free["bytes"] > 0, "before it was full"
    assert all(engine.inspect(id).state is State.RUNNING for id in neighbours)


def test_a_flood_of_less_than_a_second_is_ended_in_it(engine: NativeEngine) -> None:
    neighbour = run(engine, spec(engine, "sh", "-c", MODERATE))
    flooder = run(engine, spec(engine, "sh", "-c", FAST))
    left = flooding.room(engine.home.state).free["bytes"]
    taken = str(left - DISK // 4)
    subprocess.run(["fallocate", "-l", taken, str(engine.home.root / "filler")], check=True)

    def begin() -> None:
        deadline = time.monotonic() + patience(20)
        while engine._flooding._before is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        inside(engine, flooder, "touch /tmp/go")

    ended(engine, flooder, begin)
    assert flooding.room(engine.home.state).free["bytes"] > 0, "before it was full"
    assert engine.inspect(neighbour).state is State.RUNNING


@contextlib.contextmanager
def of_container(engine: NativeEngine, id: str, *command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A program of the node's that counts as the container's: its image has no such one."""
    with subprocess.Popen(command) as process:
        try:
            for folder in Cgroup(engine.home.cgroup("tenant1", id))._folders():
                (folder / "cgroup.procs").write_text(str(process.pid))
            yield process
        finally:
            process.kill()


def test_for_files_that_messages_hold_no_neighbour_is_ended_and_the_log_names_who_may_hide_them(
    engine: NativeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    """Also none that writes more than the node loses, over a file as it is, and has a descriptor in a message."""
    neighbour, flooder = (run(engine, spec(engine)) for _ in range(2))
    place = "{}/merged/tmp/file"
    neighbours, hidden = (place.format(engine.home.bundle(id)) for id in (neighbour, flooder))
    with of_container(engine, neighbour, sys.executable, "-c", REWRITES_WITH_A_MESSAGE, neighbours):
        filler(engine, "bytes")
        with of_container(engine, flooder, sys.executable, "-c", MESSAGES, hidden) as process:
            while process.poll() is None and flooding.room(engine.home.state).free["bytes"] > 2 * MIB:
                found = engine.guard_disk()
                assert found is None or found.id == flooder, "seen in the moment in which it has one open"
                time.sleep(engine.disk_pause_s())
    assert any(
        "cannot be seen" in told and {neighbour, flooder} <= set(told.replace(",", "").split())
        for told in caplog.messages
    )
    assert engine.inspect(neighbour).state is State.RUNNING


@pytest.mark.parametrize("mounts", [VolumeMount("sized", "/v"), VolumeMount("open", "/v", read_only=True)])
def test_who_has_a_disk_limit_and_fills_anothers_file_is_ended(engine: NativeEngine, mounts: VolumeMount) -> None:
    """It was given it through a socket in a volume, which may have a size or be read-only."""
    engine.volumes.create(VolumeSpec("tenant1", "open"))
    engine.volumes.create(VolumeSpec("tenant1", "sized", size_bytes=SIZED))
    giver = run(engine, spec(engine, "sh", "-c", MODERATE, volumes=(replace(mounts, read_only=False),)))
    flooder = run(engine, spec(engine, limits=replace(SMALL, disk_bytes=SIZED), volumes=(mounts,)))
    filler(engine, "bytes")
    with of_container(
        engine, flooder, sys.executable, "-c", HOLDS, str(engine.home.bundle(giver) / "merged/tmp/given")
    ):
        ended(engine, flooder)
    assert engine.inspect(giver).state is State.RUNNING


def test_who_writes_while_something_unseen_floods_goes_on(engine: NativeEngine) -> None:
    """What nobody is seen to take is no proof against those who are seen: here the node takes it itself."""
    neighbour = run(engine, spec(engine, "sh", "-c", MODERATE))
    filler(engine, "bytes")
    over = threading.Event()

    def take() -> None:
        with (engine.home.root / "more").open("wb") as handle:
            while not over.wait(0.1) and flooding.room(engine.home.state).free["bytes"] > 2 * MIB:
                os.posix_fallocate(handle.fileno(), 0, os.fstat(handle.fileno()).st_size + MIB // 2)

    thread = threading.Thread(target=take)
    thread.start()
    try:
        while thread.is_alive():
            assert engine.guard_disk() is None
    finally:
        over.set()
        thread.join()
    assert engine.inspect(neighbour).state is State.RUNNING


@pytest.mark.parametrize(
    ("kind", "script"),
    [("bytes", CONTENT), ("bytes", ALLOCATED), ("inodes", NAMES)],
    ids=["written", "allocated", "names"],
)
def test_of_those_who_share_a_volume_the_one_that_fills_it_is_ended(
    engine: NativeEngine, kind: str, script: str
) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "open"))
    mounted = (VolumeMount("open", "/v"),)
    idle = [run(engine, replace(spec(engine, volumes=mounted), id=f"{first}0123456789")) for first in "az"]
    filler(engine, kind)
    flooder = flood(engine, script, "/v", volumes=mounted)
    ended(engine, flooder)
    assert all(engine.inspect(id).state is State.RUNNING for id in idle)


@pytest.mark.parametrize("slow", ["flooder", "neighbour"])
def test_a_tree_that_takes_too_long_to_count_hides_nobody(
    engine: NativeEngine, slow: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its container is judged by what it writes; one that only rewrites is let be."""
    neighbour = run(engine, spec(engine, "sh", "-c", REWRITES))
    filler(engine, "bytes")
    made = spec(engine, "sh", "-c", CONTENT.format(where="/tmp"), limits=SMALL)
    du = tmp_path / "bin" / "du"
    du.parent.mkdir()
    du.write_text(SLOW_DU.replace("SLOW", made.id if slow == "flooder" else neighbour))
    du.chmod(0o755)
    monkeypatch.setenv("PATH", f"{du.parent}:{os.environ['PATH']}")
    run(engine, made)
    ended(engine, made.id)
    assert flooding.room(engine.home.state).free["bytes"] > 0, "before it was full"
    assert engine.inspect(neighbour).state is State.RUNNING


def test_a_container_of_which_a_process_was_killed_is_stopped_on_a_full_disk(engine: NativeEngine) -> None:
    id = run(
        engine, spec(engine, "sh", "-c", "dd if=/dev/zero of=/dev/null bs=80M count=1; exec sleep 1000", limits=SMALL)
    )
    deadline = time.monotonic() + patience(20)
    while not engine.inspect(id).oom_kills:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    fillers = [engine.home.root / name for name in ("filler", "rest")]
    for file in fillers:  # where the first file would need one block more for its map than is left, the second does not
        with file.open("wb", buffering=0) as handle, contextlib.suppress(OSError):
            while True:
                handle.write(bytes(1024))
    assert flooding.room(engine.home.state).free["bytes"] == 0
    assert engine.stop(id, grace_s=0).state is State.EXITED
    for file in fillers:
        file.unlink()
