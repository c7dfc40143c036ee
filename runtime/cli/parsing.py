"""How a facet of the command line declares its verbs: what does the work, and what it takes."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from runtime.api import Engine

Take = Callable[[argparse.ArgumentParser], object]
"""Adds arguments or options to a verb's parser."""


class Declared(NamedTuple):
    """A verb."""

    work: Callable[[Engine, argparse.Namespace], int]
    """Returns the exit code."""
    takes: tuple[Take, ...] = ()

    def make(self, parser: argparse.ArgumentParser) -> None:
        parser.set_defaults(verb=self.work)
        for take in self.takes:
            take(parser)


def container(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", help="id or name")


def env(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-e", "--env", action="append", default=[], metavar="NAME[=VALUE]", help="without: as it is here, if it is"
    )


def environment(options: argparse.Namespace) -> dict[str, str]:
    """Of :func:`env`."""
    rows = (row if "=" in row else f"{row}={os.environ[row]}" for row in options.env if "=" in row or row in os.environ)
    return dict(row.split("=", 1) for row in rows)


def natural(text: str) -> int:
    """0 or more."""
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is less than none")
    return number


def seconds(text: str) -> float:
    """0 or more."""
    number = float(text)
    if not number >= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return number


def containers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("containers", nargs="+", metavar="container", help="id or name")


def command(parser: argparse.ArgumentParser) -> None:
    """Whatever follows, options included."""
    parser.add_argument("command", nargs=argparse.REMAINDER)


def below(verbs: Mapping[str, tuple[Declared, str]], *, required: bool = False) -> Take:
    """Verbs below a verb, each with what it does."""

    def take(parser: argparse.ArgumentParser) -> None:
        subparsers = parser.add_subparsers(required=required, metavar="verb")
        for name, (declared, text) in verbs.items():
            declared.make(subparsers.add_parser(name, help=text, description=text))

    return take
