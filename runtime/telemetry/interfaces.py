"""Which interfaces a container's bytes are counted on, once networks have come or gone since its start.

A container that keeps the networks of its start has no file here.  One that does not has one among its files on the disk, until its end: the
interfaces that it has, and what those had counted that went.  So its counters only grow: an interface is taken down, its last figures are
stored here, and only then it is deleted.  Another process that has the old interfaces open sees by the generation
that somebody's file is another, and by its own file's mark whether it must look again.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from runtime.encoding import check, encode
from runtime.home import Home, atomic_write, decoding

Mark = tuple[int, int]
"""Inode and time of change of a file; (0, 0): there is none."""


@dataclass(frozen=True, slots=True)
class Wiring:
    names: tuple[str, ...]
    """The host's ends that it has."""
    rx_bytes: int = 0
    """What those that went had brought to the container; ``tx_bytes``: what it had sent over them."""
    tx_bytes: int = 0
    last: int = 0
    """Number of the last one that went (the kernel gives none twice): it counts no more, also while it is still there."""


def load(home: Home, container: str) -> Wiring | None:
    """None: the interfaces of its start.  Raises EngineFault when the file is damaged."""
    file = _file(home, container)
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    with decoding(file):
        kept = json.loads(content)
        found = Wiring(**{**kept, "names": tuple(kept["names"])})
        check(found)
        return found


def joined(home: Home, container: str, names: Sequence[str]) -> None:
    """These are all that it has now."""
    before = load(home, container) or Wiring(())
    _save(home, container, Wiring(**{**asdict(before), "names": tuple(names)}))


def retire(home: Home, container: str, name: str, left: Sequence[str]) -> None:
    """Store the figures of an interface that is down and will be deleted; ``left`` stay.  Twice is once; of one that is gone nothing is known."""
    before = load(home, container) or Wiring(())
    rx_bytes, tx_bytes, last = before.rx_bytes, before.tx_bytes, before.last
    try:
        number = socket.if_nametoindex(name)
    except OSError:
        number = before.last
    if number != before.last:
        # what the host's end sends the container receives
        rx_bytes, tx_bytes, last = rx_bytes + _counted(name, "tx"), tx_bytes + _counted(name, "rx"), number
    _save(home, container, Wiring(tuple(left), rx_bytes, tx_bytes, last))


def _counted(name: str, way: str) -> int:
    return int(Path(f"/sys/class/net/{name}/statistics/{way}_bytes").read_text(encoding="ascii"))


def forget(home: Home, container: str) -> None:
    """Its start has ended, and its final reading is stored."""
    _file(home, container).unlink(missing_ok=True)


def mark(home: Home, container: str) -> Mark:
    return _mark(_file(home, container))


def generation(home: Home) -> Mark:
    """Another one after each change of any container's interfaces, and before what went is deleted: a doorbell, :func:`mark` says whose."""
    return _mark(_generation(home))


def _mark(file: Path) -> Mark:
    try:
        found = file.stat()
    except FileNotFoundError:
        return (0, 0)
    return found.st_ino, found.st_mtime_ns


def _save(home: Home, container: str, wiring: Wiring) -> None:
    atomic_write(_file(home, container), encode(wiring))
    _generation(home).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    atomic_write(_generation(home), b"")


def _file(home: Home, container: str) -> Path:
    return home.container(container) / "interfaces.json"


def _generation(home: Home) -> Path:
    return home.run / "interfaces" / "generation"
