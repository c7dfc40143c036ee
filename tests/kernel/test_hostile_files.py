"""Images, volumes, copies and execs that an enemy has prepared: nothing of the node is read, written or mounted."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import CommitSpec, ExecSpec, HealthCheck, State, Tmpfs, VolumeMount, VolumeSpec
from runtime.engines.native.engine import NativeEngine
from runtime.errors import InvalidSpec, RuntimeFault
from tests import archives
from tests.conftest import oci_runtime, patience
from tests.kernel.scene import Scene, armed, engine, programs, scene
from tests.marks import no_cgroup, refused_early

__all__ = ["armed", "engine", "programs", "scene"]
pytestmark = [pytest.mark.root, no_cgroup]


def image(engine: NativeEngine, folder: Path, *rows: tuple[tarfile.TarInfo, bytes]) -> str:
    """busybox with this on top."""
    archive = archives.write(
        folder / "image.tar", reference="test/hostile:latest", layers=[archives.busybox(), archives.entries(*rows)]
    )
    return engine.load(archive)[0].id


@pytest.fixture
def volume(scene: Scene) -> Iterator[str]:
    scene.engine.volumes.create(VolumeSpec("tenant1", "trap"))
    yield "trap"
    for status in scene.engine.list(tenant="tenant1"):
        if any(mount.volume == "trap" for mount in scene.engine.spec(status.id).volumes):
            scene.engine.remove(status.id, force=True)
    scene.engine.volumes.remove("tenant1", "trap")


@refused_early
@pytest.mark.parametrize("path", ["/trap", "/trap/in/it"])
@pytest.mark.parametrize(
    "target", ["/dev", "/proc", "/sys", "../../proc/self", "/proc/sys/kernel", "/sys/fs/cgroup", "/dev/shm"]
)
@pytest.mark.parametrize("kind", ["volume", "tmpfs"])
def test_a_linked_path_leads_no_mount_into_the_kernels_folders(
    scene: Scene, volume: str, tmp_path: Path, kind: str, target: str, path: str
) -> None:
    """A runtime that puts masks and devices there would take the enemy's files for its own."""
    made = image(scene.engine, tmp_path, archives.link("trap", target))
    wanted = {"volumes": (VolumeMount(volume, path),)} if kind == "volume" else {"tmpfs": (Tmpfs(path),)}
    spec = scene.spec(image=made, command=("/bin/busybox", "sleep", "1000"), **wanted)
    scene.engine.create(spec)
    with pytest.raises(InvalidSpec) as caught:
        scene.engine.start(spec.id)
    assert caught.value.field in {"volumes[0].path", "tmpfs[0].path"}
    assert scene.engine.inspect(spec.id).state is State.CREATED
    scene.engine.remove(spec.id)


def test_a_link_of_one_volume_leads_another_nowhere(scene: Scene, volume: str) -> None:
    first = scene.run(volumes=(VolumeMount(volume, "/v"),))
    scene.inside(first, "ln -s /dev /v/out; ln -s loop /v/loop; mkdir /v/plain; ln -s plain /v/link")
    scene.engine.volumes.create(VolumeSpec("tenant1", "inner"))
    for path, refused in (("/v/out", True), ("/v/out/in", True), ("/v/loop", True), ("/v/link", False)):
        spec = scene.spec(volumes=(VolumeMount("inner", path), VolumeMount(volume, "/v")))
        scene.engine.create(spec)
        with pytest.raises(InvalidSpec, match="leads") if refused else contextlib.nullcontext():
            scene.engine.start(spec.id)
        scene.engine.remove(spec.id, force=True)
    scene.engine.remove(first, force=True)
    scene.engine.volumes.remove("tenant1", "inner")


