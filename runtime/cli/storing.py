"""What ``run`` is told of volumes and of its disk, as a person writes it.  The engine judges the values."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.api import VolumeMount
from runtime.cli.finding import TENANT
from runtime.errors import Conflict, InvalidSpec, NotFound

if TYPE_CHECKING:
    from runtime.api import Engine, Limits

MIB = 2**20


def options(run: argparse.ArgumentParser) -> None:
    run.add_argument("-v", "--volume", action="append", default=[], metavar="NAME:PATH[:ro]")
    run.add_argument("--log", type=int, metavar="MiB", help="how much of its log is kept (default: 16)")
    run.add_argument("--disk", type=int, metavar="MiB", help="what it may write (default: what the disk has)")


def limits(options: argparse.Namespace, base: Limits) -> Limits:
    """``base`` with the disk and what was said of the log."""
    disk = None if options.disk is None else options.disk * MIB
    return replace(base, disk_bytes=disk, log_bytes=base.log_bytes if options.log is None else options.log * MIB)


def mounts(texts: list[str]) -> tuple[VolumeMount, ...]:
    """``NAME:PATH[:ro]``."""
    return tuple(_mount(text) for text in texts)


@contextmanager
def made(engine: Engine, wanted: tuple[VolumeMount, ...]) -> Iterator[None]:
    """Those that are not there are made, and taken away again where what is done with them fails."""
    from runtime.api import VolumeSpec

    with ExitStack() as undo:
        for name in dict.fromkeys(one.volume for one in wanted):
            try:
                engine.volumes.inspect(TENANT, name)
            except NotFound:
                engine.volumes.create(VolumeSpec(TENANT, name))
                undo.callback(_remove, engine, name)
        yield
        undo.pop_all()


def _remove(engine: Engine, name: str) -> None:
    with suppress(Conflict):  # another container has it already
        engine.volumes.remove(TENANT, name)


def _mount(text: str) -> VolumeMount:
    parts = text.split(":")
    if len(parts) not in {2, 3} or (len(parts) == 3 and parts[2] not in {"ro", "rw"}):
        raise InvalidSpec(f"{text!r} is not a volume.", hint="Write data:/srv/data or data:/srv/data:ro.")
    return VolumeMount(parts[0], parts[1], read_only=parts[2:] == ["ro"])
