"""``python -m runtime events``: the node's stream, a line or a JSON object each."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from datetime import UTC, datetime

from runtime.api import Engine, Event
from runtime.cli.moments import moment
from runtime.cli.parsing import Declared
from runtime.cli.words import plain
from runtime.errors import NotFound


def show(engine: Engine, options: argparse.Namespace) -> int:
    since, until = moment(options.since, "--since"), moment(options.until, "--until")
    subject = _subject(engine, options.container) if options.container else None
    for event in engine.events.read(since=since, until=until, subject=subject, follow=options.follow):
        print(json.dumps(asdict(event)) if options.json else plain(_line(event)), flush=True)
    return 0


def _subject(engine: Engine, text: str) -> str:
    """Also of a container that is gone, as long as the stream knows it: the last one of that name."""
    known = [event.subject for event in engine.events.read() if text in {event.subject, event.name}]
    here = [status.id for status in engine.list() if text in {status.id, status.name}]
    if not known + here:
        raise NotFound(f"Nothing is known of {text!r}.", hint="See: python -m runtime ps.")
    return (here or known)[-1]


def _line(event: Event) -> str:
    at = datetime.fromtimestamp(event.at, UTC).isoformat(timespec="milliseconds")
    more = " ".join(f"{key}={value}" for key, value in event.data.items())
    name = event.name if event.name != event.subject else ""
    return " ".join(filter(None, (at, str(event.kind), event.subject, name, more)))


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    parser.add_argument("--since", help="a time, or how long ago, as logs takes it")
    parser.add_argument("--until", help="likewise")
    parser.add_argument("--json", action="store_true", help="an object a line")
    parser.add_argument("container", nargs="?", help="only of this one, by id or name")


VERBS = {"events": Declared(show, (_options,))}
