"""The runtime's own command line, for one tenant named ``cli``; it needs no Django and no running Slipway.

Exit codes: 0 done, 1 refused with a sentence, 2 wrong usage; ``exec`` and an attached ``run`` end with the program's own.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from runtime.cli import (
    attaching,
    controls,
    events,
    files,
    health,
    images,
    networks,
    options,
    placing,
    verbs,
    volumes,
    watching,
)
from runtime.engines import open_engine
from runtime.errors import RuntimeFault
from runtime.home import Home


def main(arguments: Sequence[str]) -> int:
    chosen = _parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("The runtime needs root: run it with sudo.", file=sys.stderr)
        return 1
    if chosen.home:
        os.environ["SLIPWAY_HOME"] = chosen.home
    try:
        code: int = chosen.verb(open_engine("native", Home.from_environment()), chosen)
    except RuntimeFault as fault:
        print(fault, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime", description="Run containers with Slipway's runtime.")
    parser.add_argument("--home", help="where state is kept (default: SLIPWAY_HOME, else /var/lib/slipway)")
    subparsers = parser.add_subparsers(required=True, metavar="verb")

    def verb(
        name: str, function: object, text: str, *, container: bool = False, several: bool = False
    ) -> argparse.ArgumentParser:
        added = subparsers.add_parser(name, help=text, description=text)
        added.set_defaults(verb=function)
        if container:
            added.add_argument("container", help="id or name")
        if several:
            added.add_argument("containers", nargs="+", metavar="container", help="id or name")
        return added

    run = verb("run", verbs.run, "launch an image: a built-in name, a reference of a registry, or an archive's path")
    _run_options(run)
    verb("ps", verbs.ps, "list containers")
    logs = verb("logs", verbs.logs, "show a container's log", container=True)
    _add_log_options(logs)
    execute = verb("exec", verbs.exec, "run a further program in a container", container=True)
    execute.add_argument("-i", "--interactive", action="store_true", help="pass standard input on")
    execute.add_argument("-t", "--terminal", action="store_true", help="with a terminal")
    execute.add_argument("-u", "--user")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    verb("stop", verbs.stop, "stop a container", several=True).add_argument(
        "-t", "--time", type=float, help="seconds of grace"
    )
    verb("start", verbs.start, "start a stopped container", several=True)
    verb("rm", verbs.rm, "remove a container", several=True).add_argument("-f", "--force", action="store_true")
    controls.add_verbs(verb)
    verb("inspect", verbs.inspect, "all that is known of a container, as JSON", container=True)
    verb("stats", verbs.stats, "the counters of what runs")
    happened = verb("events", events.show, "what happened on the node")
    happened.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    happened.add_argument("--since", help="a time, or how long ago, as logs takes it")
    happened.add_argument("--until", help="likewise")
    happened.add_argument("--json", action="store_true", help="an object a line")
    happened.add_argument("container", nargs="?", help="only of this one, by id or name")
    volumes.declare(verb)
    files.declare(verb)
    text = "networks beside the tenant's own"
    networks.add_verbs(subparsers.add_parser("network", help=text, description=text))
    images.declare(verb)
    verb("images", images.ls, "list images")
    verb("reconcile", verbs.reconcile, "compare what should be with what is, and put it right")
    attaching.options(verb("attach", attaching.attach, "a container's own output and input", container=True))
    verb("health", health.check, "check a container's health now: exit code 0 when it is well", container=True)
    verb("watch", watching.watch, "stay: start again what restart policies want started, and check health")
    verb("down", verbs.down, "remove every container and network")
    return parser


def _run_options(run: argparse.ArgumentParser) -> None:
    run.add_argument("-d", "--detach", action="store_true", help="print the id and leave it running")
    run.add_argument("-i", "--interactive", action="store_true", help="with an input, for attach")
    run.add_argument("-t", "--terminal", action="store_true", help="with a terminal")
    run.add_argument("--rm", action="store_true", help="remove it when it has ended")
    run.add_argument("--name")
    run.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    placing.add_options(run)
    run.add_argument("--restart", default="no", metavar="POLICY", help="no, on-failure[:N], always or unless-stopped")
    volumes.options(run)
    health.options(run)
    options.add_options(run)
    options.add_limits(run)
    run.add_argument("image")
    run.add_argument("command", nargs=argparse.REMAINDER)


def _add_log_options(logs: argparse.ArgumentParser) -> None:
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("-n", "--tail", type=int)
    logs.add_argument(
        "--since", help="a time as 2026-01-31T12:00:00Z, seconds since the epoch, or how long ago: 10m, 2h30m"
    )
    logs.add_argument("--until", help="likewise")
    logs.add_argument("-T", "--timestamps", action="store_true", help="show each line's time")
    logs.add_argument("--stream", choices=("stdout", "stderr"), help="only this one")
