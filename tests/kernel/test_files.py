"""Files of real containers: copied through links, races and volumes, told, exported and committed, with nothing that leads out."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.api import CommitSpec, Limits, Tmpfs, VolumeMount, VolumeSpec
from runtime.engines.native.engine import NativeEngine
from runtime.errors import Conflict, InvalidSpec, NotFound, OutOfSpace
from runtime.image import room
from tests import archives
from tests.conftest import patience
from tests.kernel.containers import engine, inside, run, spec
from tests.marks import no_cgroup, refused_early

__all__ = ["engine"]
pytestmark = [pytest.mark.root, no_cgroup]
MIB = 2**20


def out(engine: NativeEngine, id: str, path: str) -> dict[str, tarfile.TarInfo]:
    held = io.BytesIO()
    engine.files.copy_out(id, path, held)
    return told(held)


def told(held: io.BytesIO) -> dict[str, tarfile.TarInfo]:
    held.seek(0)
    with tarfile.open(fileobj=held) as archive:
        return {member.name: member for member in archive}


def content(engine: NativeEngine, id: str, path: str) -> bytes:
    held = io.BytesIO()
    engine.files.copy_out(id, path, held)
    held.seek(0)
    with tarfile.open(fileobj=held) as archive:
        source = archive.extractfile(archive.getmembers()[0])
        assert source
        return source.read()


def put(engine: NativeEngine, id: str, path: str, *rows: tuple[tarfile.TarInfo, bytes]) -> None:
    engine.files.copy_in(id, path, io.BytesIO(archives.entries(*rows)))


def device(name: str) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.type, made.devmajor, made.devminor = tarfile.BLKTYPE, 7, 0
    return made, b""


@pytest.fixture(params=["running", "stopped"])
def container(engine: NativeEngine, request: pytest.FixtureRequest) -> tuple[str, Callable[[str], str]]:
    """Its id, and a way to look into it whatever its state."""
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    id = run(engine, spec(engine, volumes=(VolumeMount("data", "/v"),)))

    def look(script: str) -> str:
        engine.start(id)
        return inside(engine, id, script)

    if request.param == "stopped":
        engine.stop(id, grace_s=0)
    return id, look


def test_what_is_copied_in_belongs_to_who_the_archive_says(
    engine: NativeEngine, container: tuple[str, Callable[[str], str]]
) -> None:
    id, look = container
    put(
        engine, id, "/tmp",
        archives.folder("d", mode=0o750, uid=5, gid=6), archives.file("d/f", b"hello", mode=0o4755, uid=7, gid=8),
        archives.link("d/l", "/etc/passwd"), archives.hard_link("d/h", "d/f"), archives.file("deep/er/file", b"x"),
    )  # fmt: skip
    rows = out(engine, id, "/tmp/d")
    assert list(rows) == ["d", "d/f", "d/h", "d/l"]
    assert (rows["d"].mode, rows["d"].uid, rows["d"].gid) == (0o750, 5, 6)
    assert (rows["d/f"].mode, rows["d/f"].uid, rows["d/f"].gid, rows["d/f"].size) == (0o4755, 7, 8, 5)
    assert rows["d/h"].islnk()
    assert rows["d/l"].linkname == "/etc/passwd"
    assert look("stat -c '%u %g %a' /tmp/d/f /tmp/deep; cat /tmp/d/h") == "7 8 4755\n0 0 755\nhello"


def test_a_volume_is_part_of_what_is_copied(engine: NativeEngine, container: tuple[str, Callable[[str], str]]) -> None:
    id, look = container
    put(engine, id, "/v", archives.file("file", b"through", uid=3))
    assert content(engine, id, "/v/file") == b"through"
    data = engine.home.state / "volumes/tenant1/data/data"
    assert (data / "file").read_bytes() == b"through"
    assert (data / "file").stat().st_uid == 3
    assert "v/file" in out(engine, id, "/v")
    assert look("cat /v/file; stat -c ' %u' /v/file") == "through 3"


@refused_early
@pytest.mark.parametrize(
    ("row", "words"),
    [
        (archives.file("../escaped", b"x"), "leads out"),
        (archives.file("a/../../escaped", b"x"), "leads out"),
        (archives.file("/escaped", b"x"), "leads out"),
        (archives.hard_link("h", "../../../etc/shadow"), "links to what is not"),
        (device("disk"), "device node"),
        (archives.file("f", b"x", uid=70000), "owner above"),
    ],
)
def test_a_bad_entry_is_refused_by_name(
    engine: NativeEngine, container: tuple[str, Callable[[str], str]], row: tuple[tarfile.TarInfo, bytes], words: str
) -> None:
    id, look = container
    with pytest.raises(InvalidSpec, match=words) as caught:
        put(engine, id, "/tmp", row)
    assert caught.value.field == "archive"
    assert look("ls -A /tmp") == ""


def test_links_lead_within_the_container_alone(engine: NativeEngine, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("the node's")
    id = run(engine, spec(engine))
    inside(
        engine,
        id,
        f"mkdir -p /tmp/t; ln -s {outside} /tmp/abs; ln -s ../../../../../../..{outside} /tmp/up; ln -s /etc /tmp/etc",
    )
    for path in ("/tmp/abs", "/tmp/up"):
        with pytest.raises(NotFound):
            put(engine, id, path, archives.file("written", b"x"))
        with pytest.raises(NotFound):
            out(engine, id, f"{path}/secret")
        assert next(iter(out(engine, id, path).values())).issym()
    put(engine, id, "/tmp/etc", archives.file("from-outside", b"x"))
    assert inside(engine, id, "cat /etc/from-outside") == "x"
    put(engine, id, "/tmp", archives.link("t/abs", str(outside)))
    with pytest.raises(InvalidSpec):
        put(engine, id, "/tmp", archives.file("t/abs/written", b"x"))
    assert [entry.name for entry in outside.iterdir()] == ["secret"]


def test_the_kernels_file_systems_are_no_files(engine: NativeEngine) -> None:
    id = run(engine, spec(engine))
    for path in ("/proc", "/sys", "/dev", "/proc/sys/kernel"):
        with pytest.raises(InvalidSpec):
            put(engine, id, path, archives.file("x", b"x"))
    with pytest.raises(InvalidSpec):
        put(engine, id, "/", archives.file("proc/sys/kernel/domainname", b"changed"))
    with pytest.raises(InvalidSpec):
        put(engine, id, "/", archives.folder("proc", mode=0o700))
    with pytest.raises(InvalidSpec):
        out(engine, id, "/proc/version")
    names = out(engine, id, "/")
    assert {"proc", "sys", "dev", "bin"} <= set(names)
    assert not [name for name in names if name.startswith(("proc/", "sys/"))]


def test_a_first_process_that_went_elsewhere_is_not_followed(engine: NativeEngine) -> None:
    script = "mkdir -p /jail/bin /jail/tmp; cp /bin/busybox /jail/bin/sh; exec chroot /jail /bin/sh -c 'while :; do read -t 1 x; done'"
    id = run(engine, spec(engine, init=False, command=("sh", "-c", script)))
    deadline = time.monotonic() + patience(10)
    while b"jail" not in os.readlink(f"/proc/{engine.inspect(id).pid}/root").encode():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    put(engine, id, "/tmp", archives.file("file", b"x"))
    assert inside(engine, id, "cat /tmp/file; ls /jail/tmp") == "x"
    told = engine.isolation(id)
    assert (told.masked, told.read_only, told.terminals_most) == ((), (), None), "the kernel shows none of its mounts"


SWAP = """
mkdir -p /tmp/a /tmp/real; ln -s {outside} /tmp/link
while :; do mv -T /tmp/a/d /tmp/real/d; mv -T /tmp/link /tmp/a/d; mv -T /tmp/a/d /tmp/link; mv -T /tmp/real/d /tmp/a/d; done 2>/dev/null
"""


def test_a_race_of_links_leads_no_copy_out(engine: NativeEngine, tmp_path: Path) -> None:
    """The container swaps a folder with a link to the node's while files are copied below it."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    (outside / "secret").write_text("the node's")
    (outside / "secret").chmod(0o666)
    script = "mkdir -p /tmp/a/d; echo own > /tmp/a/d/secret; " + SWAP.format(outside=outside).replace("\n", ";").strip(
        ";"
    )
    script = script.replace(";while", "; while")
    id = run(engine, spec(engine, command=("sh", "-c", script), limits=Limits(64 * MIB, 1000, 64)))
    deadline = time.monotonic() + patience(30)
    done = refused = 0
    while min(done, refused) < 20:
        assert time.monotonic() < deadline, f"{done} copied, {refused} refused: the race was not met"
        try:
            put(engine, id, "/tmp/a", archives.folder("d", mode=0o777), archives.file("d/secret", b"own"))
            done += 1
        except (InvalidSpec, NotFound):
            refused += 1
        held = io.BytesIO()
        try:
            engine.files.copy_out(id, "/tmp/a", held)
        except NotFound:
            continue
        assert b"the node's" not in held.getvalue()
    assert {entry.name: entry.read_text() for entry in outside.iterdir()} == {"secret": "the node's"}
    assert (outside.stat().st_mode & 0o777, outside.stat().st_uid) == (0o777, 0)


