"""Our side of the benches: a native engine on a home, an instance and addresses of its own, removed at the end."""

from __future__ import annotations

import contextlib
import os
import random
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runtime.api import ContainerSpec, Engine, Image, Limits
from runtime.engines import open_engine
from runtime.home import Home
from runtime.kernel.mount import mount, unmount
from tests.blocks import free_block

EACH = 200
"""Containers of a tenant, whose network is a /24."""


@contextlib.contextmanager
def engine() -> Iterator[tuple[Engine, Home]]:
    root = Path(tempfile.mkdtemp(prefix="slipway-bench-", dir="/var/tmp"))
    with free_block() as subnets, _at(root, subnets) as home:
        opened = open_engine("native", home)
        try:
            yield opened, home
        finally:
            opened.teardown()
            shutil.rmtree(root)


@contextlib.contextmanager
def _at(root: Path, subnets: str) -> Iterator[Home]:
    home = Home(
        root=root / "home",
        instance=f"b{secrets.token_hex(4)}",
        subnets=subnets,
        uid_base=0x60000000 + random.randrange(0x1000) * 65536,
    )
    with _in_memory(home.run):
        yield home


@contextlib.contextmanager
def _in_memory(run: Path) -> Iterator[None]:
    """What we keep in ``/run`` is in memory, as it is on every host that systemd started; the peers have theirs so, too."""
    if os.path.ismount("/run"):
        yield
        return
    run.mkdir()
    mount("tmpfs", run, "tmpfs", data="mode=755")
    try:
        yield
    finally:
        unmount(run)
        run.rmdir()


def tenant(number: int = 0) -> str:
    """Of the container with this number."""
    return f"bench{number // EACH}"


def spec(id: str, image: Image, *command: str, number: int = 0) -> ContainerSpec:
    """Small, as a density test wants it; limits cost the same whatever their values."""
    return ContainerSpec(
        id=id, tenant=tenant(number), name=id, image=image.id, command=command,
        limits=Limits(memory_bytes=64 * 2**20, cpu_millis=1000, pids=64),
    )  # fmt: skip