@pytest.mark.parametrize("name", ["hosts", "hostname", "resolv.conf"])
@pytest.mark.parametrize("way", ["file", "folder"])
def test_a_linked_file_of_the_runtimes_leads_nowhere(scene: Scene, tmp_path: Path, name: str, way: str) -> None:
    """The runtime shows its own file at /etc/NAME, which an image may have made a link out, or /etc itself."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / name).write_text("the node's")
    row = archives.link(f"etc/{name}", str(outside / name)) if way == "file" else archives.link("etc", str(outside))
    rows = [row] if way == "file" else [whiteout("etc"), row]
    spec = scene.spec(image=image(scene.engine, tmp_path, *rows))
    scene.engine.create(spec)
    with contextlib.suppress(RuntimeFault):
        scene.engine.start(spec.id)
        assert "the node's" not in scene.inside(spec.id, f"cat /etc/{name}; cat {outside}/{name}")
        scene.inside(spec.id, f"echo changed > /etc/{name}; echo changed > {outside}/{name}")
    assert (outside / name).read_text() == "the node's"
    assert [entry.name for entry in outside.iterdir()] == [name]


def whiteout(name: str) -> tuple[tarfile.TarInfo, bytes]:
    return archives.file(f".wh.{name}")


@pytest.mark.parametrize("name", ["passwd", "group"])
def test_a_pipe_for_a_file_of_accounts_holds_no_start_up(scene: Scene, tmp_path: Path, volume: str, name: str) -> None:
    """It was the runtime that read it, until its deadline.  In the image or behind a link of it, by the container itself, in a volume."""
    pipe, _ = archives.file("etc/pipe")
    pipe.type = tarfile.FIFOTYPE
    linked = image(scene.engine, tmp_path, (pipe, b""), archives.link(f"etc/{name}", "/etc/pipe"))
    for spec in (
        scene.spec(image=linked),
        scene.spec(command=("sh", "-c", f"rm -f /etc/{name}; mkfifo /etc/{name}")),
        scene.spec(
            command=("sh", "-c", f"rm -f /etc/{name}; mkfifo /etc/{name}"), volumes=(VolumeMount(volume, "/etc"),)
        ),
    ):
        scene.engine.create(spec)
        if spec.image != linked:
            scene.engine.start(spec.id)
            scene.ended(spec.id)
        with pytest.raises(InvalidSpec, match=f"'/etc/{name}' is a pipe"):
            scene.engine.start(spec.id)


def test_set_user_id_gives_nothing(scene: Scene, tmp_path: Path) -> None:
    rows = [archives.file("become/busybox", Path("/bin/busybox").read_bytes(), mode=0o6755)]
    id = scene.run(image=image(scene.engine, tmp_path, *rows), user="1000")
    text = scene.inside(id, "stat -c %a /become/busybox; /become/busybox sh -c 'id -u; grep CapEff /proc/self/status'")
    assert text.split() == ["6755", "1000", "CapEff:", "0" * 16]


def test_capabilities_of_a_file_give_nothing(scene: Scene, tmp_path: Path) -> None:
    """VFS_CAP_REVISION_2 with CAP_CHOWN and CAP_DAC_OVERRIDE, effective (linux/capability.h)."""
    entry, content = archives.file("able/busybox", Path("/bin/busybox").read_bytes(), mode=0o755)
    entry.pax_headers = {
        "SCHILY.xattr.security.capability": (b"\x01\x00\x00\x02" + b"\x03" + bytes(15)).decode(
            "utf-8", "surrogateescape"
        )
    }
    id = scene.run(image=image(scene.engine, tmp_path, (entry, content)), user="1000")
    text = scene.inside(id, "/able/busybox cat /proc/self/status | grep -E 'CapEff|CapPrm'")
    assert set(text.split()) == {"CapEff:", "CapPrm:", "0" * 16}


def test_a_device_of_an_image_is_none(scene: Scene, tmp_path: Path) -> None:
    made, _ = archives.file("dev0")
    made.type, made.devmajor, made.devminor = tarfile.CHRTYPE, 1, 1
    with pytest.raises(RuntimeFault, match="device"):
        image(scene.engine, tmp_path, (made, b""))


@pytest.mark.parametrize("number", range(3, 12))
def test_no_descriptor_of_the_runtime_is_a_way_out(scene: Scene, tmp_path: Path, number: int) -> None:
    """As in CVE-2024-21626: a working directory that is a folder of the node which the runtime has open."""
    place = f"/proc/self/fd/{number}"
    escape = (
        "sh",
        "-c",
        "ls -d ../../../../etc/machine-id ../../../../proc/1/cwd/usr 2>/dev/null; cat ../../../../../etc/hostname; pwd",
    )
    own = Path("/etc/hostname").read_text()
    id = scene.run()
    for working_dir in (place, f"/proc/thread-self/fd/{number}", f"/proc/1/fd/{number}"):
        with contextlib.suppress(RuntimeFault):
            session = scene.engine.exec(id, ExecSpec(escape, working_dir=working_dir))
            assert own.encode() not in session.stdout.read()
            session.close()
    spec = scene.spec(command=escape, working_dir=place)
    scene.engine.create(spec)
    with contextlib.suppress(RuntimeFault):
        scene.engine.start(spec.id)
        assert own.strip() not in scene.ended(spec.id)


def test_a_linked_working_directory_stays_inside(scene: Scene, tmp_path: Path) -> None:
    made = image(
        scene.engine, tmp_path, archives.link("work", "/proc/self/fd/7"), archives.link("up", "../../../../..")
    )
    for folder in ("/work", "/up"):
        spec = scene.spec(image=made, command=("sh", "-c", "ls; cat etc/machine-id"), working_dir=folder)
        scene.engine.create(spec)
        with contextlib.suppress(RuntimeFault):
            scene.engine.start(spec.id)
            assert set(scene.ended(spec.id)) <= {
                "bin",
                "dev",
                "etc",
                "proc",
                "root",
                "sys",
                "tmp",
                "up",
                "work",
                "cat: can't open 'etc/machine-id': No such file or directory",
            }


def test_a_process_has_no_descriptor_but_its_streams(scene: Scene) -> None:
    id = scene.run()
    text = scene.inside(id, "for p in 1 self; do for f in /proc/$p/fd/*; do echo $p $(readlink $f); done; done")
    leads = {tuple(line.split(maxsplit=1)) for line in text.splitlines() if len(line.split()) > 1}
    assert leads
    for _, target in leads:  # type: ignore[misc]
        assert target.startswith(("pipe:", "/dev/null", "/dev/pts", "/proc/")), target
    assert len([1 for process, _ in leads if process == "1"]) <= 3  # type: ignore[misc]


def test_the_runtimes_own_programs_are_not_overwritten_through_an_exec(armed: Scene) -> None:
    """As in CVE-2019-5736: what the node runs in the container is opened for writing by whoever is there."""
    watched = [Path(found) for name in (oci_runtime(), "conmon", "tini-static") if (found := shutil.which(name))]
    assert len(watched) == 3
    before = [digest(path) for path in watched]
    overwrite = "while :; do for p in /proc/[0-9]*; do e=$(readlink $p/exe); case $e in */busybox|'') ;; *) (echo owned > $p/exe) 2>/dev/null && echo wrote;; esac; done; done"
    id = armed.run(command=("sh", "-c", overwrite))
    armed.inside(
        id, "printf '#!/proc/self/exe\\n' > /bin/bait; chmod 755 /bin/bait; echo owned 2>/dev/null > /dev/init || true"
    )
    for _ in range(10):
        for command in (("/bin/bait",), ("/proc/self/exe", "--version"), ("true",)):
            with contextlib.suppress(RuntimeFault):
                armed.engine.exec(id, ExecSpec(command)).close()
    assert "wrote" not in [line.text for line in armed.engine.logs(id)]
    armed.engine.remove(id, force=True)
    assert [digest(path) for path in watched] == before


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_race_of_links_leads_no_export_commit_or_diff_out(scene: Scene, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o755)
    (outside / "secret").write_text("of the node")
    script = (
        f"mkdir -p /tmp/a/d /tmp/real; echo own > /tmp/a/d/secret; ln -s {outside} /tmp/link; echo swaps;"
        "while :; do mv -T /tmp/a/d /tmp/real/d; mv -T /tmp/link /tmp/a/d; mv -T /tmp/a/d /tmp/link; mv -T /tmp/real/d /tmp/a/d; done 2>/dev/null"
    )
    id = scene.run(command=("sh", "-c", script))
    scene.said(id, "swaps")
    for number in range(8):
        held = io.BytesIO()
        with contextlib.suppress(RuntimeFault):  # what vanishes in the very moment may be told
            scene.engine.files.export(id, held)
        assert b"of the node" not in held.getvalue()
        with contextlib.suppress(RuntimeFault):
            made = scene.engine.files.commit(id, CommitSpec(f"test/race:{number}"))
            for layer in scene.engine.store.layer_folders(made):
                assert b"of the node" not in b"".join(
                    path.read_bytes() for path in layer.rglob("secret") if path.is_file() and not path.is_symlink()
                )
        list(scene.engine.files.diff(id))
    assert (outside / "secret").read_text() == "of the node"


def test_a_volume_that_two_share_is_swapped_while_a_third_starts(scene: Scene, volume: str, tmp_path: Path) -> None:
    """As in CVE-2021-30465: a folder on a shared volume becomes a link to the node's while something is mounted on it."""
    scene.engine.volumes.create(VolumeSpec("tenant1", "inner"))
    swap = "cd /v; mkdir -p d; ln -s / l; echo swaps; while :; do mv -T d x; mv -T l d; mv -T d l; mv -T x d; done 2>/dev/null"
    first = scene.run(command=("sh", "-c", swap), volumes=(VolumeMount(volume, "/v"),))
    scene.said(first, "swaps")
    mounts = (VolumeMount(volume, "/v"), VolumeMount("inner", "/v/d/deep"))
    for _ in range(8):
        spec = scene.spec(volumes=mounts)
        scene.engine.create(spec)
        with contextlib.suppress(RuntimeFault):
            scene.engine.start(spec.id)
            text = scene.inside(spec.id, "ls /v/d/deep/ /deep; ls -d /v/d/*; cat /proc/mounts")
            assert "machine-id" not in text
        scene.engine.remove(spec.id, force=True)
    assert not Path("/deep").exists()
    scene.engine.remove(first, force=True)
    scene.engine.volumes.remove("tenant1", "inner")


