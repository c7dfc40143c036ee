"""The runtime's own command line, for one tenant named ``cli``; it needs no Django and no running Slipway.

Exit codes: 0 done, 1 refused with a sentence, 2 wrong usage; ``exec`` and an attached ``run`` end with the program's own.

Each command is a process of its own, so what it loads is most of what it takes: of the verb that was given alone the facet is imported
and the parser made, and facets import what only some of their verbs need where they need it.  A test holds that.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from runtime.cli.parsing import Declared
from runtime.engines import open_engine
from runtime.errors import RuntimeFault
from runtime.home import Home
from runtime.logs import hush

PROGRAM = "python -m runtime"
VERBS = {
    "create": ("running", "make a container of an image, for start"),
    "run": ("running", "launch an image: a built-in name, a reference of a registry, or an archive's path"),
    "ps": ("containers", "list containers"),
    "logs": ("containers", "show a container's log"),
    "exec": ("containers", "run a further program in a container"),
    "stop": ("containers", "stop a container"),
    "start": ("containers", "start a stopped container"),
    "rm": ("containers", "remove a container"),
    "prune": ("containers", "remove the containers that have ended"),
    "pause": ("controls", "freeze every process of a container"),
    "unpause": ("controls", "let a paused container go on"),
    "kill": ("controls", "send a signal to a container"),
    "restart": ("controls", "stop a container and start it"),
    "wait": ("controls", "wait for a container's end and print its exit code"),
    "top": ("controls", "the processes of a container"),
    "rename": ("controls", "give a container another name"),
    "update": ("controls", "give a container other limits, also while it runs"),
    "tenant": ("controls", "the ceilings over all containers of a tenant; 0 takes one away"),
    "inspect": ("containers", "all that is known of a container, as JSON"),
    "stats": ("containers", "the counters of what runs"),
    "events": ("events", "what happened on the node"),
    "volume": ("volumes", "folders that outlive containers"),
    "cp": ("files", "copy files into a container or out of it; - is a tar on standard input or output"),
    "diff": ("files", "what a container changed of its image: Added, Changed, Deleted"),
    "export": ("files", "a container's whole root as a tar"),
    "commit": ("files", "make an image of a container"),
    "network": ("networks", "networks beside the tenant's own"),
    "image": ("images", "images: get, give, look at, remove"),
    "images": ("images", "list images"),
    "reconcile": ("containers", "compare what should be with what is, and put it right"),
    "attach": ("attaching", "a container's own output and input"),
    "health": ("health", "check a container's health now: exit code 0 when it is well"),
    "watch": ("watching", "stay: start again what restart policies want started, and check health"),
    "down": ("containers", "remove every container and network"),
}
"""Verb -> the module of this package that has it in its ``VERBS``, and what it does."""
LOGGING = frozenset({"watch", "reconcile"})
"""Verbs whose standard error is the node's log, with its paths.  All others say there what a person is to read, and the log with ``--verbose``."""


def main(arguments: Sequence[str]) -> int:
    _fill_standard_streams()
    chosen = parser(given(arguments)).parse_args(arguments)
    if os.geteuid() != 0:
        print("The runtime needs root: run it with sudo.", file=sys.stderr)
        return 1
    if chosen.home:
        os.environ["SLIPWAY_HOME"] = chosen.home
    if not chosen.verbose and given(arguments) not in LOGGING:
        hush()
    try:
        code: int = chosen.verb(open_engine("native", Home.from_environment()), chosen)
    except RuntimeFault as fault:
        from runtime.cli.words import plain

        print(*map(plain, str(fault).splitlines()), sep="\n", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return code


def _fill_standard_streams() -> None:
    """Those that the caller has closed, which Python has as None: whatever is opened next would be taken for one."""
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))


def given(arguments: Sequence[str]) -> str | None:
    """The verb among them.  None: help is wanted, or the usage is wrong, which the parser of all verbs tells."""
    words = iter(arguments)
    for word in words:
        if word == "--home":
            next(words, None)
        elif word != "--verbose" and not word.startswith("--home="):
            return word if word in VERBS else None
    return None


def parser(wanted: str | None) -> argparse.ArgumentParser:
    """Of one verb; of None: all by name, for help and for telling what is wrong."""
    whole = argparse.ArgumentParser(
        prog=PROGRAM, description="Run containers with Slipway's runtime.", allow_abbrev=False
    )
    whole.add_argument("--home", help="where state is kept (default: SLIPWAY_HOME, else /var/lib/slipway)")
    whole.add_argument("--verbose", action="store_true", help="show the log, too, with the paths of the node")
    subparsers = whole.add_subparsers(required=True, metavar="verb", prog=PROGRAM)
    for name in VERBS if wanted is None else (wanted,):
        text = VERBS[name][1]
        added = subparsers.add_parser(name, help=text, description=text)
        if name == wanted:
            declared(name).make(added)
    return whole


def declared(verb: str) -> Declared:
    """Loads its facet."""
    found: Declared = import_module(f"{__name__}.{VERBS[verb][0]}").VERBS[verb]
    return found
