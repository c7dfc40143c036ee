"""Recipes of the built-in catalog: one TOML file each in ``recipes/``, with an icon of the same name beside it.

Adding an application is adding the two files.  Keys, all checked by :func:`parse`::

    title, category, tags           words for people; summary and description are tables by language (en, zh-hans)
    packages                        Debian packages; empty: the busybox layer alone
    setup                           shell script run in the image after the packages are in
    [files]                         path -> content, executable when it begins with #!
    command, entrypoint, user, working_dir, stop_signal
    [limits]                        memory_mib, memory_needed_mib, cpu_millis, pids
    [[ports]]                       port, protocol, title
    [[environment]]                 name, default, required, secret, generate, help (table by language)
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.errors import InvalidSpec, NotFound
from runtime.image.reference import BUILT_IN, Reference
from runtime.image.slugs import FOLDER, known

MIB = 2**20


@dataclass(frozen=True, slots=True)
class RecipePort:
    port: int
    protocol: str = "tcp"
    title: str = ""


@dataclass(frozen=True, slots=True)
class RecipeVariable:
    name: str
    default: str = ""
    required: bool = False
    secret: bool = False
    generate: bool = False
    """The launch form fills in a fresh password."""
    help: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Recipe:
    slug: str
    title: str
    category: str
    summary: Mapping[str, str]
    description: Mapping[str, str]
    tags: tuple[str, ...]
    packages: tuple[str, ...]
    setup: str
    files: Mapping[str, str]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    working_dir: str
    stop_signal: str
    memory_bytes: int
    memory_needed: int
    cpu_millis: int
    pids: int
    ports: tuple[RecipePort, ...]
    environment: tuple[RecipeVariable, ...]
    terminal: bool
    digest: str
    """Of the file: an image built from another text is built anew."""

    @property
    def reference(self) -> Reference:
        return Reference(BUILT_IN, self.slug, "latest")

    @property
    def icon(self) -> Path:
        return FOLDER / f"{self.slug}.svg"


def parse(slug: str, content: bytes) -> Recipe:
    """Raises InvalidSpec that names the key."""
    import tomllib

    try:
        raw: dict[str, Any] = tomllib.loads(content.decode())
        limits = raw.get("limits", {})
        return Recipe(
            slug=slug,
            title=raw["title"],
            category=raw["category"],
            summary=raw["summary"],
            description=raw["description"],
            tags=tuple(raw.get("tags", ())),
            packages=tuple(raw.get("packages", ())),
            setup=raw.get("setup", ""),
            files=raw.get("files", {}),
            entrypoint=tuple(raw.get("entrypoint", ())),
            command=tuple(raw.get("command", ())),
            user=raw.get("user", ""),
            working_dir=raw.get("working_dir", ""),
            stop_signal=raw.get("stop_signal", ""),
            memory_bytes=int(limits.get("memory_mib", 256)) * MIB,
            memory_needed=int(limits.get("memory_needed_mib", 6)) * MIB,
            cpu_millis=int(limits.get("cpu_millis", 1000)),
            pids=int(limits.get("pids", 256)),
            ports=tuple(RecipePort(**row) for row in raw.get("ports", ())),
            environment=tuple(RecipeVariable(**row) for row in raw.get("environment", ())),
            terminal=bool(raw.get("terminal", False)),
            digest=hashlib.sha256(content).hexdigest(),
        )
    except KeyError as error:
        raise InvalidSpec(f"The recipe {slug} lacks the key {error}.", hint="Add it.", field=str(error)) from None
    except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
        raise InvalidSpec(f"The recipe {slug} cannot be read: {error}.", hint="Correct the file.", field=slug) from None


@functools.cache
def recipes() -> tuple[Recipe, ...]:
    """All of them, by title."""
    found = [_one(path.stem) for path in FOLDER.glob("*.toml")]
    return tuple(sorted(found, key=lambda recipe: recipe.title.lower()))


def find(slug: str) -> Recipe:
    """Raises NotFound."""
    found = recipe(slug)
    if found is None:
        raise NotFound("There is no such application in the catalog.", hint="Choose another.", field="image")
    return found


def recipe(slug: str) -> Recipe | None:
    """That one alone is read."""
    return _one(slug) if known(slug) else None


@functools.cache
def _one(slug: str) -> Recipe:
    return parse(slug, (FOLDER / f"{slug}.toml").read_bytes())
