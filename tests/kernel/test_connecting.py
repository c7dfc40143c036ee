"""A container that runs comes onto networks and leaves them: by real traffic, as its peers, the node and the meter see it."""

from __future__ import annotations

import errno
import secrets
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from runtime.api import Attachment, ContainerStatus, Limits, NetworkSpec, Port
from runtime.engines.native.engine import NativeEngine
from runtime.errors import EngineFault
from runtime.kernel import link
from runtime.network import addresses, endpoint, placement
from runtime.network.claims import Claims
from tests.blocks import free_number
from tests.kernel.containers import SERVER, SMALL, engine, fetched, inside, pour, run, spec
from tests.kernel.test_networks import RATE, open_well, poured, until
from tests.kernel.world import Host, World, outer_address
from tests.marks import no_cgroup
from tests.traces import traces

__all__ = ["engine"]

pytestmark = [pytest.mark.root, no_cgroup]
SENT = 50_000


@pytest.fixture
def world(engine: NativeEngine) -> Iterator[World]:
    """Of the engine's networks, for what is done in containers' network namespaces."""
    engine.networks.create(NetworkSpec("tenant1", "back", ipv6=True))
    made = World(engine._networks)
    yield made
    made.close()


def host(engine: NativeEngine, id: str) -> Host:
    """A container as it is now."""
    return Host(engine.inspect(id).pid or 0, endpoint.load(engine.home, id))


def of(status: ContainerStatus, network: str) -> tuple[str, str]:
    return next((one.address, one.address6) for one in status.networks if one.network == network)


def on(*networks: str) -> tuple[Attachment, ...]:
    return tuple(map(Attachment, networks))


def told(engine: NativeEngine, id: str) -> list[tuple[str, dict[str, str | float]]]:
    """Of its networks, oldest first."""
    return [(one.kind, dict(one.data)) for one in engine.events.read(subject=id) if one.kind.endswith("connected")]


def test_peers_and_the_container_know_each_other_at_once(engine: NativeEngine, world: World) -> None:
    web = run(engine, spec(engine, name="web"))
    peer = run(engine, spec(engine, *SERVER, name="peer", networks=on("back")))
    assert fetched(engine, web, "peer") == ""
    status = engine.networks.connect(web, Attachment("back", aliases=("www",)))
    address, address6 = of(status, "back")
    for name in ("web", "www"):
        until(lambda name=name: world.ask(host(engine, peer), name) == {address})
        assert world.ask(host(engine, peer), name, six=True) == {address6}
    for name in ("peer", of(engine.inspect(peer), "back")[1]):
        assert fetched(engine, web, name) == "peer"
    world.serve(host(engine, web), "0.0.0.0", 8080)
    world.serve(host(engine, web), "::", 8081)
    assert world.reaches(host(engine, peer), address, 8080)
    assert world.reaches(host(engine, peer), address6, 8081)
    assert f"{address}\tweb" in inside(engine, web, "cat /etc/hosts")
    engine.networks.disconnect(web, "back")
    until(lambda: world.ask(host(engine, peer), "web") is None)
    assert world.ask(host(engine, peer), "www") is None
    assert not world.reaches(host(engine, peer), address, 8080)
    assert "eth1" not in inside(engine, web, "ip link")
    assert address not in inside(engine, web, "cat /etc/hosts")
    assert not link.exists(engine.home.veth(web, 1))


def test_an_address_that_is_another_s_is_dropped_on_the_new_interface(engine: NativeEngine, world: World) -> None:
    thief, victim, other = (run(engine, spec(engine, networks=on(name))) for name in ("default", "back", "back"))
    engine.networks.connect(thief, Attachment("back"))
    (target, target6), (stolen, stolen6) = of(engine.inspect(victim), "back"), of(engine.inspect(other), "back")
    engine.stop(other, grace_s=0)
    world.serve(host(engine, victim), "0.0.0.0", 8080)
    world.serve(host(engine, victim), "::", 8081)
    for command in (["ip", "addr", "add", f"{stolen}/24", "dev", "eth1"], ["ip", "addr", "add", f"{stolen6}/64", "dev", "eth1", "nodad"]):  # fmt: skip
        subprocess.run(host(engine, thief).inside(*command), check=True)
    own, own6 = of(engine.inspect(thief), "back")
    for at, port, mine, theirs in ((target, 8080, own, stolen), (target6, 8081, own6, stolen6)):
        assert world.reaches(host(engine, thief), at, port, mine)
        assert not world.reaches(host(engine, thief), at, port, theirs)


