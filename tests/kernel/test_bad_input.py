"""What bad input gets: a sentence that says what happened and what to do, and nothing half made left behind.

Every case is real: a registry on loopback, a full file system, a taken port.  The kernel's objects and the files are
counted before and after each.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from runtime.api import ContainerSpec, Credentials, Engine, ExecSpec, Image, Limits, Port, State
from runtime.engines import open_engine
from runtime.errors import (
    Conflict,
    ImageCorrupt,
    ImageDenied,
    ImageUnavailable,
    ImageUnsuitable,
    InvalidSpec,
    LimitExceeded,
    NotFound,
    OutOfSpace,
    RuntimeFault,
)
from runtime.home import Home
from tests.kernel.bad_registry import Registry, busybox, layer
from tests.kernel.images import engine, home, shop
from tests.marks import refused_early
from tests.traces import traces

__all__ = ["engine", "home", "shop"]
pytestmark = [pytest.mark.root, refused_early]


@pytest.fixture
def image(engine: Engine, shop: Registry) -> Image:
    return engine.pull(shop.put("good", busybox()), insecure=True)


@pytest.fixture
def bystander(engine: Engine, image: Image) -> str:
    """One container runs throughout: the tenant's bridge and rules are there before, and must be the same after."""
    engine.create(spec(image, "stander"))
    engine.start("stander")
    return "stander"


def spec(image: Image, id: str = "culprit") -> ContainerSpec:
    return ContainerSpec(
        id=id,
        tenant="tenant",
        name=id,
        image=image.id,
        command=("/bin/sleep", "1000"),
        limits=Limits(memory_bytes=32 * 2**20),
    )


@contextmanager
def leaves_nothing(home: Home, *containers: str) -> Iterator[None]:
    before = traces(home, containers=containers)
    yield
    after = traces(home, containers=containers)
    assert _but_own_folders(after.new_since(before), home, containers) == {}
    assert after.lost_since(before) == {}


def _but_own_folders(found: dict[str, list[str]], home: Home, containers: tuple[str, ...]) -> dict[str, list[str]]:
    """A container that could not start is still there, created: its log and writable layer are its own."""
    own = tuple(f"{home.container(id)}/" for id in containers)
    files = [path for path in found.pop("files", []) if not path.startswith(own)]
    return {**found, "files": files} if files else found


def is_a_sentence(fault: RuntimeFault, home: Home) -> None:
    """What happened, and what to do; no path of the host, no traceback, no secret."""
    assert fault.message[0].isupper() or fault.message[0] in "'\""
    assert fault.message.rstrip().endswith((".", "?"))
    assert len(fault.message.split()) > 3
    assert fault.hint.strip()
    said = str(fault)
    for never in (str(home.root), "Traceback", "Errno", "secret-password"):
        assert never not in said


def refused(home: Home, expected: type[RuntimeFault], deed: Callable[[], object], *containers: str) -> RuntimeFault:
    with leaves_nothing(home, *containers), pytest.raises(expected) as caught:
        deed()
    is_a_sentence(caught.value, home)
    return caught.value


# ------------------------------------------------------------------------------------------------ images


def test_an_unknown_image_is_not_found(engine: Engine, home: Home, shop: Registry) -> None:
    refused(home, NotFound, lambda: engine.pull(f"{shop.address}/nothing", insecure=True))


def test_an_unknown_tag_is_not_found(engine: Engine, home: Home, shop: Registry) -> None:
    shop.put("known", busybox())
    refused(home, NotFound, lambda: engine.pull(f"{shop.address}/known:9.9", insecure=True))


def test_a_wrong_password_is_denied(engine: Engine, home: Home, shop: Registry) -> None:
    reference = shop.put("private", busybox())
    shop.login = ("somebody", "right-password")
    wrong = Credentials("somebody", "secret-password")
    refused(home, ImageDenied, lambda: engine.pull(reference, credentials=wrong, insecure=True))
    engine.pull(reference, credentials=Credentials("somebody", "right-password"), insecure=True)


def test_a_registry_that_is_down_is_unavailable(engine: Engine, home: Home) -> None:
    with socket.socket() as held:  # bound and not listening: refuses, and nobody else takes it
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        fault = refused(home, ImageUnavailable, lambda: engine.pull(f"{address}/any", insecure=True))
    assert fault.retryable


def test_a_layer_of_another_digest_is_corrupt(engine: Engine, home: Home, shop: Registry) -> None:
    reference = shop.put("swapped", busybox(), damage=True)
    refused(home, ImageCorrupt, lambda: engine.pull(reference, insecure=True))


def test_a_layer_that_is_no_archive_is_corrupt(engine: Engine, home: Home, shop: Registry) -> None:
    """Its digest is right: only unpacking shows it."""
    reference = shop.put("broken", busybox(), blob=b"\x1f\x8b" + os.urandom(4096))
    refused(home, ImageCorrupt, lambda: engine.pull(reference, insecure=True))


@pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "/../../escaped"])
def test_a_layer_that_climbs_out_is_corrupt(engine: Engine, home: Home, shop: Registry, name: str) -> None:
    reference = shop.put("climber", layer({name: b"out"}))
    refused(home, ImageCorrupt, lambda: engine.pull(reference, insecure=True))
    assert not list(home.root.parent.rglob("escaped"))


def test_an_image_of_another_architecture_is_unsuitable(engine: Engine, home: Home, shop: Registry) -> None:
    reference = shop.put("elsewhere", busybox(), architecture="s390x")
    refused(home, ImageUnsuitable, lambda: engine.pull(reference, insecure=True))


def test_a_full_disk_is_out_of_space(home: Home, shop: Registry) -> None:
    """On a file system of its own, which 4 MiB of noise do not fit into."""
    home.root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(home.root)], check=True)
    try:
        engine = open_engine("native", home)
        engine.images()  # the store's folders are made by the first that asks
        reference = shop.put("large", layer({"noise": os.urandom(4 * 2**20)}))
        try:
            refused(home, OutOfSpace, lambda: engine.pull(reference, insecure=True))
        finally:
            engine.teardown()
    finally:
        subprocess.run(["umount", str(home.root)], check=True)


@pytest.fixture
def small_disk(home: Home) -> Iterator[Engine]:
    """An engine whose home is on a file system of its own, of 32 MiB."""
    home.root.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m,nr_inodes=4k", "tmpfs", str(home.root)], check=True)
    try:
        opened = open_engine("native", home)
        opened.images()  # the store's folders are made by the first that asks
        yield opened
        clear(home)
        opened.teardown()
    finally:
        subprocess.run(["umount", "-l", str(home.root)], check=True)


def filler(home: Home) -> Path:
    return home.root / "filler"


def fill(home: Home, kind: str = "content") -> None:
    if kind == "content":
        with filler(home).open("wb", buffering=0) as handle, contextlib.suppress(OSError):
            while True:
                handle.write(bytes(4096))
        assert os.statvfs(home.root).f_bavail == 0
        return
    filler(home).mkdir()
    with contextlib.suppress(OSError):
        for number in itertools.count():
            (filler(home) / str(number)).touch()
    assert os.statvfs(home.root).f_favail == 0


def clear(home: Home) -> None:
    if filler(home).is_dir():
        shutil.rmtree(filler(home))
    filler(home).unlink(missing_ok=True)


@pytest.mark.parametrize("kind", ["content", "names"])
def test_on_a_full_disk_nothing_begins_and_everything_can_be_ended(
    home: Home, shop: Registry, small_disk: Engine, kind: str
) -> None:
    made = small_disk.pull(shop.put("good", busybox()), insecure=True)
    for id in ("running", "stopped", "created"):
        small_disk.create(spec(made, id))
    small_disk.start("running")
    small_disk.start("stopped")
    fill(home, kind)
    refused(home, OutOfSpace, lambda: small_disk.create(spec(made, "late")), "late")
    refused(home, OutOfSpace, lambda: small_disk.start("created"), "created")
    assert small_disk.inspect("created").state is State.CREATED
    assert small_disk.stop("stopped", grace_s=0).state is State.EXITED
    small_disk.remove("running", force=True)
    assert {reading.container for reading in small_disk.final_readings()} == {"running", "stopped"}
    clear(home)
    assert small_disk.start("created").state is State.RUNNING


@pytest.mark.parametrize("kind", ["content", "names"])
def test_room_for_ending_is_kept_again_once_there_is_some(
    home: Home, shop: Registry, small_disk: Engine, kind: str
) -> None:
    made = small_disk.pull(shop.put("good", busybox()), insecure=True)
    small_disk.create(spec(made, "first"))
    small_disk.create(spec(made, "second"))
    for id in ("first", "second"):
        small_disk.start(id)
        fill(home, kind)
        small_disk.remove(id, force=True)
        clear(home)
        small_disk.reconcile()


