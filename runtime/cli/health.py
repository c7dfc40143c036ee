"""``python -m runtime run --health-...`` and ``health``."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from runtime.api import HealthCheck
from runtime.cli.finding import find
from runtime.cli.parsing import Declared, container
from runtime.errors import InvalidSpec

if TYPE_CHECKING:
    from runtime.api import Engine


def options(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--health-cmd", metavar="COMMAND", help="a shell's command in the container")
    how.add_argument("--health-http", metavar="PORT[/PATH]", help="an answer from 200 to 399 is health")
    how.add_argument("--health-tcp", metavar="PORT", help="a connection is health")
    how.add_argument("--no-health", action="store_true", help="not the image's own check either")
    parser.add_argument("--health-interval", type=float, default=30.0, metavar="SECONDS")
    parser.add_argument("--health-timeout", type=float, default=10.0, metavar="SECONDS")
    parser.add_argument("--health-retries", type=int, default=3, metavar="N")
    parser.add_argument("--health-start-period", type=float, default=0.0, metavar="SECONDS")


def wanted(given: argparse.Namespace) -> HealthCheck | None:
    """None: the image's own.  Raises InvalidSpec."""
    times = (given.health_interval, given.health_timeout, given.health_retries, given.health_start_period)
    if given.no_health:
        return HealthCheck("none")
    if given.health_cmd is not None:
        return HealthCheck("command", ("/bin/sh", "-c", given.health_cmd), None, "/", *times)
    if given.health_http is not None:
        port, _, path = given.health_http.partition("/")
        return HealthCheck("http", (), _port(port, "--health-http"), f"/{path}", *times)
    if given.health_tcp is not None:
        return HealthCheck("tcp", (), _port(given.health_tcp, "--health-tcp"), "/", *times)
    return None


def _port(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidSpec(f"{text!r} is not a port.", hint="Write a number, such as 80.", field=field)
    return int(text)


def check(engine: Engine, given: argparse.Namespace) -> int:
    outcome = engine.health.probe(find(engine, given.container).id)
    print("healthy" if outcome.ok else "unhealthy", outcome.output)
    return 0 if outcome.ok else 1


VERBS = {"health": Declared(check, (container,))}
