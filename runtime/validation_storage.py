"""Refuse volumes, mounts, disk limits and paths that cannot be, naming the field.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from runtime.api import ID_PATTERN
from runtime.errors import InvalidSpec, LimitExceeded

if TYPE_CHECKING:
    from runtime.api import CommitSpec, VolumeMount, VolumeSpec

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LEAST_DISK = 16 * 2**20
MOST_DISK = 2 * 2**40
"""Bills count KiB times microseconds, by the hour and in 64 bits."""
LONGEST_PATH = 4095
MOST_VOLUMES = 64
THE_KERNELS = ("proc", "sys", "dev")
"""Folders at a container's root that hold no files of its own."""


def check_volume(spec: VolumeSpec) -> None:
    if not re.fullmatch(ID_PATTERN, spec.tenant):
        raise InvalidSpec(
            f"{spec.tenant!r} is not an id.",
            hint="Use 3 to 32 lower-case letters and digits, a letter first.",
            field="tenant",
        )
    _check_name(spec.name, "name")
    check_disk(spec.size_bytes, "size_bytes")


def _check_name(name: str, field: str) -> None:
    if not NAME.fullmatch(name):
        raise InvalidSpec(
            f"{name!r} is not a valid name.",
            hint="Use up to 63 lower-case letters, digits and hyphens, a letter or digit first and last.",
            field=field,
        )


def check_disk(size: int | None, field: str) -> None:
    """Raises InvalidSpec, LimitExceeded."""
    if size is not None and size < LEAST_DISK:
        raise InvalidSpec("The limit is below the least, 16 MiB of disk.", hint="Raise it.", field=field)
    if size is not None and size > MOST_DISK:
        raise LimitExceeded(
            "The limit is above the most, 2 TiB of disk.", hint="Lower the limit.", field=field, most=MOST_DISK
        )


def check_mounts(mounts: Sequence[VolumeMount], elsewhere: Iterable[str] = ()) -> None:
    """``elsewhere``: paths where something else is mounted."""
    if len(mounts) > MOST_VOLUMES:
        raise InvalidSpec(f"A container has at most {MOST_VOLUMES} volumes.", hint="Use fewer.", field="volumes")
    taken = {path_parts(path) for path in elsewhere}
    for index, one in enumerate(mounts):
        _check_name(one.volume, f"volumes[{index}].volume")
        field = f"volumes[{index}].path"
        parts = path_parts(one.path, field)
        if not parts or parts[0] in THE_KERNELS:
            raise InvalidSpec(
                "A volume cannot be at the root, nor in /proc, /sys or /dev.", hint="Choose another path.", field=field
            )
        if parts in taken:
            raise InvalidSpec(f"Something is mounted at {one.path} already.", hint="Choose another path.", field=field)
        taken.add(parts)


def path_parts(path: str, field: str = "path") -> tuple[str, ...]:
    """Of an absolute path in a container, which says nothing of where it leads.  Raises InvalidSpec."""
    if not path.startswith("/") or "\0" in path or len(path.encode(errors="surrogateescape")) > LONGEST_PATH:
        raise InvalidSpec("The path is not absolute, or too long.", hint="Begin it with '/'.", field=field)
    parts = tuple(part for part in path.split("/") if part not in {"", "."})
    if ".." in parts:
        raise InvalidSpec("The path goes up with '..'.", hint="Write it without.", field=field)
    return parts


def check_commit(spec: CommitSpec) -> None:
    for words, field in ((spec.entrypoint or (), "entrypoint"), (spec.command or (), "command")):
        _check_texts(words, field)
    for name, value in spec.env.items():
        if not name or "=" in name:
            raise InvalidSpec(
                f"{name!r} is not a name for an environment variable.",
                hint="Use letters, digits and underscores, no digit first.",
                field=f"env.{name}",
            )
        _check_texts((name, value), f"env.{name}")
    for name, value in spec.labels.items():
        _check_texts((name, value), f"labels.{name}")
    _check_texts((spec.user or "", spec.comment, spec.working_dir or ""), "comment")
    if spec.working_dir is not None and not spec.working_dir.startswith("/"):
        raise InvalidSpec("The working directory is not absolute.", hint="Begin it with '/'.", field="working_dir")


def _check_texts(texts: Sequence[str], field: str) -> None:
    if any("\0" in text for text in texts):
        raise InvalidSpec("A zero byte cannot be part of it.", hint="Remove it.", field=field)
