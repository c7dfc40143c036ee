"""Volumes and disk limits on a real kernel: whose they are, what is in them, that they hold and that nothing leads out."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import Limits, State, Tmpfs, VolumeMount, VolumeSpec
from runtime.engines.native.engine import NativeEngine
from runtime.errors import Conflict, InvalidSpec, LimitExceeded, OutOfSpace, RuntimeFault
from runtime.kernel import loop
from runtime.kernel.process import start_time
from runtime.validation_storage import MOST_DISK
from tests import archives
from tests.conftest import patience
from tests.kernel.containers import engine, inside, output, run, spec
from tests.marks import no_cgroup, refused_early
from tests.traces import traces

__all__ = ["engine"]
pytestmark = [pytest.mark.root, no_cgroup]
MIB = 2**20
FOREVER = ("sleep", "100000")


def image_with(engine: NativeEngine, tmp_path: Path, layer: bytes, name: str = "custom") -> str:
    archive = archives.write(
        tmp_path / f"{name}.tar", reference=f"test/{name}:latest", layers=[archives.busybox(), layer]
    )
    return engine.load(archive)[0].id


def links(**targets: str) -> bytes:
    return archives.entries(*(archives.link(name, target) for name, target in targets.items()))


def test_the_containers_root_owns_it_and_what_it_wrote_outlives_it(engine: NativeEngine) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    mount = VolumeMount("data", "/srv/data")
    id = run(engine, spec(engine, volumes=(mount,)))
    assert (
        inside(engine, id, "id -u; stat -c '%u %g' /srv/data; echo kept > /srv/data/file; chown 7:8 /srv/data/file")
        == "0\n0 0"
    )
    engine.remove(id, force=True)
    folder = engine.home.state / "volumes/tenant1/data/data"
    assert (folder / "file").read_text() == "kept\n"
    assert ((folder / "file").stat().st_uid, (folder / "file").stat().st_gid) == (7, 8), (
        "ids on disk are nobody's range"
    )
    other = run(engine, spec(engine, volumes=(replace(mount, read_only=True),)))
    assert inside(engine, other, "cat /srv/data/file; stat -c '%u %g' /srv/data/file") == "kept\n7 8"
    assert "Read-only" in inside(engine, other, "echo no > /srv/data/file")
    assert "not permitted" in inside(engine, other, "mount -o remount,rw /srv/data") or "denied" in inside(
        engine, other, "mount -o remount,rw /srv/data"
    )


@pytest.mark.parametrize("path", ["/data/run", "/here/run", "run"])
def test_a_program_in_it_runs(engine: NativeEngine, tmp_path: Path, path: str) -> None:
    """Whatever the image has there, also where a link of the image leads to it."""
    layer = archives.entries(archives.link("here", "data"), archives.folder("data"), archives.file("data/run", b"none"))
    held = {
        "image": image_with(engine, tmp_path, layer),
        "volumes": (VolumeMount("tools", "/data"),),
        "working_dir": "/",
        "env": {"PATH": "/bin:/data"},
    }
    engine.volumes.create(VolumeSpec("tenant1", "tools"))
    made = "printf '#!/bin/sh\necho it runs\n' > /data/run && chmod 755 /data/run"
    assert output(engine, spec(engine, "sh", "-c", made, **held)) == []
    assert output(engine, spec(engine, path, **held)) == ["it runs"]
    lost = spec(engine, "/bin/nothing", **held)
    engine.create(lost)
    with pytest.raises(InvalidSpec, match="no command"):
        engine.start(lost.id)


def test_two_containers_share_one_with_a_limit_that_holds(engine: NativeEngine) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "small", size_bytes=32 * MIB))
    mount = VolumeMount("small", "/v")
    first, second = (run(engine, spec(engine, volumes=(mount,))) for _ in range(2))
    inside(engine, first, "echo shared > /v/file")
    assert inside(engine, second, "cat /v/file") == "shared"
    assert len(loop.devices_of(engine.home.state)) == 1, "one disk has one device"
    assert "No space left" in inside(engine, first, "dd if=/dev/zero of=/v/big bs=1M count=64")
    assert engine.volumes.inspect("tenant1", "small").used_bytes <= 32 * MIB
    inside(engine, second, "rm /v/big")
    engine.remove(first, force=True)
    assert inside(engine, second, "cat /v/file") == "shared"
    engine.remove(second, force=True)


def test_what_ended_and_nobody_settled_is_copied_from(engine: NativeEngine) -> None:
    """Where RUN is on the volume's own disk, it was mounted once more, and the copy failed at its end: busy."""
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    id = run(engine, spec(engine, volumes=(VolumeMount("data", "/v"),)))
    inside(engine, id, "echo kept > /v/file")
    pid = engine.inspect(id).pid
    engine.kill(id)
    deadline = time.monotonic() + patience(10)
    while start_time(pid or 0) is not None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    copied = io.BytesIO()
    engine.files.copy_out(id, "/v/file", copied)
    assert b"kept" in copied.getvalue()
    assert not engine.home.volume_mounts(id).exists()
    assert engine.settle(id).state is State.EXITED


