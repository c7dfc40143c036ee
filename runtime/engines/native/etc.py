"""The files below ``/etc`` that a container has from the runtime: its names, and whom it asks for others'."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from runtime.network.endpoint import Endpoint
from runtime.network.resolving import resolv_conf

FOLDER = ("etc",)
FILES = ("hosts", "hostname", "resolv.conf")
PLACES = frozenset("/".join((*FOLDER, name)) for name in FILES)


def is_place(path: str, found: os.stat_result) -> bool:
    """Of a container's own files: one that the container runtime made for one of these to be mounted on, where the image has none.

    Nobody in the container can write to it: it is no change of the container's.
    """
    return path in PLACES and stat.S_ISREG(found.st_mode) and found.st_size == 0


def write(folder: Path, hostname: str, endpoint: Endpoint) -> None:
    """Before its start."""
    for file, text in {"hostname": f"{hostname}\n", **_of_networks(hostname, endpoint)}.items():
        (folder / file).write_text(text, encoding="utf-8")
        (folder / file).chmod(0o644)


def follow(folder: Path, endpoint: Endpoint) -> None:
    """Its networks are others while it runs; its host name is that of its start.

    The container has these very files, so none is replaced: each is written over and then cut, and is never empty.
    """
    hostname = (folder / "hostname").read_text(encoding="utf-8").strip()
    for file, text in _of_networks(hostname, endpoint).items():
        with (folder / file).open("r+b") as there:
            there.write(text.encode())
            there.truncate()


def _of_networks(hostname: str, endpoint: Endpoint) -> dict[str, str]:
    return {
        "hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost\n{_own_names(endpoint, hostname)}",
        "resolv.conf": resolv_conf(endpoint),
    }


def _own_names(endpoint: Endpoint, name: str) -> str:
    """As hosts(5): a container knows itself on all of its networks, the main one first; of a name with dots by its first part, too."""
    names = name if "." not in name else f"{name} {name.partition('.')[0]}"
    places = sorted(endpoint.places, key=lambda place: place != endpoint.main)
    addresses = [address for place in places for address in (place.address, place.address6) if address]
    return "".join(f"{address}\t{names}\n" for address in addresses)
