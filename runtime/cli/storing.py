"""What ``run`` is told of volumes and of its disk, as a person writes it.  The engine judges the values."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from runtime.api import VolumeMount
from runtime.cli.finding import TENANT
from runtime.errors import InvalidSpec, NotFound

if TYPE_CHECKING:
    from runtime.api import Engine

MIB = 2**20


def options(run: argparse.ArgumentParser) -> None:
    run.add_argument("-v", "--volume", action="append", default=[], metavar="NAME:PATH[:ro]")
    run.add_argument("--disk", type=int, metavar="MiB", help="what it may write (default: what the disk has)")


def disk(options: argparse.Namespace) -> int | None:
    return None if options.disk is None else int(options.disk) * MIB


def mounts(engine: Engine, texts: list[str]) -> tuple[VolumeMount, ...]:
    """``NAME:PATH[:ro]``; a volume that is not there is made."""
    found = tuple(_mount(text) for text in texts)
    for one in found:
        _ensure(engine, one.volume)
    return found


def _ensure(engine: Engine, name: str) -> None:
    from runtime.api import VolumeSpec

    try:
        engine.volumes.inspect(TENANT, name)
    except NotFound:
        engine.volumes.create(VolumeSpec(TENANT, name))


def _mount(text: str) -> VolumeMount:
    parts = text.split(":")
    if len(parts) not in {2, 3} or (len(parts) == 3 and parts[2] not in {"ro", "rw"}):
        raise InvalidSpec(f"{text!r} is not a volume.", hint="Write data:/srv/data or data:/srv/data:ro.")
    return VolumeMount(parts[0], parts[1], read_only=parts[2:] == ["ro"])