def test_what_is_deleted_in_it_goes_back_to_the_node(engine: NativeEngine) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "small", size_bytes=64 * MIB))
    id = run(engine, spec(engine, volumes=(VolumeMount("small", "/v"),)))
    inside(engine, id, "dd if=/dev/urandom of=/v/big bs=1M count=32; sync")
    full = engine.volumes.inspect("tenant1", "small").used_bytes
    assert full >= 32 * MIB
    inside(engine, id, "rm /v/big; sync")
    deadline = time.monotonic() + patience(20)
    while engine.volumes.inspect("tenant1", "small").used_bytes > full - 30 * MIB:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_an_inode_flood_ends_at_the_limit(engine: NativeEngine) -> None:
    limits = Limits(64 * MIB, 1000, 64, disk_bytes=16 * MIB)
    id = run(engine, spec(engine, limits=limits))
    before = os.statvfs(engine.home.state).f_favail
    text = inside(engine, id, "mkdir /f; i=0; while true > /f/$i; do i=$((i+1)); done; echo $i")
    assert "No space left" in text
    made = int(text.split()[-1])
    assert made > 1000
    assert before - os.statvfs(engine.home.state).f_favail < made // 2, "they are not the node's inodes"
    assert inside(engine, id, "rm -r /f; echo again > /x; cat /x") == "again"


def test_a_disk_without_a_file_left_is_started_with_and_copied_from(engine: NativeEngine) -> None:
    """An overlay that is mounted over it makes some of its own."""
    id = run(engine, spec(engine, limits=Limits(64 * MIB, 1000, 64, disk_bytes=16 * MIB)))
    inside(engine, id, "i=0; while true > /tmp/$i; do i=$((i+1)); done; cat /dev/zero > /tmp/0")
    engine.restart(id, grace_s=0)
    assert "No space left" in inside(engine, id, "true > /more"), "what is kept for that is not its own"
    engine.stop(id, grace_s=0)
    content = io.BytesIO()
    engine.files.copy_out(id, "/etc/passwd", content)
    assert b"root:" in content.getvalue()
    engine.start(id)
    assert inside(engine, id, "rm -r /tmp; echo again > /x; cat /x") == "again"


def test_a_container_fills_its_own_disk_only(engine: NativeEngine) -> None:
    limits = Limits(64 * MIB, 1000, 64, disk_bytes=32 * MIB)
    made = spec(engine, limits=limits)
    id = run(engine, made)
    assert "No space left" in inside(engine, id, "dd if=/dev/zero of=/big bs=1M count=64")
    image = engine.home.container(id) / "disk.img"
    assert image.stat().st_blocks * 512 <= 32 * MIB
    engine.stop(id, grace_s=0)
    assert not loop.devices_of(engine.home.state) or _gone(engine)
    engine.start(id)
    assert int(inside(engine, id, "stat -c %s /big")) > 16 * MIB, "what it wrote is still there after a restart"
    assert NativeEngine(engine.home).reconcile().adopted == (id,)
    assert inside(engine, id, "echo alive") == "alive"
    upper = next(layer for layer in engine.isolation(id).layers if layer.role == "upper")
    assert upper.size > 16 * MIB
    engine.remove(id, force=True)
    assert not engine.home.container(id).exists()
    assert _gone(engine)


def _gone(engine: NativeEngine) -> bool:
    """Once whoever had a copy of the mounts has let it go."""
    deadline = time.monotonic() + patience(10)
    while loop.devices_of(engine.home.root):
        assert time.monotonic() < deadline, "a loop device is left"
        time.sleep(0.02)
    return True


@refused_early
def test_a_disk_larger_than_the_nodes_is_refused(engine: NativeEngine) -> None:
    larger = shutil.disk_usage(engine.home.root).total + (1 << 20)
    told = "The node's disk has only" if larger <= MOST_DISK else "above the most"
    with pytest.raises(LimitExceeded, match=told) as caught:
        engine.create(spec(engine, limits=Limits(disk_bytes=larger)))
    assert caught.value.field == "limits.disk_bytes"
    with pytest.raises(LimitExceeded, match=told):
        engine.volumes.create(VolumeSpec("tenant1", "huge", size_bytes=larger))
    assert engine.volumes.list() == ()


