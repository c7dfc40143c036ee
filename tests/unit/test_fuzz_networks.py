"""State files of the networks with anything in them: a value that can be, nothing, or our own error; no other is held up by one."""

from __future__ import annotations

import contextlib
import json
import os
import re
from dataclasses import asdict, replace
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from runtime.api import ID_PATTERN, MOST_NETWORKS, NetworkSpec, Port
from runtime.encoding import encode
from runtime.errors import EngineFault, LimitExceeded
from runtime.home import Home
from runtime.kernel.tree import remove_tree
from runtime.network import addresses, endpoint, firewall, placement
from runtime.network.claims import Claims
from runtime.network.endpoint import Endpoint, Place
from runtime.network.segments import Segment, Segments
from runtime.network.tenants import TenantSlots
from tests.unit.fuzzing import broken, fuzzed
from tests.unit.homes import OwnRun


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return OwnRun(tmp_path / "home", "tfuzz", "10.1.0.0/16", 0x50000000)


SEGMENT = Segment("tenant1", "back", "swb1", "10.1.1.0/24", "10.1.1.1", "fd00::/64", "fd00::1")


@fuzzed(100)
@given(
    content=broken(json.dumps({"spec": asdict(NetworkSpec("tenant1", "back")), "segment": asdict(SEGMENT)}).encode())
)
def test_a_damaged_network_holds_up_no_other(home: Home, content: bytes) -> None:
    segments = Segments(home, TenantSlots(home))
    for name in ("back", "other"):
        segments.forget("tenant1", name)
    other = segments.create(NetworkSpec("tenant1", "other"))
    (home.networks / "tenant1" / "back.json").write_bytes(content)
    assert other in segments.named()
    for read in (segments.get, segments.spec):
        with contextlib.suppress(EngineFault):
            read("tenant1", "back")
    for found in segments.named():
        assert ip_network(found.subnet)
        assert re.fullmatch(r"[\w-]+", found.bridge)
    TenantSlots(home).get("tenant2")


@fuzzed(60)
@given(content=broken(b'{"slot": 0}'))
def test_a_tenants_place(home: Home, content: bytes) -> None:
    """Nobody else is given it, whatever it was."""
    file = home.tenants / "tenant1.json"
    file.unlink(missing_ok=True)
    (home.tenants / "tenant3.json").unlink(missing_ok=True)
    TenantSlots(home).get("tenant2")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    with contextlib.suppress(EngineFault, LimitExceeded):
        first, third = TenantSlots(home).get("tenant1"), TenantSlots(home).get("tenant3")
        assert first.uid_base != third.uid_base
    assert TenantSlots(home).get("tenant2").slot in {0, 1}


PLACE = Place(
    "back",
    "swb1",
    "",
    "eth0",
    "02:00:00:00:00:01",
    "10.1.1.2",
    24,
    "10.1.1.1",
    "fd00::2",
    64,
    "fd00::1",
    aliases=("db",),
    names="10.1.1.1",
)


@fuzzed(200)
@given(data=st.data())
def test_an_endpoint_is_whole_or_told(home: Home, data: st.DataObject) -> None:
    """What is in it goes into rules and names of interfaces: nothing else gets there."""
    place = replace(PLACE, interface=home.veth("cfuzz"))
    honest = Endpoint("cfuzz", "tenant1", "web", (place,), (Port(80, host_port=9),), 8000, None)
    endpoint.save(home, honest)
    assert endpoint.load(home, "cfuzz") == honest
    endpoint.file_of(home, "cfuzz").write_bytes(data.draw(broken(encode(honest))))
    found = None
    with contextlib.suppress(EngineFault):
        found = endpoint.load(home, "cfuzz")
    if found is not None:
        rules = firewall.member_elements(home, found)
        assert set(rules) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 _.:{}@-/\n")
        assert all(line.count("{") == line.count("}") == 1 for line in rules.splitlines())
        assert {one.interface for one in found.places} <= {
            home.veth("cfuzz", number) for number in range(MOST_NETWORKS)
        }
    assert found in [*placement.readable(home), None]


@fuzzed(100)
@given(
    content=st.one_of(st.binary(max_size=80), st.text(max_size=20).map(str.encode)),
    kind=st.sampled_from(["file", "link", "folder", "pipe"]),
)
def test_a_claim_that_is_none_is_taken(home: Home, content: bytes, kind: str) -> None:
    claims = Claims(home.state / "claims")
    claims.folder.mkdir(parents=True, exist_ok=True)
    path = claims.folder / "10.0.0.2"
    remove_tree(path)
    put_claim(path, content, kind)
    owner = claims.owner("10.0.0.2")
    assert owner is None or re.fullmatch(ID_PATTERN, owner)
    assert claims.take("10.0.0.2", "cone") is (owner in {None, "cone"})
    remove_tree(path)
    put_claim(path, content, kind)
    assert {name: holder for holder, name in claims.holdings()} == ({"10.0.0.2": owner} if owner else {})
    assert os.path.lexists(path) is (owner is not None)


def put_claim(path: Path, content: bytes, kind: str) -> None:
    if kind == "folder":
        (path / "more").mkdir(parents=True)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link" and content.replace(b"\0", b""):
        os.symlink(content.replace(b"\0", b""), os.fsencode(path))
    else:
        path.write_bytes(content)


@fuzzed(100)
@given(name=st.text(alphabet="tcpud-.:0123456789x", min_size=1, max_size=24).filter(lambda name: name.strip(".")))
@example(name="tcp-0.0.0.0-9")
def test_a_claim_on_what_is_no_port_keeps_nobody_from_one(home: Home, name: str) -> None:
    claims = addresses.port_claims(home)
    remove_tree(claims.folder)
    claims.take(name, "cother")
    assert all(0 < (port.host_port or 0) < 2**16 for port in addresses.claimed_ports(home, "cother"))
    (port,) = addresses.take_ports(home, (Port(80, host_address="127.0.0.1"),), "cone")
    assert port.host_port
