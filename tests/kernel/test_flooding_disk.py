"""A container without a disk limit that fills the node's disk, by content or by names, on a node with a small disk of its own."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import Limits, RestartPolicy, State, VolumeMount, VolumeSpec
from runtime.engines.native import flooding
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
from runtime.keeper import Keeper
from tests.conftest import Place, patience
from tests.kernel.containers import KINDS, SMALL, inside, run, spec
from tests.marks import no_cgroup
from tests.prepared import busybox
from tests.traces import traces

pytestmark = [pytest.mark.root, no_cgroup]
MIB = 2**20
DISK = 256 * MIB
CONTENT = "i=0; while dd if=/dev/zero of={where}/f$i bs=256k count=4 2>/dev/null; do i=$((i+1)); sleep 0.2; done; exec sleep 1000"
NAMES = "mkdir {where}/deep; cd {where}/deep; i=0; while true >n$i; do i=$((i+1)); [ $((i % 50)) = 0 ] && {{ mkdir d; cd d; sleep 0.2; }}; done; exec sleep 1000"
"""A few mebibytes a second, or a few hundred names, in folders deeper than a path is long."""


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


def ended(engine: NativeEngine, id: str) -> None:
    """A keeper keeps the node until the container has ended."""
    told: list[str] = []
    keeper = Keeper(engine, lambda status: told.append(status.id))
    thread = threading.Thread(target=keeper.run)
    thread.start()
    try:
        deadline = time.monotonic() + patience(60)
        while not told:
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.1)
    finally:
        keeper.stop()
        thread.join()
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