def test_a_new_one_has_what_the_image_has_at_its_path(engine: NativeEngine, tmp_path: Path) -> None:
    layer = archives.entries(
        archives.folder("srv/site", mode=0o750, uid=33, gid=34),
        archives.file("srv/site/index.html", b"from the image", uid=33, gid=34),
        archives.link("srv/site/link", "/etc/passwd"),
        archives.hard_link("srv/site/same", "srv/site/index.html"),
    )
    image = image_with(engine, tmp_path, layer)
    for number, size in enumerate((None, 32 * MIB)):
        engine.volumes.create(VolumeSpec("tenant1", f"site{number}", size_bytes=size))
        id = run(engine, spec(engine, image=image, volumes=(VolumeMount(f"site{number}", "/srv/site"),)))
        assert inside(engine, id, "stat -c '%u %g %a' /srv/site") == "33 34 750"
        assert inside(engine, id, "cat /srv/site/index.html; stat -c ' %u %h' /srv/site/same") == "from the image 33 2"
        assert inside(engine, id, "readlink /srv/site/link") == "/etc/passwd"
        inside(engine, id, "rm /srv/site/*")
        engine.stop(id, grace_s=0)
        engine.start(id)
        assert inside(engine, id, "ls /srv/site") == "", "only at its first use"
        engine.remove(id, force=True)


def test_a_first_content_that_does_not_fit_is_refused_whole(engine: NativeEngine, tmp_path: Path) -> None:
    image = image_with(engine, tmp_path, archives.layer({"srv/big": os.urandom(24 * MIB)}))
    engine.volumes.create(VolumeSpec("tenant1", "small", size_bytes=16 * MIB))
    made = spec(engine, image=image, volumes=(VolumeMount("small", "/srv"),))
    engine.create(made)
    with pytest.raises(OutOfSpace) as caught:
        engine.start(made.id)
    assert "volume 'small'" in caught.value.message
    assert engine.inspect(made.id).state is State.CREATED
    other = run(engine, spec(engine, volumes=(VolumeMount("small", "/v"),)))
    assert inside(engine, other, "ls -A /v") == "", "nothing of the attempt is in it"
    _of, _size, used, *_rest = inside(engine, other, "df -P -k /v | tail -n 1").split()
    assert int(used) * 1024 < 8 * MIB, "its room is free again; the node has it back once ext4 has discarded it"


@pytest.mark.parametrize("target", ["/outside", "../../../../../../outside", "/proc/1/root/outside"])
def test_a_linked_path_does_not_lead_the_mount_out(engine: NativeEngine, tmp_path: Path, target: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("the node's")
    aim = target.replace("outside", str(outside).lstrip("/"))
    image = image_with(engine, tmp_path, links(trap=aim))
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    made = spec(engine, image=image, volumes=(VolumeMount("data", "/trap"),))
    engine.create(made)
    said = ""
    try:
        engine.start(made.id)
    except RuntimeFault as fault:
        said = str(fault)
    else:
        inside(engine, made.id, "echo written > /trap/file")
    assert str(tmp_path) not in said
    assert sorted(entry.name for entry in outside.iterdir()) == ["secret"]
    data = engine.home.state / "volumes/tenant1/data/data"
    assert not (data / "secret").exists(), "nothing of the node's came in by the first use"
    assert str(outside) not in {str(point) for point in traces(engine.home).mounts}


@pytest.mark.parametrize("path", ["/bin/sh", "/etc/passwd/below", "/etc/hosts", "/door"])
def test_a_file_is_no_place_for_a_mount(engine: NativeEngine, tmp_path: Path, path: str) -> None:
    image = image_with(engine, tmp_path, links(door="/etc/group"))
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    for field, place in (("volumes", VolumeMount("data", path)), ("tmpfs", Tmpfs(path))):
        made = spec(engine, image=image, **{field: (place,)})
        engine.create(made)
        with pytest.raises(InvalidSpec) as caught:
            engine.start(made.id)
        assert caught.value.field == f"{field}[0].path"


@pytest.mark.parametrize("size", [None, 32 * MIB])
def test_a_new_read_only_one_at_etc_has_places_for_the_runtimes_own_files(
    engine: NativeEngine, size: int | None
) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "data", size))
    id = run(engine, spec(engine, volumes=(VolumeMount("data", "/etc", read_only=True),)))
    assert inside(engine, id, "cat /etc/hostname; grep -c localhost /etc/hosts") == f"{engine.inspect(id).name}\n2"
    assert inside(engine, id, "test -f /etc/resolv.conf && echo there") == "there"
    assert "root:" in inside(engine, id, "cat /etc/passwd"), "what the image has there"
    assert "Read-only" in inside(engine, id, "echo no > /etc/new")


