"""What is told to a network's name server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.home import Home
from runtime.network.endpoint import Endpoint, Place
from runtime.network.names import Names


def test_many_tell_of_the_same_container_at_once(tmp_path: Path) -> None:
    """The start of a network's first container tells of all that are there, while they tell of themselves."""
    names = Names(Home(tmp_path, "tnames"))
    names._folder = tmp_path / "dns"
    hosts = tmp_path / "dns/bridge/hosts"
    hosts.mkdir(parents=True)
    place = Place(
        "default", "bridge", "veth", "eth0", "02:00:00:00:00:01", "10.1.0.2", 24, "10.1.0.1", names="10.1.0.1"
    )
    one = Endpoint("c1", "tenant1", "web", (place,), ())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _number: names.tell(one, ["bridge"]), range(2000)))
    assert [file.name for file in hosts.iterdir()] == ["c1"]
    assert (hosts / "c1").read_text() == "10.1.0.2 web\n"
    names.untell("c1", ["bridge"])
    assert not list(hosts.iterdir())
    with ThreadPoolExecutor(4) as pool:  # nor does its end meanwhile keep another's start
        verbs = (lambda: names.tell(one, ["bridge"]), lambda: names.untell("c1", ["bridge"]))
        list(pool.map(lambda number: verbs[number % 2](), range(400)))
    names.untell("c1", ["bridge"])
    assert not list(hosts.iterdir())
