"""Anything in a state file of the node: told and healed, or refused; no other is disturbed, and a removal by force leaves nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path

import pytest

from runtime.api import Attachment, ContainerSpec, ContainerStatus, NetworkSpec, Port, State, VolumeMount, VolumeSpec
from runtime.engines.native.engine import NativeEngine
from runtime.errors import RuntimeFault
from runtime.kernel import link
from tests.conftest import patience
from tests.kernel.containers import SERVER, fetched, run, spec
from tests.kernel.scene import engine
from tests.marks import no_cgroup
from tests.traces import Traces, traces

__all__ = ["engine"]
pytestmark = [pytest.mark.root, no_cgroup]

PORTS = (Port(8080), Port(8081, "udp", host_address="::"))
NONSENSE = (
    b"", b"\xff\xfe\0", b'{"slot": "x", "spec": 7, "segment": [], "places": [], "ports": {}, "container": "cvictim", "names": 7}', None,
)  # fmt: skip
"""None: it is gone.  ``unit/test_fuzz_*`` have more."""
WELL_FORMED = (
    b'{"slot": -1, "segment": {"tenant": "../..", "name": "a b", "bridge": "lo", "subnet": "0.0.0.0/0"}, "spec": {}}'
)


@dataclass(frozen=True, slots=True)
class Scene:
    engine: NativeEngine
    before: Traces
    """Without the victim."""
    steady: ContainerStatus


@pytest.fixture(scope="module")
def both(engine: NativeEngine) -> Scene:
    """Two containers with all that one can have, beside each other: one whose state is damaged, and one that is to see nothing of it."""
    engine.networks.create(NetworkSpec("tenant1", "back", ipv6=True))
    engine.volumes.create(VolumeSpec("tenant1", "data", 16 << 20))
    places = (Attachment("back"), Attachment("default"))
    run(engine, spec(engine, *SERVER, id="csteady", name="steady", networks=places, ports=(Port(8080),)))
    victim(engine)
    run(engine, another(engine))
    for find in OF_ALL.values():
        find(engine).parent.mkdir(parents=True, exist_ok=True)
    for id in ("cvictim", "cother"):  # folders that they are the first to need stay
        engine.remove(id, force=True)
    return Scene(engine, traces(engine.home), engine.inspect("csteady"))


@pytest.fixture
def scene(both: Scene) -> Scene:
    if "cvictim" in {one.id for one in both.engine.list()}:
        both.engine.remove("cvictim", force=True)  # a test before has used it up, or failed
    victim(both.engine)
    return both


def another(engine: NativeEngine) -> ContainerSpec:
    return spec(engine, id="cother", name="other", tenant="tenant2")


def victim(engine: NativeEngine) -> None:
    volumes = (VolumeMount("data", "/v"),)
    networks = (Attachment("back", *fixed(engine), aliases=("db",)), Attachment("default"))
    run(engine, spec(engine, *SERVER, id="cvictim", name="victim", networks=networks, ports=PORTS, volumes=volumes))


def fixed(engine: NativeEngine) -> tuple[str, str]:
    """Its addresses on the network."""
    back = engine.networks.inspect("tenant1", "back")
    return str(IPv4Network(back.subnet)[9]), str(IPv6Network(back.subnet6)[9])


def put(file: Path, content: bytes | None) -> None:
    """In place of what is there, whatever that is."""
    if file.is_dir() and not file.is_symlink():
        shutil.rmtree(file)
    file.unlink(missing_ok=True)
    if content is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def undisturbed(scene: Scene) -> None:
    assert scene.engine.inspect("csteady") == scene.steady
    assert "csteady" in {one.id for one in scene.engine.list()}
    assert scene.engine.counters(["csteady"])["csteady"].cpu_ns is not None


def nothing_left(scene: Scene) -> None:
    """An interface goes with its namespace, which the kernel does in its own time."""
    deadline = time.monotonic() + patience(10)
    while (left := what_is_left(scene)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == {}


def what_is_left(scene: Scene) -> dict[str, list[str]]:
    home = scene.engine.home
    left = traces(home, containers=("cvictim",)).new_since(scene.before)
    left["files"] = [name for name in left.get("files", []) if not {"final", "events"} & set(Path(name).parts)]
    left["links"] = [name for name in (home.veth("cvictim", number) for number in range(8)) if link.exists(name)]
    return {kind: names for kind, names in left.items() if names}


Find = Callable[[NativeEngine], Path]


def of_run(*parts: str) -> Find:
    return lambda engine: engine.home.run.joinpath(*parts)


def of_home(*parts: str) -> Find:
    return lambda engine: engine.home.state.joinpath(*parts)


OF_THE_CONTAINER: dict[str, Find] = {
    "endpoint": of_run("endpoints", "cvictim.json"),
    "pid of the container": of_run("conmon", "cvictim", "pid"),
    "pid of the supervisor": of_run("conmon", "cvictim", "conmon.pid"),
    "exit code": of_run("exits", "cvictim"),
    "bundle": of_run("bundle", "cvictim", "config.json"),
    "interfaces": of_home("containers", "cvictim", "interfaces.json"),
    "lease": lambda engine: engine.home.run / "addresses" / "tenant1" / fixed(engine)[0],
    "lease of IPv6": lambda engine: engine.home.run / "addresses" / "tenant1" / fixed(engine)[1],
    "fixed address": lambda engine: engine.home.state / "fixed" / "tenant1" / fixed(engine)[0],
    "name": of_home("names", "tenant1", "victim"),
    "port": lambda engine: next(one for one in (engine.home.run / "ports").iterdir() if os.readlink(one) == "cvictim"),
}
OF_ALL: dict[str, Find] = {
    "mark of a bridge": lambda engine: engine.home.run / "bridges" / engine.home.bridge("tenant1", "back"),
    "mark of no bridge": of_run("bridges", "swb0000000000"),
    "network": of_home("networks", "tenant1", "back.json"),
    "tenant": of_home("tenants", "tenant1.json"),
    "another tenant": of_home("tenants", "tenant9.json"),
    "ceilings": of_home("ceilings", "tenant1.json"),
    "volume": of_home("volumes", "tenant1", "data", "volume.json"),
    "names of images": of_home("images", "references.json"),
    "lease of images": of_home("images", "leases", "1.aa.json"),
    "final reading": of_home("final", "cgone-1-1000.json"),
    "total": of_home("totals", "tenant1-b-1.json"),
    "self-test": of_run("self-test", "passed.json"),
    "port of nobody": of_run("ports", "not-a-port-at-all"),
    "name server": lambda engine: engine.home.run / "dns" / engine.home.bridge("tenant1", "back") / "server" / "pid",
}
KEPT_DAMAGED = {
    "another tenant",
    "final reading",
    "total",
    "names of images",
    "network",
    "tenant",
    "ceilings",
    "volume",
}
"""What nobody but an admin can mend."""


@pytest.mark.parametrize("what", OF_THE_CONTAINER)
def test_it_is_adopted_and_a_removal_by_force_leaves_nothing(scene: Scene, what: str) -> None:
    """Another process has the engine, as after a restart."""
    for number, content in enumerate(NONSENSE):
        file = OF_THE_CONTAINER[what](scene.engine)
        put(file, content)
        engine = NativeEngine(scene.engine.home)
        found = engine.reconcile()
        assert found.failed == (), content
        assert set(found.adopted) == {"csteady", "cvictim"}
        assert engine.inspect("cvictim").state is State.RUNNING
        undisturbed(scene)
        put(file, content)
        engine.remove("cvictim", force=True)
        assert [one.id for one in engine.list()] == ["csteady"], content
        nothing_left(scene)
        undisturbed(scene)
        if number + 1 < len(NONSENSE):
            victim(engine)


@pytest.mark.parametrize("what", sorted(KEPT_DAMAGED & {"network", "tenant", "names of images", "ceilings", "volume"}))
def test_a_removal_by_force_needs_nothing_that_all_have(scene: Scene, what: str) -> None:
    file = OF_ALL[what](scene.engine)
    content = file.read_bytes() if file.exists() else None
    put(file, b'{"half')
    NativeEngine(scene.engine.home).remove("cvictim", force=True)
    put(file, content)
    NativeEngine(scene.engine.home).reconcile()
    nothing_left(scene)
    undisturbed(scene)


@pytest.mark.parametrize("what", OF_ALL)
def test_reconciliation_goes_on_past_what_all_have(scene: Scene, what: str) -> None:
    file = OF_ALL[what](scene.engine)
    content = file.read_bytes() if file.exists() else None
    for nonsense in (*NONSENSE, WELL_FORMED):
        put(file, nonsense)
        engine = NativeEngine(scene.engine.home)
        found = engine.reconcile()
        assert set(found.adopted) | {one.partition(":")[0] for one in found.failed} >= {"csteady", "cvictim"}
        undisturbed(scene)
        assert "default" in {one.name for one in engine.networks.list("tenant1")} or what == "tenant"
        assert [(one.name, one.size_bytes) for one in engine.volumes.list()] == [("data", 16 << 20)]
        with suppress(RuntimeFault):  # in our own words
            engine.images()
        if what not in KEPT_DAMAGED:
            assert (found.failed, engine.reconcile().failed) == ((), ())
    with suppress(RuntimeFault):
        run(engine, another(engine))
    engine.remove("cother", force=True)
    put(file, content)
    engine = NativeEngine(scene.engine.home)
    engine.remove("cvictim", force=True)
    assert engine.reconcile().failed == ()
    undisturbed(scene)


def test_a_damaged_network_goes_when_nobody_is_on_it(scene: Scene) -> None:
    engine = scene.engine
    engine.networks.create(NetworkSpec("tenant1", "late"))
    (engine.home.networks / "tenant1" / "late.json").write_text("{")
    with pytest.raises(RuntimeFault, match=r"damaged: late\.json"):
        engine.networks.inspect("tenant1", "late")
    engine.networks.remove("tenant1", "late")
    assert "late" not in {one.name for one in engine.networks.list("tenant1")}


def test_a_tenants_place_is_known_by_its_bridge(scene: Scene) -> None:
    file = scene.engine.home.tenants / "tenant1.json"
    honest = json.loads(file.read_bytes())
    file.write_text("{")
    assert NativeEngine(scene.engine.home).reconcile().failed == ()
    assert json.loads(file.read_bytes()) == honest


@pytest.mark.parametrize("content", NONSENSE, ids=str)
def test_where_it_is_on_its_networks_is_written_down_anew(scene: Scene, content: bytes | None) -> None:
    """It is reached as before, also once the rules are put in anew."""
    file = OF_THE_CONTAINER["endpoint"](scene.engine)
    honest = file.read_bytes()
    put(file, content)
    engine = NativeEngine(scene.engine.home)
    assert engine.reconcile().failed == ()
    assert file.read_bytes() == honest
    subprocess.run(["nft", "delete", "table", "bridge", engine.home.table], check=True)
    engine.upkeep()
    assert fetched(engine, "csteady", fixed(engine)[0])
    assert fetched(engine, "csteady", "db")


@pytest.mark.parametrize("where", ["containers", "volumes", "volumes/tenant1", "networks", "networks/tenant1", "final"])
def test_what_somebody_put_beside_the_state_is_in_nobodys_way(scene: Scene, where: str) -> None:
    """A folder of a disk's own, a note, the copy of an editor, a link that leads nowhere."""
    folder = scene.engine.home.state / where
    made = [folder / name for name in ("lost+found", "README.txt", ".spec.json.swp", "notes", "folder.json", "away")]
    made[0].mkdir()
    made[4].mkdir()
    made[5].symlink_to("/nowhere")
    for file in made[1:4]:
        file.write_text("of somebody")
    try:
        engine = NativeEngine(scene.engine.home)
        found = engine.reconcile()
        assert (set(found.adopted), found.failed, found.swept) == ({"csteady", "cvictim"}, (), ())
        assert {status.id for status in engine.list()} == {"csteady", "cvictim"} == set(engine.counters())
        assert [one.name for one in engine.volumes.list()] == ["data"]
        assert {one.name for one in engine.networks.list("tenant1")} == {"back", "default"}
        engine.rotate_logs()
        engine.image_service.prune()
        assert engine.final_readings() is not None
        undisturbed(scene)
    finally:
        for one in made:
            one.rmdir() if one.is_dir() and not one.is_symlink() else one.unlink()
