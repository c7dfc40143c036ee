"""The verbs of ``network``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from runtime.api import Attachment, Engine, NetworkSpec
from runtime.cli.table import table
from runtime.cli.verbs import TENANT, find


def add_verbs(network: argparse.ArgumentParser) -> None:
    """Of ``network``, each with the function that does it as ``verb``."""
    subparsers = network.add_subparsers(required=True, metavar="verb")

    def verb(name: str, function: object, text: str) -> argparse.ArgumentParser:
        added = subparsers.add_parser(name, help=text, description=text)
        added.set_defaults(verb=function)
        return added

    made = verb("create", create, "make a network")
    made.add_argument("name")
    made.add_argument("--subnet", help="IPv4, such as 10.20.30.0/24 (default: a free one)")
    made.add_argument("--ipv6", action="store_true", help="with a /64 of its own")
    made.add_argument("--subnet6", help="that /64, such as fd12:3456:789a:1::/64")
    made.add_argument("--internal", action="store_true", help="no way out, no published ports")
    made.add_argument("--parent", help="flat: on this bridge of the node, if SLIPWAY_FLAT_BRIDGES has it")
    made.add_argument("--gateway", help="of a flat network")
    verb("ls", ls, "list networks")
    verb("inspect", inspect, "all that is known of a network, as JSON").add_argument("name")
    verb("rm", rm, "remove networks").add_argument("names", nargs="+", metavar="name")
    placed = verb("connect", connect, "put a container on one more network, also while it runs")
    placed.add_argument("name")
    placed.add_argument("container")
    placed.add_argument("--ip", help="its IPv4 address there (default: a free one)")
    placed.add_argument("--ip6", help="its IPv6 address there")
    placed.add_argument("--alias", action="append", default=[], help="a name there beside its own; may be given again")
    taken = verb("disconnect", disconnect, "take a container off a network, also while it runs")
    taken.add_argument("name")
    taken.add_argument("container")
    verb("prune", prune, "remove the networks that no container names")


def create(engine: Engine, options: argparse.Namespace) -> int:
    made = engine.networks.create(
        NetworkSpec(
            TENANT, options.name, options.subnet, options.ipv6, options.subnet6, options.internal, options.parent, options.gateway
        )
    )  # fmt: skip
    print(made.name, made.subnet, made.subnet6)
    return 0


def ls(engine: Engine, _options: argparse.Namespace) -> int:
    rows = [("NAME", "SUBNET", "SUBNET6", "KIND", "CONTAINERS")]
    for one in engine.networks.list(TENANT):
        kind = "internal" if one.internal else f"flat on {one.parent}" if one.parent else ""
        rows.append((one.name, one.subnet, one.subnet6, kind, str(len(one.containers))))
    table(rows)
    return 0


def inspect(engine: Engine, options: argparse.Namespace) -> int:
    print(json.dumps(asdict(engine.networks.inspect(TENANT, options.name)), indent=2))
    return 0


def rm(engine: Engine, options: argparse.Namespace) -> int:
    for name in options.names:
        engine.networks.inspect(TENANT, name)
    for name in options.names:
        engine.networks.remove(TENANT, name)
    return 0


def connect(engine: Engine, options: argparse.Namespace) -> int:
    place = Attachment(options.name, options.ip, options.ip6, tuple(options.alias))
    status = engine.networks.connect(find(engine, options.container).id, place)
    for one in status.networks:
        if one.network == options.name:
            print(one.interface, one.address, one.address6)
    return 0


def disconnect(engine: Engine, options: argparse.Namespace) -> int:
    engine.networks.disconnect(find(engine, options.container).id, options.name)
    return 0


def prune(engine: Engine, _options: argparse.Namespace) -> int:
    for name in engine.networks.prune(TENANT):
        print(name)
    return 0
