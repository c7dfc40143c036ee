"""``python -m runtime attach``: a container's own output and input at a person's terminal, until they leave or it ends."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import sys
import termios
import threading
import tty
from collections.abc import Iterator

from runtime.api import AttachSession, Engine
from runtime.cli.ending import code_of
from runtime.cli.finding import find
from runtime.cli.parsing import Declared, container
from runtime.cli.streams import BLOCK, terminal_size
from runtime.errors import Conflict, DeadlineExceeded, InvalidSpec
from runtime.kernel.ready import readable

DEFAULT_KEYS = "ctrl-p,ctrl-q"
KEY = re.compile(r"ctrl-([a-z@\[\\\]^_])|([!-+\--~])")
LOOK_S = 0.2
PACKET = 4096
"""Bytes: small enough for an engine to take all of it or nothing."""


class DetachKeys:
    """Finds the sequence in what is typed, also when it comes in parts; what only began like it is passed on."""

    def __init__(self, text: str) -> None:
        self._keys = _parsed(text)
        self._held = b""

    def feed(self, typed: bytes) -> tuple[bytes, bool]:
        """What is the container's, and whether the person detaches."""
        if not self._keys:
            return typed, False
        passed = bytearray()
        for index in range(len(typed)):
            self._held += typed[index : index + 1]
            if self._held == self._keys:
                return bytes(passed), True
            while self._held and not self._keys.startswith(self._held):
                passed += self._held[:1]
                self._held = self._held[1:]
        return bytes(passed), False


def detach_keys(text: str | None = None) -> DetachKeys:
    """Those that were asked for, else the usual ones where a person types; what is piped in may have any bytes."""
    return DetachKeys((DEFAULT_KEYS if sys.stdin.isatty() else "") if text is None else text)


def _parsed(text: str) -> bytes:
    """``ctrl-p,ctrl-q``; empty for none.  Raises InvalidSpec."""
    keys = b""
    for word in text.split(",") if text else ():
        found = KEY.fullmatch(word)
        if found is None:
            raise InvalidSpec(
                f"{word!r} is not a key.", hint="Write keys such as ctrl-p or q, with commas.", field="--detach-keys"
            )
        keys += bytes([ord(found[1].upper()) & 0x1F]) if found[1] else found[2].encode()
    return keys


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--detach-keys", help=f"leave it running by these (default: {DEFAULT_KEYS} at a terminal)")
    parser.add_argument("--no-stdin", action="store_true", help="only look")


def attach(engine: Engine, options: argparse.Namespace) -> int:
    """The exit code is the container's once it has ended, and 0 when the person left before."""
    found = find(engine, options.container)
    spec, keys = engine.spec(found.id), detach_keys(options.detach_keys)
    session = engine.attachments.open(found.id)
    takes_input = not options.no_stdin and (spec.stdin or spec.terminal)
    if held(session, keys, terminal=spec.terminal, takes_input=takes_input):
        return 0
    code = code_of(engine, found.id, found.epoch)
    return 0 if code is None else code


def held(session: AttachSession, keys: DetachKeys, *, terminal: bool, takes_input: bool, last: bytes = b"") -> bool:
    """Until the container ends, or the person leaves by the keys: then True.  The session is closed.

    ``last`` is what the container is sent when our input ends.
    """
    over = threading.Event()
    output = threading.Thread(target=_show, args=(session, over), daemon=True)
    try:
        with _raw(terminal and takes_input), _sized(session, terminal):
            output.start()
            detached = takes_input and _type(session, keys, over, last)
            while not detached and not over.wait(LOOK_S):
                continue
    finally:
        session.close()
    output.join()
    if session.dropped:
        print(f"{session.dropped} bytes of its output were lost: they were read too slowly.", file=sys.stderr)
    return detached


def _show(session: AttachSession, over: threading.Event) -> None:
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            chunk = session.read(LOOK_S)
            if chunk is not None:
                stream = sys.stderr if chunk.stream == "stderr" else sys.stdout
                stream.buffer.write(chunk.content)
                stream.buffer.flush()
    over.set()


def _type(session: AttachSession, keys: DetachKeys, over: threading.Event, last: bytes) -> bool:
    """Until our input ends or the container does; True when the person detached."""
    own = sys.stdin.fileno()
    while not over.is_set():
        if not readable([own], LOOK_S):
            continue
        content = os.read(own, BLOCK)
        if not content:
            _pass_on(session, last, over)
            session.close_input()
            return False
        passed, detached = keys.feed(content)
        _pass_on(session, passed, over)
        if detached:
            return True
    return False


def _pass_on(session: AttachSession, content: bytes, over: threading.Event) -> None:
    """However long the container takes to read it."""
    while content and not over.is_set():
        try:
            session.write(content[:PACKET])
        except DeadlineExceeded:
            continue  # nothing of it was taken
        except Conflict:  # it has ended, which its output tells
            return
        content = content[PACKET:]


@contextlib.contextmanager
def _raw(wanted: bool) -> Iterator[None]:
    own = sys.stdin.fileno()
    if not wanted or not os.isatty(own):
        yield
        return
    before = termios.tcgetattr(own)
    try:
        tty.setraw(own)
        yield
    finally:
        termios.tcsetattr(own, termios.TCSADRAIN, before)


@contextlib.contextmanager
def _sized(session: AttachSession, terminal: bool) -> Iterator[None]:
    if not terminal:
        yield
        return
    session.resize(*terminal_size())
    before = signal.signal(signal.SIGWINCH, lambda *_: session.resize(*terminal_size()))
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)


VERBS = {"attach": Declared(attach, (container, options))}