# ------------------------------------------------------------------------------------------------ containers


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"command": ("/bin/sleep", "9" * 131072)}, "command"),
        ({"command": ("/bin/sleep", *["9" * 100_000] * 21)}, "command"),
        ({"env": {"LONG": "9" * 131072}}, "env.LONG"),
    ],
)
def test_words_longer_than_the_kernel_takes_are_invalid(
    engine: Engine, home: Home, image: Image, changes: dict[str, Any], field: str
) -> None:
    fault = refused(home, InvalidSpec, lambda: engine.create(replace(spec(image), **changes)), "culprit")
    assert fault.field == field


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (ExecSpec(()), "command"), (ExecSpec(("",)), "command"), (ExecSpec(("sh", "a\0b")), "command"),
        (ExecSpec(("sh",), env={"A=B": "c"}), "env.A=B"), (ExecSpec(("sh",), env={"A": "b\0"}), "env.A"),
        (ExecSpec(("sh",), working_dir="relative"), "working_dir"), (ExecSpec(("sh",), user="nobody-here"), "user"),
        (ExecSpec(("sh",), working_dir="/not/there"), "working_dir"), (ExecSpec(("nothing",)), "command"),
        (ExecSpec(("sh", "9" * 200_000)), "command"),
    ],
)  # fmt: skip
def test_a_wrong_exec_names_its_field(engine: Engine, home: Home, wrong: ExecSpec, field: str) -> None:
    engine.exec("stander", ExecSpec(("sh", "-c", "exit"))).close()
    for attempt in (wrong, replace(wrong, terminal=True)):
        fault = refused(home, InvalidSpec, partial(engine.exec, "stander", attempt))
        assert fault.field == field


@pytest.mark.usefixtures("bystander")
def test_a_taken_port_is_a_conflict(engine: Engine, home: Home, image: Image) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        number = taken.getsockname()[1]
        engine.create(replace(spec(image), ports=(Port(80, host_port=number),)))
        fault = refused(home, Conflict, lambda: engine.start("culprit"), "culprit")
    assert fault.data["port"] == number
    assert engine.inspect("culprit").state is State.CREATED


@pytest.mark.usefixtures("bystander")
def test_a_port_of_another_container_is_a_conflict(engine: Engine, home: Home, image: Image) -> None:
    engine.create(replace(spec(image, "first"), ports=(Port(80),)))
    number = engine.start("first").ports[0].host_port
    engine.create(replace(spec(image), ports=(Port(80, host_port=number),)))
    refused(home, Conflict, lambda: engine.start("culprit"), "culprit")
    assert engine.inspect("first").state is State.RUNNING


def test_a_taken_name_is_a_conflict(engine: Engine, home: Home, image: Image, bystander: str) -> None:
    fault = refused(home, Conflict, lambda: engine.create(replace(spec(image), name=bystander)), "culprit")
    assert fault.field == "name"


@pytest.mark.usefixtures("bystander")
def test_memory_below_the_images_need_is_unsuitable(engine: Engine, home: Home, shop: Registry) -> None:
    labels = {"io.slipway.memory-needed": str(64 * 2**20)}
    hungry = engine.pull(shop.put("hungry", busybox(), labels=labels), insecure=True)
    fault = refused(home, ImageUnsuitable, lambda: engine.create(spec(hungry)), "culprit")
    assert fault.field == "limits.memory_bytes"


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize("command", [("/bin/nothing",), ("nothing",)])
def test_a_command_that_does_not_exist_is_invalid(
    engine: Engine, home: Home, image: Image, command: tuple[str, ...]
) -> None:
    engine.create(replace(spec(image), command=command))
    refused(home, InvalidSpec, lambda: engine.start("culprit"), "culprit")
    assert engine.inspect("culprit").state is State.CREATED


@pytest.mark.usefixtures("bystander")
@pytest.mark.parametrize(
    ("limits", "field"),
    [
        (Limits(memory_bytes=2**50), "limits.memory_bytes"),
        (Limits(cpu_millis=10_000_000), "limits.cpu_millis"),
        (Limits(pids=10_000_000), "limits.pids"),
    ],
)
def test_limits_above_the_nodes_are_refused(
    engine: Engine, home: Home, image: Image, limits: Limits, field: str
) -> None:
    fault = refused(home, LimitExceeded, lambda: engine.create(replace(spec(image), limits=limits)), "culprit")
    assert fault.field == field


@pytest.mark.usefixtures("bystander")
def test_after_all_that_the_same_id_still_works(engine: Engine, home: Home, image: Image) -> None:
    """And taking it away leaves what was there before."""
    with leaves_nothing(home, "culprit"):
        engine.create(replace(spec(image), command=("nothing",)))
        with pytest.raises(InvalidSpec):
            engine.start("culprit")
        engine.remove("culprit")
        engine.create(spec(image))
        assert engine.start("culprit").state is State.RUNNING
        engine.remove("culprit", force=True)
        for reading in engine.final_readings("culprit"):  # the bill's, kept until the console has it
            engine.acknowledge(reading)


def test_a_fixture_that_would_notice(engine: Engine, home: Home, image: Image, bystander: str, tmp_path: Path) -> None:
    """The count is no formality: a container that is there shows as mounts, cgroups, interfaces, processes and files."""
    before = traces(home)
    engine.create(replace(spec(image), ports=(Port(80),)))
    engine.start("culprit")
    assert set(traces(home).new_since(before)) == {
        "mounts", "cgroups", "interfaces", "firewall", "processes", "files"
    }  # fmt: skip