@pytest.mark.parametrize(("limit", "way"), [("net_rx_bps", "d"), ("net_tx_bps", "u")])
def test_the_bandwidth_is_one_of_all_its_networks(engine: NativeEngine, world: World, limit: str, way: str) -> None:
    slow = run(engine, spec(engine, limits=replace(SMALL, **{limit: RATE})))
    asker = run(engine, spec(engine, networks=on("default", "back")))
    engine.networks.connect(slow, Attachment("back"))
    open_well(world, host(engine, slow))
    seconds = 2.0
    passed = poured(host(engine, slow), host(engine, asker), way, seconds)
    assert RATE / 8 * seconds / 4 < passed < RATE / 8 * seconds * 3, "both networks together have the rate of one"
    engine.controls.update(slow, replace(SMALL, net_rx_bps=None))
    assert poured(host(engine, slow), host(engine, asker), way, seconds) > 10 * passed


def test_published_ports_go_on_whatever_comes_and_goes(engine: NativeEngine, world: World) -> None:
    engine.networks.create(NetworkSpec("tenant1", "inner", internal=True))
    web = run(engine, spec(engine, ports=(Port(8080),)))
    world.serve(host(engine, web), "0.0.0.0", 8080)
    published = engine.inspect(web).ports[0].host_port or 0
    for network in ("back", "inner"):
        engine.networks.connect(web, Attachment(network))
        assert world.reaches(None, "127.0.0.1", published)
    for network in ("back", "inner"):
        engine.networks.disconnect(web, network)
        assert world.reaches(None, "127.0.0.1", published)


def test_the_way_out_comes_and_goes_over(engine: NativeEngine, world: World) -> None:
    engine.networks.create(NetworkSpec("tenant1", "inner", internal=True))
    engine.networks.create(NetworkSpec("tenant1", "next"))
    address = outer_address()
    world.serve(world.outside(address), "0.0.0.0", 80)
    id = run(engine, spec(engine, networks=on("inner")))
    assert not world.reaches(host(engine, id), address, 80)
    engine.networks.connect(id, Attachment("back"))
    assert world.reaches(host(engine, id), address, 80)
    engine.networks.connect(id, Attachment("next"))
    engine.networks.disconnect(id, "back")
    assert world.reaches(host(engine, id), address, 80)
    engine.networks.disconnect(id, "next")
    assert not world.reaches(host(engine, id), address, 80)


def test_counters_only_grow_for_whoever_reads_meanwhile(engine: NativeEngine, world: World) -> None:
    """As the agent, which has its files open while a worker changes the networks; live and for the bill."""
    id = run(engine, spec(engine))
    peer = run(engine, spec(engine, networks=on("back")))
    agent, over = NativeEngine(engine.home), threading.Event()
    seen: dict[bool, list[tuple[int | None, int | None]]] = {True: [], False: []}

    def watch() -> None:
        while not over.is_set():
            for live, rows in seen.items():
                one = agent.counters([id], live=live)[id]
                rows.append((one.net_rx_bytes, one.net_tx_bytes))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(6):
            engine.networks.connect(id, Attachment("back"))
            pour(engine, id, "eth1", of(engine.inspect(peer), "back")[0], SENT)
            engine.networks.disconnect(id, "back")
    finally:
        over.set()
        watcher.join()
    for rows in seen.values():
        assert len(rows) > 20
        for way in (0, 1):
            figures = [row[way] for row in rows]
            assert None not in figures
            assert figures == sorted(figures), "a counter went down"  # type: ignore[type-var]
    counted = engine.counters([id])[id].net_tx_bytes
    assert counted is not None
    assert counted >= 6 * SENT, "what interfaces counted that went stays"
    engine.stop(id, grace_s=0)
    (final,) = engine.final_readings(id)
    assert (final.counters.net_tx_bytes or 0) >= counted


