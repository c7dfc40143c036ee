"""``image …``: what is done with images by hand."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from runtime.api import Credentials, Engine, Step
from runtime.cli.moments import moment
from runtime.cli.table import table
from runtime.errors import InvalidSpec

MIB = 2**20
PASSWORD = "SLIPWAY_REGISTRY_PASSWORD"  # noqa: S105 -- the name of a variable


def declare(verb: Callable[..., argparse.ArgumentParser]) -> None:
    parser = verb("image", ls, "images: get, give, look at, remove")
    below = parser.add_subparsers(metavar="verb")

    def add(name: str, function: object, text: str) -> argparse.ArgumentParser:
        added = below.add_parser(name, help=text, description=text)
        added.set_defaults(verb=function)
        return added

    add("ls", ls, "list them")
    pull = add("pull", _pull, "get one from a registry")
    _registry_options(pull)
    pull.add_argument("reference")
    push = add("push", _push, "give one to a registry")
    _registry_options(push)
    push.add_argument("image", help="id or reference of one that is here")
    push.add_argument("reference", nargs="?", help="what it is called there (default: as it is called here)")
    load = add("load", _load, "from an OCI or docker archive")
    load.add_argument("--name", help="what it is called then (default: what the archive says)")
    load.add_argument("archive", type=Path)
    save = add("save", _save, "into an archive that load, docker load and others take")
    save.add_argument("--form", choices=("oci", "docker"), default="oci")
    save.add_argument("-o", "--output", type=Path, help="the archive (default: standard output)")
    save.add_argument("images", nargs="+", metavar="image")
    told = add("history", _history, "how it came about, newest step first")
    told.add_argument("--json", action="store_true", help="an object a line")
    told.add_argument("image")
    prune = add("prune", _prune, "remove those without a name and a container, and tell what that frees")
    prune.add_argument("-a", "--all", action="store_true", help="those with a name, too")
    prune.add_argument("--older-than", metavar="AGE", help="only what was not used for so long: 30m, 12h, 72h")
    add("rm", _remove, "drop names, and what only they held").add_argument("images", nargs="+", metavar="image")


def _registry_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-u", "--user", help=f"of the registry; the password is read from {PASSWORD}")
    parser.add_argument("--insecure", action="store_true", help="allow plain HTTP")


def _credentials(options: argparse.Namespace) -> Credentials | None:
    if options.user is None:
        return None
    if PASSWORD not in os.environ:
        raise InvalidSpec(f"{PASSWORD} is not set.", hint="Put the password into the environment.", field="--user")
    return Credentials(options.user, os.environ[PASSWORD])


def tell(step: Step) -> None:
    """On a terminal, in one line."""
    if sys.stderr.isatty():
        share = f" {step.done * 100 // step.total}%" if step.total else ""
        width = shutil.get_terminal_size().columns
        print(f"\r\x1b[K{step.stage}{share} {step.detail}"[:width], end="", file=sys.stderr)
        if step.stage == "start":
            told_all()


def told_all() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr)


def ls(engine: Engine, _options: argparse.Namespace) -> int:
    rows = [("IMAGE", "ID", "LAYERS", "MiB")]
    for image in engine.images():
        rows += [(name, image.id[7:19], str(len(image.layers)), f"{image.size / MIB:.1f}") for name in image.references]
    table(rows)
    return 0


def _pull(engine: Engine, options: argparse.Namespace) -> int:
    image = engine.pull(options.reference, credentials=_credentials(options), insecure=options.insecure, progress=tell)
    told_all()
    print(image.id)
    return 0


def _push(engine: Engine, options: argparse.Namespace) -> int:
    pushed = engine.image_service.push(
        options.image,
        options.reference,
        credentials=_credentials(options),
        insecure=options.insecure,
        progress=tell,
    )
    told_all()
    print(pushed)
    return 0


def _load(engine: Engine, options: argparse.Namespace) -> int:
    for image in engine.load(options.archive, reference=options.name, progress=tell):
        told_all()
        print(image.id, *image.references)
    return 0


def _save(engine: Engine, options: argparse.Namespace) -> int:
    """A file gets its name when it is whole."""
    if options.output is None:
        if sys.stdout.isatty():
            raise InvalidSpec("An archive is nothing for a terminal.", hint="Give -o FILE.", field="--output")
        engine.image_service.save(options.images, sys.stdout.buffer, form=options.form, progress=tell)
        told_all()
        return 0
    target = options.output.with_name(f".{options.output.name}.{os.getpid()}")
    try:
        with target.open("wb") as file:
            engine.image_service.save(options.images, file, form=options.form, progress=tell)
        target.replace(options.output)
    finally:
        target.unlink(missing_ok=True)
    told_all()
    return 0


def _history(engine: Engine, options: argparse.Namespace) -> int:
    found = engine.image_service.history(options.image)
    if options.json:
        for one in found:
            print(json.dumps(asdict(one)))
        return 0
    rows = [("CREATED", "MiB", "CREATED BY", "COMMENT")]
    for one in found:
        size = f"{one.size / MIB:.1f}" if one.diff_id else "-"
        rows.append((one.created, size, " ".join(one.created_by.split())[:80], one.comment[:40]))
    table(rows)
    return 0


def _prune(engine: Engine, options: argparse.Namespace) -> int:
    since = moment(options.older_than, "--older-than")
    older_than_s = 0.0 if since is None else max(0.0, time.time() - since)
    pruned = engine.image_service.prune(named=options.all, older_than_s=older_than_s)
    for one in pruned.gone:
        print(one)
    print(f"{pruned.freed_bytes / MIB:.1f} MiB freed")
    return 0


def _remove(engine: Engine, options: argparse.Namespace) -> int:
    for text in options.images:  # every one is found before anything is done to the first
        engine.image(text)
    for text in options.images:
        engine.remove_image(text)
    return 0