def test_a_terminal_takes_no_words_from_within(armed: Scene) -> None:
    """TIOCSTI puts words into a terminal's input as if typed; the terminal is the container's own, and this process has none of it."""
    id = armed.run()
    session = armed.engine.exec(id, ExecSpec(("sh",), terminal=True))
    before = os.readlink("/proc/self/fd/0")
    said = bytearray()
    reading = threading.Thread(target=lambda: said.extend(drained(session.stdout)), daemon=True)
    reading.start()
    session.stdin.write(b"readlink /proc/self/fd/0; echo x > /dev/tty; stty -a < /dev/tty | head -n 1; exit\n")
    reading.join(patience(20))
    session.close()
    assert b"/dev/pts/0" in said, "of the container's own devpts"
    assert os.readlink("/proc/self/fd/0") == before


def drained(stream: io.RawIOBase) -> bytes:
    found = b""
    with contextlib.suppress(OSError):
        while part := stream.read(4096):
            found += part
    return found


@no_cgroup
def test_deep_folders_and_files_that_come_and_go_hide_no_figures(scene: Scene) -> None:
    """Of a container and of a volume: the list of volumes is everybody's."""
    scene.engine.volumes.create(VolumeSpec("tenant1", "deep"))
    busy = "sh -c 'while :; do for i in 1 2 3 4 5 6 7 8 9; do echo x > /v/$i; echo x > /$i; done; rm /v/[1-9] /[1-9]; done' & "
    dig = "for at in /v /tmp; do cd $at; i=0; while [ $i -lt 1200 ]; do mkdir d; cd d; i=$((i+1)); done; done; echo deep; wait"
    id = scene.run(command=("sh", "-c", busy + dig), volumes=(VolumeMount("deep", "/v"),))
    scene.said(id, "deep", 60)
    for _ in range(20):
        assert (scene.engine.isolation(id).layers[-2].size or 0) > 4000
        volume = next(one for one in scene.engine.volumes.list() if one.name == "deep")
        assert (volume.used_bytes or 0) > 4000
    scene.engine.remove(id, force=True)
    scene.engine.volumes.remove("tenant1", "deep")


