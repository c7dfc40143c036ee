"""``volume …``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from runtime.api import Engine, VolumeSpec
from runtime.cli.finding import TENANT
from runtime.cli.parsing import Declared, below
from runtime.cli.table import table

MIB = 2**20


def _create(engine: Engine, options: argparse.Namespace) -> int:
    size = None if options.size is None else options.size * MIB
    print(engine.volumes.create(VolumeSpec(TENANT, options.name, size)).name)
    return 0


def _list(engine: Engine, _options: argparse.Namespace) -> int:
    rows = [("TENANT", "NAME", "MiB", "OF MiB", "CONTAINERS")]
    for one in engine.volumes.list():
        limit = "" if one.size_bytes is None else str(one.size_bytes // MIB)
        rows.append(
            (
                one.tenant,
                one.name,
                "?" if one.used_bytes is None else f"{one.used_bytes / MIB:.1f}",
                limit,
                " ".join(one.containers),
            )
        )
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


def _create_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, metavar="MiB", help="the most that fits (default: what the disk has)")
    _name(parser)


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")


def _names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="name")


BELOW = {
    "create": (Declared(_create, (_create_options,)), "make one"),
    "ls": (Declared(_list), "list them"),
    "inspect": (Declared(_inspect, (_name,)), "all that is known of one, as JSON"),
    "rm": (Declared(_remove, (_names,)), "remove them, with all that is in them"),
    "prune": (Declared(_prune), "remove those that no container has"),
}
VERBS = {"volume": Declared(_list, (below(BELOW),))}
