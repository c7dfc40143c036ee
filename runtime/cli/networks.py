"""The verbs of ``network``."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from runtime.api import Attachment, Engine, NetworkSpec
from runtime.cli.finding import TENANT, find
from runtime.cli.parsing import Declared, below, container
from runtime.cli.table import table


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


def _create_options(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    parser.add_argument("--subnet", help="IPv4, such as 10.20.30.0/24 (default: a free one)")
    parser.add_argument("--ipv6", action="store_true", help="with a /64 of its own")
    parser.add_argument("--subnet6", help="that /64, such as fd12:3456:789a:1::/64")
    parser.add_argument("--internal", action="store_true", help="no way out, no published ports")
    parser.add_argument("--parent", help="flat: on this bridge of the node, if SLIPWAY_FLAT_BRIDGES has it")
    parser.add_argument("--gateway", help="of a flat network")


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")


def _connect_options(parser: argparse.ArgumentParser) -> None:
    _name(parser)
    container(parser)
    parser.add_argument("--ip", help="its IPv4 address there (default: a free one)")
    parser.add_argument("--ip6", help="its IPv6 address there")
    parser.add_argument("--alias", action="append", default=[], help="a name there beside its own; may be given again")


def _names(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="+", metavar="name")


BELOW = {
    "create": (Declared(create, (_create_options,)), "make a network"),
    "ls": (Declared(ls), "list networks"),
    "inspect": (Declared(inspect, (_name,)), "all that is known of a network, as JSON"),
    "rm": (Declared(rm, (_names,)), "remove networks"),
    "connect": (Declared(connect, (_connect_options,)), "put a container on one more network, also while it runs"),
    "disconnect": (Declared(disconnect, (_name, container)), "take a container off a network, also while it runs"),
    "prune": (Declared(prune), "remove the networks that no container names"),
}
VERBS = {"network": Declared(ls, (below(BELOW, required=True),))}