@no_cgroup
def test_a_terminal_obeys_no_names_and_no_words_of_checks(scene: Scene) -> None:
    """In what the command line lists, a line is a row; the program's own log is as it wrote it."""
    evil = "\x1b]0;pwned\x07\x9b2J\nD /etc/passwd"
    made = r"$(printf '\033]0;pwned\007\302\2332J\nD /etc')"
    check = HealthCheck("command", ("sh", "-c", f'echo "{made}/passwd"; exit 1'))
    id = scene.run(
        command=(
            "sh",
            "-c",
            f'mkdir -p "/{made}"; touch "/{made}/passwd" "/$(printf "no text \\377")"; exec sleep 1000',
        ),
        health=check,
    )
    scene.inside(id, 'until [ -e "/$(printf "no text \\377")" ]; do sleep 0.1; done')
    assert any(change.path == f"/{evil}" for change in scene.engine.files.diff(id))
    for words in (("diff", id), ("health", id), ("cp", f"{id}:/{evil}x", "/tmp"), ("top", id)):
        command = [sys.executable, "-m", "runtime", *words]
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}  # as in any locale but C's
        done = subprocess.run(command, check=False, capture_output=True, env=environment, timeout=patience(60))
        assert b"Traceback" not in done.stderr
        for line in (done.stdout + done.stderr).decode().splitlines():
            assert line.isprintable()
            assert not line.startswith("D /etc/passwd")
