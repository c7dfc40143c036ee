"""Addresses for tests: several runs may share a machine, and what a killed one left keeps its addresses.

A draw holds the name of what it drew: that of an abstract unix socket (unix(7)), which one process of a network namespace has at
a time, and which goes with the process however that ends.  So a run sees what another has drawn before that has a route.
"""

from __future__ import annotations

import contextlib
import ipaddress
import random
import socket
from collections.abc import Iterator
from pathlib import Path

from launcher.subnets import routed

BLOCKS = range(90, 251)
ALL_RUNS = "slipway-tests"
_drawn: list[socket.socket] = []
"""Of numbers, until this process ends."""


@contextlib.contextmanager
def free_block() -> Iterator[str]:
    """A /16 that no route of the machine leads to, and nobody else's until the end.  Raises LookupError."""
    for number in random.sample(BLOCKS, len(BLOCKS)):
        block = ipaddress.IPv4Network(f"10.{number}.0.0/16")
        holder = _hold(str(block))
        if holder is None:
            continue
        with holder:
            if not any(block.overlaps(other) for _, other in _routed()):
                yield str(block)
                return
    raise LookupError("all blocks have a route or are another run's")


def free_number(of: str, below: int) -> int:
    """One that no process of the machine has drawn ``of`` the same and not ended since.  Raises LookupError."""
    for number in random.sample(range(below), below):
        holder = _hold(f"{of}/{number}")
        if holder is not None:
            _drawn.append(holder)
            return number
    raise LookupError(f"all numbers of {of} are drawn")


def _hold(name: str) -> socket.socket | None:
    """None: somebody has it."""
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0{ALL_RUNS}/{name}")
    except OSError:
        holder.close()
        return None
    return holder


def _routed() -> list[tuple[str, ipaddress.IPv4Network]]:
    return routed(Path("/proc/net/route").read_text(encoding="ascii"))
