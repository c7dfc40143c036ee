"""``python -m runtime run --health-...`` and ``health``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.api import HealthCheck
from runtime.cli.finding import find
from runtime.cli.parsing import Declared, container
from runtime.cli.words import plain
from runtime.errors import InvalidSpec

if TYPE_CHECKING:
    from runtime.api import Engine, Image

FIGURES = {
    "interval": (float, "SECONDS"), "timeout": (float, "SECONDS"), "retries": (int, "N"), "start-period": (float, "SECONDS"),
}  # fmt: skip


def options(parser: argparse.ArgumentParser) -> None:
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--health-cmd", metavar="COMMAND", help="a shell's command in the container")
    how.add_argument("--health-http", metavar="PORT[/PATH]", help="an answer from 200 to 399 is health")
    how.add_argument("--health-tcp", metavar="PORT", help="a connection is health")
    how.add_argument("--no-health", action="store_true", help="not the image's own check either")
    for figure, (kind, metavar) in FIGURES.items():
        parser.add_argument(f"--health-{figure}", type=kind, metavar=metavar, help="of the image's own check, too")


def wanted(given: argparse.Namespace, image: Image) -> HealthCheck | None:
    """None: the image's own as it is.  Raises InvalidSpec."""
    figures = {
        "interval_s": given.health_interval, "timeout_s": given.health_timeout, "retries": given.health_retries,
        "start_period_s": given.health_start_period,
    }  # fmt: skip
    figures = {name: value for name, value in figures.items() if value is not None}
    check = _check(given)
    if not figures:
        return check
    if check is None:
        from runtime.image.healthcheck import of_image

        check = of_image(image.config)
    if check is None or check.kind == "none":
        raise InvalidSpec(
            "There is no health check that these figures could be of.",
            hint="Give --health-cmd, --health-http or --health-tcp as well, or leave out --health-interval and its like.",
            field="health",
        )
    return replace(check, **figures)


def _check(given: argparse.Namespace) -> HealthCheck | None:
    if given.no_health:
        return HealthCheck("none")
    if given.health_cmd is not None:
        return HealthCheck("command", ("/bin/sh", "-c", given.health_cmd))
    if given.health_http is not None:
        port, _, path = given.health_http.partition("/")
        return HealthCheck("http", port=_port(port, "--health-http"), path=f"/{path}")
    if given.health_tcp is not None:
        return HealthCheck("tcp", port=_port(given.health_tcp, "--health-tcp"))
    return None


def _port(text: str, field: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidSpec(f"{text!r} is not a port.", hint="Write a number, such as 80.", field=field)
    return int(text)


def check(engine: Engine, given: argparse.Namespace) -> int:
    outcome = engine.health.probe(find(engine, given.container).id)
    print("healthy" if outcome.ok else "unhealthy", plain(outcome.output.strip()))
    return 0 if outcome.ok else 1


VERBS = {"health": Declared(check, (container,))}