def test_a_read_only_container_takes_nothing_but_into_its_volumes(engine: NativeEngine) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    engine.volumes.create(VolumeSpec("tenant1", "sealed"))
    mounts = (VolumeMount("data", "/v"), VolumeMount("sealed", "/s", read_only=True))
    id = run(engine, spec(engine, read_only=True, volumes=mounts))
    for _ in range(2):
        for path in ("/etc", "/s"):
            with pytest.raises(Conflict):
                put(engine, id, path, archives.file("x", b"x"))
        put(engine, id, "/v", archives.file("x", b"x"))
        engine.stop(id, grace_s=0)


def test_a_copy_that_fills_the_containers_disk_is_told_so(engine: NativeEngine) -> None:
    id = run(engine, spec(engine, limits=Limits(64 * MIB, 1000, 64, disk_bytes=16 * MIB)))
    with pytest.raises(OutOfSpace) as caught:
        put(engine, id, "/tmp", archives.file("big", os.urandom(24 * MIB)))
    assert "container's disk" in caught.value.message


def test_a_copy_leaves_a_part_of_the_nodes_disk_free(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Into one without a limit that does not run, so that nobody would be ended for it."""
    stopped = spec(engine)
    engine.create(stopped)
    with monkeypatch.context() as full:
        full.setattr(room, "SHARE_KEPT_FREE", 1)
        full.setattr(room, "MOST_KEPT_FREE", 1 << 62)
        with pytest.raises(OutOfSpace) as caught:
            put(engine, stopped.id, "/tmp", archives.file("big", b"x"))
    assert "node's disk" in caught.value.message
    put(engine, stopped.id, "/tmp", archives.file("small", b"x"))


@refused_early
@pytest.mark.parametrize(
    "archive", [b"", b"no tar at all" * 100, archives.entries(archives.file("f", b"x" * 5000))[:2000]]
)
def test_what_is_no_archive_is_told_so(engine: NativeEngine, archive: bytes) -> None:
    made = spec(engine)
    engine.create(made)
    with pytest.raises(InvalidSpec) as caught:
        engine.files.copy_in(made.id, "/tmp", io.BytesIO(archive))
    assert caught.value.field == "archive"


def test_a_fifo_or_a_growing_file_holds_no_copy_up(engine: NativeEngine) -> None:
    id = run(engine, spec(engine))
    inside(
        engine,
        id,
        "mkdir /tmp/d; mkfifo /tmp/d/fifo; (while :; do echo more; done) > /tmp/d/grows 2> /dev/null & sleep 0.2",
    )
    rows = out(engine, id, "/tmp/d")
    assert rows["d/fifo"].isfifo()
    assert rows["d/grows"].size > 0


@pytest.mark.parametrize("limit", [None, 32 * MIB])
def test_diff_tells_what_was_added_changed_and_deleted(engine: NativeEngine, tmp_path: Path, limit: int | None) -> None:
    layer = archives.entries(
        archives.folder("srv"), archives.file("srv/gone", b"1"), archives.file("srv/kept", b"1"), archives.file("srv/new", b"1"),
        archives.folder("srv/again"), archives.file("srv/again/old", b"1"), archives.file("srv/again/both", b"1"),
        archives.folder("srv/moved"), archives.file("srv/moved/x", b"1"), archives.folder("srv/away"), archives.file("srv/away/x", b"1"),
    )  # fmt: skip
    archive = archives.write(tmp_path / "a.tar", reference="test/diff:latest", layers=[archives.busybox(), layer])
    image = engine.load(archive)[0].id
    id = run(engine, spec(engine, image=image, limits=Limits(64 * MIB, 1000, 64, disk_bytes=limit)))
    inside(
        engine, id,
        "cd /srv; rm gone; echo 2 > new; mkdir -p fresh/sub; echo 3 > fresh/sub/f; rm -r again; mkdir again; echo 4 > again/both;"
        "echo 5 > again/added; rm -r away; mv moved renamed; touch never; rm never",
    )  # fmt: skip
    expected = [
        ("changed", "/srv"), ("changed", "/srv/again"), ("deleted", "/srv/away"), ("added", "/srv/fresh"), ("deleted", "/srv/gone"),
        ("deleted", "/srv/moved"), ("changed", "/srv/new"), ("added", "/srv/renamed"), ("added", "/srv/again/added"),
        ("changed", "/srv/again/both"), ("deleted", "/srv/again/old"), ("added", "/srv/fresh/sub"), ("added", "/srv/fresh/sub/f"),
        ("added", "/srv/renamed/x"),
    ]  # fmt: skip
    ours = ("/dev", "/proc", "/sys", "/etc", "/run")
    for _ in range(2):
        found = [(change.kind, change.path) for change in engine.files.diff(id)]
        assert sorted(row for row in found if not row[1].startswith(ours)) == sorted(expected)
        engine.stop(id, grace_s=0)


def test_what_the_runtime_made_to_mount_its_own_files_on_is_no_change(engine: NativeEngine) -> None:
    """The image has none of them."""
    id = run(engine, spec(engine))
    assert [change.path for change in engine.files.diff(id)] == []
    image = engine.files.commit(id, CommitSpec("test/untouched"))
    with tarfile.open(engine.store.blobs.path(image.layers[-1].digest)) as layer:
        assert [name for name in layer.getnames() if not layer.getmember(name).isdir()] == []
    inside(engine, id, "chmod 700 /etc")
    assert [(change.kind, change.path) for change in engine.files.diff(id)] == [("changed", "/etc")]
    inside(engine, id, "chmod 755 /etc; touch /etc/own; rm /etc/group")
    found = [(change.kind, change.path) for change in engine.files.diff(id)]
    assert found == [("changed", "/etc"), ("deleted", "/etc/group"), ("added", "/etc/own")]


def test_a_commit_is_the_container_as_an_image_and_the_same_each_time(engine: NativeEngine) -> None:
    id = run(engine, spec(engine))
    inside(
        engine,
        id,
        "echo made > /srv-file; chown 9:9 /srv-file; rm /etc/group; rm -r /var; mkdir /var; echo new > /var/only; ln /srv-file /twin",
    )
    wanted = CommitSpec(
        "test/made:1", command=("cat", "/srv-file"), env={"NEW": "value"}, labels={"by": "test"}, comment="hello"
    )
    running = engine.files.commit(id, wanted)
    engine.stop(id, grace_s=0)
    stopped = engine.files.commit(id, replace(wanted, reference="test/made:2"))
    assert running.id == stopped.id
    assert len(running.layers) == len(engine.image("busybox").layers) + 1
    assert running.config["Cmd"] == ["cat", "/srv-file"]
    assert "NEW=value" in running.config["Env"]  # type: ignore[operator]
    engine.remove(id)
    other = run(engine, spec(engine, image=running.id))
    text = inside(engine, other, "cat /srv-file; stat -c '%u %h' /srv-file; ls /etc/group; ls -A /var; echo $NEW")
    assert text.splitlines() == ["made", "9 2", "ls: /etc/group: No such file or directory", "only", "value"]
    assert "/srv-file" not in {change.path for change in engine.files.diff(other)}
    again = engine.files.commit(other, CommitSpec("test/made:3"))
    assert len(again.layers) == len(running.layers) + 1


@refused_early
def test_a_commit_does_not_take_the_name_of_a_built_in_image(engine: NativeEngine) -> None:
    made = spec(engine)
    engine.create(made)
    before = engine.images()
    with pytest.raises(InvalidSpec):
        engine.files.commit(made.id, CommitSpec("slipway.local/busybox:latest"))
    assert engine.images() == before


def test_an_export_is_the_root_as_the_container_sees_it(engine: NativeEngine) -> None:
    engine.volumes.create(VolumeSpec("tenant1", "data"))
    id = run(engine, spec(engine, volumes=(VolumeMount("data", "/v"),)))
    inside(engine, id, "echo x > /v/inside; echo y > /own; chown 4:5 /own; rm /etc/group")
    found = []
    for _ in range(2):
        held = io.BytesIO()
        engine.files.export(id, held)
        found.append(told(held))
        engine.stop(id, grace_s=0)
    assert set(found[0]) == set(found[1])
    assert (found[0]["own"].uid, found[0]["own"].gid) == (4, 5)
    assert {row.uid for row in found[0].values()} <= {0, 4}
    assert "v/inside" not in found[0]
    assert "etc/group" not in found[0]


def test_memory_does_not_grow_with_what_passes(engine: NativeEngine) -> None:
    """In a process of its own, whose memory nothing else has raised."""
    id = run(engine, spec(engine))
    inside(
        engine,
        id,
        "dd if=/dev/zero of=/big bs=1M count=600; i=0; mkdir /many; while [ $i -lt 3000 ]; do echo > /many/$i; i=$((i+1)); done",
    )
    script = (
        "import resource, sys, io\n"
        "from runtime.api import CommitSpec\n"
        "from runtime.engines.native.engine import NativeEngine\n"
        "from runtime.home import Home\n"
        "engine = NativeEngine(Home.from_environment())\n"
        "engine.files.copy_out(sys.argv[1], '/tmp', open('/dev/null', 'wb'))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "engine.files.export(sys.argv[1], open('/dev/null', 'wb'))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run(
        ["python3", "-c", script, id], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2]
    )
    assert int(done.stdout) < 32, "MiB more for 600 MiB that passed"


def test_a_reader_that_goes_away_ends_the_copy(engine: NativeEngine) -> None:
    id = run(engine, spec(engine))
    inside(engine, id, "dd if=/dev/zero of=/big bs=1M count=8")
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as target:
        engine.files.copy_out(id, "/big", target)
    assert inside(engine, id, "echo alive") == "alive"


def test_a_file_system_in_memory_is_part_of_what_runs(engine: NativeEngine) -> None:
    id = run(engine, spec(engine, tmpfs=(Tmpfs("/cache", MIB),)))
    put(engine, id, "/cache", archives.file("file", b"in memory", uid=3))
    assert inside(engine, id, "cat /cache/file; stat -c ' %u' /cache/file") == "in memory 3"
    assert content(engine, id, "/cache/file") == b"in memory"
    with pytest.raises(OutOfSpace):
        put(engine, id, "/cache", archives.file("big", os.urandom(2 * MIB)))