def test_an_interface_that_somebody_took_is_told_and_a_restart_heals(engine: NativeEngine, world: World) -> None:
    id = run(engine, spec(engine))
    engine.networks.connect(id, Attachment("back", aliases=("db",)))
    link.remove(engine.home.veth(id, 1))
    assert engine.counters([id])[id].net_rx_bytes is None, "unknown, and never less than before"
    again = NativeEngine(engine.home)
    assert again.reconcile().failed == (f"{id}: The container's network interface is gone. Restart the container.",)
    assert again.counters([id])[id].net_rx_bytes is None
    before = again.spec(id)
    with pytest.raises(EngineFault, match="interface is gone"):
        again.networks.disconnect(id, "back")
    assert again.spec(id) == before
    status = again.restart(id, grace_s=0)
    assert [one.network for one in status.networks] == ["default", "back"]
    assert again.reconcile().failed == ()
    assert (again.counters([id])[id].net_rx_bytes or 0) < 10_000


def test_rules_and_bridges_that_somebody_took_come_back_with_the_new_place(engine: NativeEngine, world: World) -> None:
    web, peer = run(engine, spec(engine)), run(engine, spec(engine, networks=on("back")))
    address, _ = of(engine.networks.connect(web, Attachment("back")), "back")
    world.serve(host(engine, web), "0.0.0.0", 8080)
    subprocess.run(["nft", "delete", "table", "bridge", engine.home.table], check=True)
    link.remove(engine.home.bridge("tenant1", "back"))
    NativeEngine(engine.home).reconcile()
    assert world.reaches(host(engine, peer), address, 8080)
    engine.networks.disconnect(web, "back")
    assert not world.reaches(host(engine, peer), address, 8080)


