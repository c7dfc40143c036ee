"""``volume …`` and the ``-v`` of ``run``."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict

from runtime.api import Engine, VolumeMount, VolumeSpec
from runtime.cli.table import table
from runtime.errors import InvalidSpec, NotFound

MIB = 2**20
TENANT = "cli"


def declare(verb: Callable[..., argparse.ArgumentParser]) -> None:
    parser = verb("volume", _list, "folders that outlive containers")
    below = parser.add_subparsers(metavar="verb")

    def add(name: str, function: object, text: str) -> argparse.ArgumentParser:
        added = below.add_parser(name, help=text, description=text)
        added.set_defaults(verb=function)
        return added

    create = add("create", _create, "make one")
    create.add_argument("--size", type=int, metavar="MiB", help="the most that fits (default: what the disk has)")
    create.add_argument("name")
    add("ls", _list, "list them")
    add("inspect", _inspect, "all that is known of one, as JSON").add_argument("name")
    add("rm", _remove, "remove them, with all that is in them").add_argument("names", nargs="+", metavar="name")
    add("prune", _prune, "remove those that no container has")


def options(run: argparse.ArgumentParser) -> None:
    run.add_argument("-v", "--volume", action="append", default=[], metavar="NAME:PATH[:ro]")
    run.add_argument("--disk", type=int, metavar="MiB", help="what it may write (default: what the disk has)")


def disk(options: argparse.Namespace) -> int | None:
    return None if options.disk is None else int(options.disk) * MIB


def mounts(engine: Engine, texts: list[str]) -> tuple[VolumeMount, ...]:
    """``NAME:PATH[:ro]``; a volume that is not there is made."""
    found = tuple(_mount(text) for text in texts)
    for one in found:
        try:
            engine.volumes.inspect(TENANT, one.volume)
        except NotFound:
            engine.volumes.create(VolumeSpec(TENANT, one.volume))
    return found


def _mount(text: str) -> VolumeMount:
    parts = text.split(":")
    if len(parts) not in {2, 3} or (len(parts) == 3 and parts[2] not in {"ro", "rw"}):
        raise InvalidSpec(f"{text!r} is not a volume.", hint="Write data:/srv/data or data:/srv/data:ro.")
    return VolumeMount(parts[0], parts[1], read_only=parts[2:] == ["ro"])


def _create(engine: Engine, options: argparse.Namespace) -> int:
    size = None if options.size is None else options.size * MIB
    print(engine.volumes.create(VolumeSpec(TENANT, options.name, size)).name)
    return 0


def _list(engine: Engine, _options: argparse.Namespace) -> int:
    rows = [("TENANT", "NAME", "MiB", "OF MiB", "CONTAINERS")]
    for one in engine.volumes.list():
        limit = "" if one.size_bytes is None else str(one.size_bytes // MIB)
        rows.append((one.tenant, one.name, f"{one.used_bytes / MIB:.1f}", limit, " ".join(one.containers)))
    table(rows)
    return 0


def _inspect(engine: Engine, options: argparse.Namespace) -> int:
    print(json.dumps(asdict(engine.volumes.inspect(TENANT, options.name)), indent=2))
    return 0


def _remove(engine: Engine, options: argparse.Namespace) -> int:
    for name in options.names:  # every one is found before anything is done to the first
        engine.volumes.inspect(TENANT, name)
    for name in options.names:
        engine.volumes.remove(TENANT, name)
    return 0


def _prune(engine: Engine, _options: argparse.Namespace) -> int:
    for one in engine.volumes.prune(tenant=TENANT):
        print(one.name)
    return 0
