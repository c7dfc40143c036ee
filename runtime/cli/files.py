"""``cp``, ``diff``, ``export`` and ``commit``: between a container and the person's own folders and streams."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from runtime.api import CommitSpec, Engine
from runtime.cli.finding import find
from runtime.cli.parsing import Declared, container
from runtime.cli.words import plain
from runtime.errors import InvalidSpec, NotFound
from runtime.image.copying import TreeWriter
from runtime.image.pack import Packer, Packing, everything
from runtime.kernel.beneath import FOLDER

MARKS = {"added": "A", "changed": "C", "deleted": "D"}
NO_NAMES = {"", ".", ".."}
"""At the end of a path: what it leads to must be a folder already."""


def _place(text: str) -> tuple[str, str]:
    """(container, path); no container: here.  A path here that has a colon begins with ./ or /."""
    container, colon, path = text.partition(":")
    return (container, path) if colon and "/" not in container else ("", text)


def _copy(engine: Engine, options: argparse.Namespace) -> int:
    (source, inner), (target, outer) = _place(options.source), _place(options.target)
    if bool(source) == bool(target):
        raise InvalidSpec("One of the two must be in a container, and one here.", hint="Write container:/path for it.")
    if source:
        with _sink(outer, bare=not inner.strip("/")) as stream:
            engine.files.copy_out(find(engine, source).id, inner, stream)
    else:
        _copy_in(engine, find(engine, target).id, inner, outer)
    return 0


def _copy_in(engine: Engine, id: str, source: str, target: str) -> None:
    """Into the folder ``target``; where that is none, under its last name into the folder above."""
    try:
        with _spring(source) as stream:
            engine.files.copy_in(id, target, stream)
    except (NotFound, InvalidSpec) as refused:
        above, name = os.path.split(target)
        if refused.field != "path" or source == "-" or name in NO_NAMES:
            raise
        with _spring(source, name) as stream:
            engine.files.copy_in(id, above, stream)


@contextmanager
def _sink(path: str, *, bare: bool) -> Iterator[BinaryIO]:
    """A tar that is written to it becomes files here: the person's own, with no set-uid, and never elsewhere.

    In the folder ``path``; where that is none, under its last name in the folder above.  ``bare``: the tar has the content of a
    folder without its name.
    """
    if path == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    root, name = _target(path)
    if bare and name is not None:
        root, name = _made(root, name), None
    reading, writing = os.pipe()
    with ThreadPoolExecutor(1) as pool:
        unpacked = pool.submit(_unpack, root, name, reading)
        try:
            with os.fdopen(writing, "wb") as stream:
                yield cast("BinaryIO", stream)
        except BrokenPipeError:
            unpacked.result()  # says why it took no more
            raise
        unpacked.result()


def _target(path: str) -> tuple[int, str | None]:
    """A folder's descriptor, and the name in it that the copy gets; None: its own."""
    with suppress(OSError):
        return os.open(path, FOLDER | os.O_CLOEXEC), None
    above, name = os.path.split(path)
    return _folder(path if name in NO_NAMES else above or "."), name


def _made(above: int, name: str) -> int:
    """The new folder's descriptor in the place of that of the one above."""
    try:
        os.mkdir(name, dir_fd=above)
        return os.open(name, FOLDER | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    except FileExistsError:
        raise InvalidSpec(f"{name!r} is not a folder here.", hint="Choose another name.") from None
    finally:
        os.close(above)


def _unpack(root: int, name: str | None, reading: int) -> None:
    try:
        with os.fdopen(reading, "rb") as stream:
            TreeWriter(root, "", 0, everything, disowned=True, renamed=name).take(cast("BinaryIO", stream))
            while stream.read(1 << 16):  # the end of the archive is padded
                continue
    finally:
        os.close(root)


@contextmanager
def _spring(path: str, name: str | None = None) -> Iterator[BinaryIO]:
    """A tar of what is here, under ``name``; None: its own last one."""
    if path == "-":
        yield sys.stdin.buffer
        return
    whole = Path(path).resolve() if path.rstrip("/").endswith("..") or path.strip("./") == "" else Path(path)
    if not os.path.lexists(whole):
        raise InvalidSpec(f"There is no {path!r} here.", hint="Check the path.")
    reading, writing = os.pipe()
    with ThreadPoolExecutor(1) as pool:
        packed = pool.submit(_pack, whole, name or whole.name, writing)
        with os.fdopen(reading, "rb") as stream:
            yield cast("BinaryIO", stream)
            while stream.read(1 << 16):
                continue
        packed.result()


def _pack(path: Path, name: str, writing: int) -> None:
    with os.fdopen(writing, "wb") as stream:
        parent = os.open(path.parent, FOLDER | os.O_CLOEXEC)
        try:
            packer = Packer(cast("BinaryIO", stream), Packing())
            if not packer.file(parent, path.name, name):
                packer.tree(parent, path.name, name)
            packer.close()
        finally:
            os.close(parent)


def _folder(path: str) -> int:
    try:
        return os.open(path, FOLDER | os.O_CLOEXEC)
    except OSError:
        raise InvalidSpec(f"{path!r} is not a folder here.", hint="Make it first.") from None


def _diff(engine: Engine, options: argparse.Namespace) -> int:
    for change in engine.files.diff(find(engine, options.container).id):
        print(MARKS[change.kind], plain(change.path))
    return 0


def _export(engine: Engine, options: argparse.Namespace) -> int:
    id = find(engine, options.container).id
    if options.output is None:
        engine.files.export(id, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return 0
    with Path(options.output).open("wb") as stream:
        engine.files.export(id, cast("BinaryIO", stream))
    return 0


def _commit(engine: Engine, options: argparse.Namespace) -> int:
    spec = CommitSpec(
        options.reference,
        command=tuple(options.command) or None,
        env=dict(cast("tuple[str, str]", row.partition("=")[::2]) for row in options.env),
        comment=options.message,
    )
    print(engine.files.commit(find(engine, options.container).id, spec).id)
    return 0


def _copy_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help="container:/path, a path here, or -")
    parser.add_argument("target", metavar="TARGET", help="likewise: a folder, or what the copy is to be in one")


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", help="a file (default: standard output)")


def _commit_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", help="the image's name: [registry/]name[:tag]")
    parser.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-m", "--message", default="", help="for the image's history")
    parser.add_argument(
        "command", nargs=argparse.REMAINDER, help="what its containers run (default: as the image had it)"
    )


VERBS = {
    "cp": Declared(_copy, (_copy_options,)),
    "diff": Declared(_diff, (container,)),
    "export": Declared(_export, (container, _export_options)),
    "commit": Declared(_commit, (container, _commit_options)),
}