@pytest.mark.parametrize("step", ["add_veth", "configure_inside"])
def test_what_the_kernel_refuses_leaves_it_as_it_was(
    engine: NativeEngine, world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    id = run(engine, spec(engine, limits=replace(SMALL, net_rx_bps=RATE)))
    before, made, rules = engine.inspect(id), engine.spec(id), traces(engine.home).firewall

    def refused(*_: object) -> None:
        raise OSError(errno.EBUSY, "")

    with monkeypatch.context() as patch:
        patch.setattr(link, step, refused)
        with pytest.raises(EngineFault, match="refused"):
            engine.networks.connect(id, Attachment("back"))
    assert (engine.inspect(id), engine.spec(id)) == (before, made)
    assert not link.exists(engine.home.veth(id, 1))
    assert placement.strays(engine.home) == ()
    assert not {line for line in traces(engine.home).firewall - rules if engine.home.veth(id, 1) in line}
    assert engine.networks.connect(id, Attachment("back")).networks[1].interface == "eth1"


def test_what_cannot_follow_at_once_is_no_failure_of_what_is_done(
    engine: NativeEngine, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way out and the names come after the network: whoever is told of a failure there would think it is not on it."""
    id = run(engine, spec(engine))

    def refused(*_: object) -> None:
        raise OSError(errno.ENOBUFS, "")

    def names() -> str:
        return inside(engine, id, "cat /etc/hosts")

    with monkeypatch.context() as patch:
        patch.setattr(link, "lead_out", refused)
        status = engine.networks.connect(id, Attachment("back"))
    address, address6 = of(status, "back")
    assert address in inside(engine, id, "ip addr")
    assert address not in names()
    assert told(engine, id) == [("connected", {"network": "back", "address": address, "address6": address6})]
    assert engine.networks.connect(id, Attachment("back")) == status == engine.inspect(id)
    assert address in names(), "whoever looks next finishes"
    assert len(told(engine, id)) == 1, "twice is once"
    with monkeypatch.context() as patch:
        patch.setattr(link, "lead_out", refused)
        status = engine.networks.disconnect(id, "back")
    assert [one.network for one in status.networks] == ["default"]
    assert not link.exists(engine.home.veth(id, 1))
    assert told(engine, id)[1:] == [("disconnected", {"network": "back"})]
    assert engine.reconcile().failed == ()
    assert engine.inspect(id) == status
    assert address not in names()
    assert len(told(engine, id)) == 2


def test_an_interface_that_does_not_go_is_a_failure_that_a_repeat_heals(
    engine: NativeEngine, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = run(engine, spec(engine, networks=on("default", "back")))

    def refused(*_: object) -> None:
        raise OSError(errno.ENOBUFS, "")

    with monkeypatch.context() as patch:
        patch.setattr(link, "take_down", refused)
        with pytest.raises(EngineFault, match="refused"):
            engine.networks.disconnect(id, "back")
    assert told(engine, id) == [], "packets may pass it still"
    assert [one.network for one in engine.networks.disconnect(id, "back").networks] == ["default"]
    assert not link.exists(engine.home.veth(id, 1))
    assert told(engine, id) == [("disconnected", {"network": "back"})]


def test_what_a_crash_left_of_a_claim_is_swept_once_while_its_container_lives(engine: NativeEngine) -> None:
    """kill -9 just after it: an address on the way onto a network, a name in a renaming."""
    id = run(engine, spec(engine))
    names = Claims(engine.home.state / "names" / "tenant1")
    for claims, name in ((addresses.address_claims(engine.home, "tenant1"), "10.9.9.9"), (names, "crate")):
        assert claims.take(name, id)
    assert set(engine.reconcile().swept) == {"address:10.9.9.9", "name:crate"}
    assert engine.reconcile().swept == ()
    assert engine.inspect(id).address


def test_a_bridge_of_the_node(engine: NativeEngine, world: World) -> None:
    """Flat: its host is reached as itself, and none of its rules are the container's but those against spoofing."""
    bridge, net = f"f{secrets.token_hex(4)}", f"192.168.{free_number('192.168', 250)}"
    subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], check=True)
    try:
        for command in (["ip", "addr", "add", f"{net}.200/24", "dev", bridge], ["ip", "link", "set", bridge, "up"]):
            subprocess.run(command, check=True)
        flat = NativeEngine(replace(engine.home, flat_bridges=(bridge,)))
        flat.networks.create(NetworkSpec("tenant1", "site", subnet=f"{net}.0/24", parent=bridge))
        id = run(flat, spec(flat))
        flat.networks.connect(id, Attachment("site", f"{net}.10"))
        world.serve(None, f"{net}.200", 18080)
        assert world.seen_as(host(flat, id), f"{net}.200", 18080) == f"{net}.10"
        subprocess.run(host(flat, id).inside("ip", "addr", "add", f"{net}.12/24", "dev", "eth1"), check=True)
        assert not world.reaches(host(flat, id), f"{net}.200", 18080, f"{net}.12")
        flat.networks.disconnect(id, "site")
        assert not world.reaches(host(flat, id), f"{net}.200", 18080)
        assert link.exists(bridge)
        flat.networks.remove("tenant1", "site")
    finally:
        subprocess.run(["ip", "link", "del", bridge], check=True)


def test_a_paused_container_is_connected_too(engine: NativeEngine, world: World) -> None:
    id = run(engine, spec(engine, limits=Limits(64 << 20, 1000, 64, net_rx_bps=RATE)))
    engine.controls.pause(id)
    status = engine.networks.connect(id, Attachment("back"))
    assert status.paused
    engine.controls.resume(id)
    peer = run(engine, spec(engine, *SERVER, name="peer", networks=on("back")))
    assert fetched(engine, id, of(engine.inspect(peer), "back")[1]) == "peer"
