"""Who holds a fixed address and who is given a free one, both at once."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from runtime.api import Attachment, ContainerSpec
from runtime.errors import Conflict
from runtime.home import Home
from runtime.network import addresses, holding
from runtime.network.segments import Segment

ROUNDS = 200


class _HereHome(Home):
    __slots__ = ()

    @property
    def run(self) -> Path:
        return self.root / "run"


def test_an_address_is_never_ones_own_and_anothers(tmp_path: Path) -> None:
    home = _HereHome(tmp_path)
    segment = Segment("tenant1", "back", "b", "10.0.0.0/24", "10.0.0.1", "fd00::/64", "fd00::1")
    fixed = Attachment("back", "10.0.0.2", "fd00::2")
    spec = ContainerSpec("cfixed", "tenant1", "fixed", "sha256:" + "0" * 64, networks=(fixed,))
    both = threading.Barrier(2, timeout=30)
    got: list[str] = []

    def leases() -> None:
        for _ in range(ROUNDS):
            both.wait()
            address = addresses.take_address(home, segment, "cany")
            got[:] = [address, addresses.take_address6(home, segment, "cany", address)]
            both.wait()
            addresses.address_claims(home, "tenant1").free_all("cany")

    other = threading.Thread(target=leases)
    other.start()
    ways = set()
    for _ in range(ROUNDS):
        both.wait()
        try:
            holding.hold(home, spec, str)
            holds = {"10.0.0.2", "fd00::2"}
        except Conflict:
            holds = set()
        both.wait()
        assert not holds & set(got), f"{got} were given and held"
        assert {address for _, _, address in holding.holdings(home)} == holds, "all or none"
        ways.add(bool(holds))
        holding.let_go_of_all(home, "cfixed")
    other.join()
    assert ways == {True, False}, "each came first at times"


def test_an_address_is_the_same_however_it_is_written(tmp_path: Path) -> None:
    home = _HereHome(tmp_path)
    spec = ContainerSpec(
        "cfirst", "tenant1", "first", "sha256:" + "0" * 64, networks=(Attachment("back", None, "FD00:0:0::00A"),)
    )
    holding.hold(home, spec, str)
    segment = Segment("tenant1", "back", "b", "10.0.0.0/24", "10.0.0.1", "fd00::/64", "fd00::1")
    assert addresses.take_address6(home, segment, "csecond", "10.0.0.10") != "fd00::a"
    with pytest.raises(Conflict) as caught:
        addresses.take_address6(home, segment, "csecond", "10.0.0.10", "fd00::a")
    assert caught.value.field == "networks[0].address6"
