"""``image …``: what is done with images by hand."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from runtime.api import Credentials, Engine
from runtime.cli.moments import moment
from runtime.cli.parsing import Declared, below
from runtime.cli.progress import tell, told_all
from runtime.cli.table import table
from runtime.errors import InvalidSpec

MIB = 2**20
PASSWORD = "SLIPWAY_REGISTRY_PASSWORD"  # noqa: S105 -- the name of a variable


def _registry_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-u", "--user", help=f"of the registry; the password is read from {PASSWORD}")
    parser.add_argument("--insecure", action="store_true", help="allow plain HTTP")


def _credentials(options: argparse.Namespace) -> Credentials | None:
    if options.user is None:
        return None
    if PASSWORD not in os.environ:
        raise InvalidSpec(f"{PASSWORD} is not set.", hint="Put the password into the environment.", field="--user")
    return Credentials(options.user, os.environ[PASSWORD])


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


def _pull_options(parser: argparse.ArgumentParser) -> None:
    _registry_options(parser)
    parser.add_argument("reference")


def _push_options(parser: argparse.ArgumentParser) -> None:
    _registry_options(parser)
    parser.add_argument("image", help="id or reference of one that is here")
    parser.add_argument("reference", nargs="?", help="what it is called there (default: as it is called here)")


def _load_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", help="what it is called then (default: what the archive says)")
    parser.add_argument("archive", type=Path)


def _save_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--form", choices=("oci", "docker"), default="oci")
    parser.add_argument("-o", "--output", type=Path, help="the archive (default: standard output)")
    _images(parser)


def _history_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="an object a line")
    parser.add_argument("image")


def _prune_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-a", "--all", action="store_true", help="those with a name, too")
    parser.add_argument("--older-than", metavar="AGE", help="only what was not used for so long: 30m, 12h, 72h")


def _images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", nargs="+", metavar="image")


BELOW = {
    "ls": (Declared(ls), "list them"),
    "pull": (Declared(_pull, (_pull_options,)), "get one from a registry"),
    "push": (Declared(_push, (_push_options,)), "give one to a registry"),
    "load": (Declared(_load, (_load_options,)), "from an OCI or docker archive"),
    "save": (Declared(_save, (_save_options,)), "into an archive that load, docker load and others take"),
    "history": (Declared(_history, (_history_options,)), "how it came about, newest step first"),
    "prune": (
        Declared(_prune, (_prune_options,)),
        "remove those without a name and a container, and tell what that frees",
    ),
    "rm": (Declared(_remove, (_images,)), "drop names, and what only they held"),
}
VERBS = {"image": Declared(ls, (below(BELOW),)), "images": Declared(ls)}
