"""Address blocks for tests: several runs may share a machine, and what a killed one left keeps its addresses."""

from __future__ import annotations

import ipaddress
import random
from pathlib import Path

from launcher.subnets import routed


def free_block() -> str:
    """A /16 that no route of the machine leads to."""
    used = [network for _, network in routed(Path("/proc/net/route").read_text(encoding="ascii"))]
    while True:
        block = ipaddress.IPv4Network(f"10.{random.randint(90, 250)}.0.0/16")
        if not any(block.overlaps(other) for other in used):
            return str(block)