@refused_early
def test_what_cannot_be_mounted_in_a_read_only_one_names_its_field(engine: NativeEngine, tmp_path: Path) -> None:
    linked = image_with(engine, tmp_path, archives.entries(archives.link("etc", "real")), name="linked")
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    engine.volumes.create(VolumeSpec("tenant1", "more"))
    sealed = VolumeMount("data", "/srv", read_only=True)
    for made, field in (
        (spec(engine, volumes=(sealed, VolumeMount("more", "/srv/none"))), "volumes[1].path"),
        (spec(engine, volumes=(sealed,), tmpfs=(Tmpfs("/srv/none"),)), "tmpfs[0].path"),
        (spec(engine, image=linked, volumes=(VolumeMount("data", "/real", read_only=True),)), "volumes[0].path"),
    ):
        engine.create(made)
        with pytest.raises(InvalidSpec) as caught:
            engine.start(made.id)
        assert caught.value.field == field
    id = run(engine, spec(engine, volumes=(replace(sealed, read_only=False),)))
    inside(engine, id, "mkdir /srv/none")
    run(engine, spec(engine, volumes=(sealed, VolumeMount("more", "/srv/none")), tmpfs=(Tmpfs("/srv/none/x"),)))


def test_what_a_file_system_in_memory_covers_is_no_hindrance(engine: NativeEngine, tmp_path: Path) -> None:
    image = image_with(engine, tmp_path, archives.layer({"srv/file": b"content"}))
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    over = (VolumeMount("data", "/srv/file"),)
    id = run(engine, spec(engine, image=image, tmpfs=(Tmpfs("/srv"),), volumes=over))
    assert inside(engine, id, "ls -d /srv/file/.") == "/srv/file/."


def test_no_device_works_in_it_and_set_uid_gives_nothing(engine: NativeEngine) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    data = engine.home.state / "volumes/tenant1/data/data"
    os.mknod(data / "disk", 0o060666, os.stat("/dev/loop0").st_rdev)
    id = run(engine, spec(engine, volumes=(VolumeMount("data", "/v"),)))
    text = inside(engine, id, "head -c1 /v/disk; grep ' /v ' /proc/mounts")
    assert "denied" in text or "not permitted" in text
    assert {"nosuid", "nodev"} <= set(text.split(" /v ")[1].split()[1].split(","))


def test_nobody_else_of_the_node_reaches_it(engine: NativeEngine) -> None:
    """On disk the container's root is the node's: a set-uid program of its making must lie behind a closed door."""
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    id = run(engine, spec(engine, volumes=(VolumeMount("data", "/v"),)))
    inside(engine, id, "cp /bin/busybox /v/busybox; chmod 4755 /v/busybox; chmod 777 /v")
    for path in (
        engine.home.state / "volumes/tenant1/data/data/busybox",
        engine.home.run / "volumes" / id / "0/busybox",
    ):
        assert path.exists()
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-c", 'exec "$0" id', path]
        refused = subprocess.run(nobody, check=False, capture_output=True)
        assert b"denied" in refused.stderr


def test_many_that_start_at_once_with_a_new_one_share_it(engine: NativeEngine, tmp_path: Path) -> None:
    image = image_with(engine, tmp_path, archives.layer({"srv/file": b"from the image"}))
    engine.volumes.create(VolumeSpec("tenant1", "sized", size_bytes=32 * MIB))
    made = [spec(engine, image=image, volumes=(VolumeMount("sized", "/srv"),)) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        ids = list(pool.map(lambda one: run(engine, one), made))
        assert len(loop.devices_of(engine.home.state)) == 1
        for number, id in enumerate(ids):
            inside(engine, id, f"echo {number} > /srv/{number}")
        assert {inside(engine, id, "cat /srv/*") for id in ids} == {"\n".join("012345") + "\nfrom the image"}
        list(pool.map(lambda id: engine.remove(id, force=True), ids))


def test_one_tenants_name_reaches_no_others(engine: NativeEngine) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    (engine.home.state / "volumes/tenant1/data/data/secret").write_text("tenant1's")
    engine.volumes.create(VolumeSpec("tenant2", "data"))
    id = run(engine, spec(engine, tenant="tenant2", volumes=(VolumeMount("data", "/v"),)))
    assert inside(engine, id, "ls -A /v") == ""


def test_it_is_kept_while_a_container_has_it_running_or_not(engine: NativeEngine) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "data", size_bytes=16 * MIB))
    id = run(engine, spec(engine, volumes=(VolumeMount("data", "/v"),)))
    for _ in range(2):
        with pytest.raises(Conflict) as caught:
            engine.volumes.remove("tenant1", "data")
        assert caught.value.data["container"] == id
        engine.stop(id, grace_s=0)
    engine.remove(id)
    engine.volumes.remove("tenant1", "data")
    assert not (engine.home.state / "volumes/tenant1/data").exists()
