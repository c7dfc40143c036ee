"""What is reserved for a container while it runs; written before anything is made in the kernel, and like all that gone after a reboot."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from runtime.api import DEFAULT_NETWORK, Connection, Port
from runtime.encoding import encode
from runtime.home import Home, atomic_write, decoding
from runtime.network import sense


def mac_of(name: str) -> str:
    """Locally administered, unicast, and always the same for a container or a bridge."""
    digest = hashlib.sha256(name.encode()).digest()[:5]
    return "02:" + ":".join(f"{byte:02x}" for byte in digest)


@dataclass(frozen=True, slots=True)
class Place:
    """On one network.  What of IPv6 is empty or 0 is not there."""

    network: str
    bridge: str
    interface: str
    """The host's end."""
    inside: str
    mac: str
    address: str
    prefix: int
    gateway: str
    """Empty: there is no way out through it."""
    address6: str = ""
    prefix6: int = 0
    gateway6: str = ""
    internal: bool = False
    flat: bool = False
    aliases: tuple[str, ...] = ()
    names: str = ""
    """Whom to ask for names on it; empty: nobody."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    container: str
    tenant: str
    name: str
    places: tuple[Place, ...]
    ports: tuple[Port, ...]
    rx_bps: int | None = None
    tx_bps: int | None = None

    @property
    def main(self) -> Place:
        """The first that leads out, else the first: default route, published ports, name server."""
        return next((place for place in self.places if place.gateway and not place.internal), self.places[0])

    @property
    def connections(self) -> tuple[Connection, ...]:
        return tuple(Connection(one.network, one.address, one.address6, one.inside) for one in self.places)

    # of its main place, as most have one alone

    @property
    def address(self) -> str:
        return self.main.address

    @property
    def gateway(self) -> str:
        return self.main.gateway

    @property
    def mac(self) -> str:
        return self.main.mac

    @property
    def interface(self) -> str:
        return self.main.interface

    @property
    def bridge(self) -> str:
        return self.main.bridge


def file_of(home: Home, container: str) -> Path:
    return home.run / "endpoints" / f"{container}.json"


def save(home: Home, endpoint: Endpoint) -> None:
    path = file_of(home, endpoint.container)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    atomic_write(path, encode(endpoint))


def load(home: Home, container: str) -> Endpoint | None:
    """None: nothing is reserved for it.  Raises EngineFault: the file is damaged, or says what cannot be of this container."""
    file = file_of(home, container)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    with decoding(file, hint="Restart the container."):
        made = _decoded(json.loads(content))
        sense.check_endpoint(home, container, made)
        return made


def _decoded(kept: dict[str, Any]) -> Endpoint:
    kept["ports"] = tuple(Port(**port) for port in kept["ports"])
    if "places" not in kept:
        return _of_one_network(kept)
    kept["places"] = tuple(Place(**{**place, "aliases": tuple(place["aliases"])}) for place in kept["places"])
    return Endpoint(**kept)


def _of_one_network(kept: dict[str, Any]) -> Endpoint:
    """As it was written when a container had one network, for those that run since."""
    of_place = {field.name for field in fields(Place)} & set(kept)
    place = Place(network=DEFAULT_NETWORK, inside="eth0", **{name: kept[name] for name in of_place})
    return Endpoint(kept["container"], kept["tenant"], kept["container"], (place,), kept["ports"])


def forget(home: Home, container: str) -> None:
    file_of(home, container).unlink(missing_ok=True)


def containers(home: Home) -> tuple[str, ...]:
    """Of which something is reserved."""
    return tuple(sorted(file.stem for file in (home.run / "endpoints").glob("[!.]*.json")))
