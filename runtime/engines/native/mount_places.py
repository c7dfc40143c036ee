"""Where a container's volumes and file systems in memory come to lie: links of its image, and of volumes below which others lie, lead there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from runtime.api import ContainerSpec
from runtime.errors import InvalidSpec
from runtime.kernel.beneath import FOLDER
from runtime.validation_storage import THE_KERNELS, path_parts

MOST_LINKS = 40
"""As the kernel's own MAXSYMLINKS."""
Parts = tuple[str, ...]
FILES: frozenset[Parts] = frozenset({("etc", "hosts"), ("etc", "hostname"), ("etc", "resolv.conf")})
"""The runtime's own, which it mounts."""


def check(root: Path, spec: ContainerSpec, volumes: Path) -> None:
    """``root`` is the container's, ``volumes`` has its volumes mounted by their numbers.  Raises InvalidSpec.

    The runtime follows links within the root when it mounts.  One that leads into /dev would put an image's files where the
    runtime then takes its devices and masks from; one into /proc or /sys would uncover what those hide.  A file is no place for any.
    """
    with ExitStack() as held:
        folders: dict[Parts, int] = {(): _open(root, held)}
        empty: list[Parts] = []
        for path, field, volume in sorted(_asked(spec, volumes), key=lambda one: path_parts(one[0])):
            place = _place(folders, path_parts(path), field)
            if place[:1] and place[0] in THE_KERNELS and path_parts(path) != place:
                raise InvalidSpec(
                    "The path leads into /proc, /sys or /dev by a link of the image or of a volume.",
                    hint="Choose another path.",
                    field=field,
                )
            if place in FILES or (not _below(place, empty) and _passes_a_file(folders, place)):
                raise InvalidSpec(
                    f"{path!r} is not a folder that something can be mounted at.",
                    hint="Choose another path.",
                    field=field,
                )
            if volume:
                folders[place] = _open(volume, held)
            else:
                empty.append(place)


def _asked(spec: ContainerSpec, volumes: Path) -> Iterator[tuple[str, str, Path | None]]:
    """Path, field, and the folder that is shown there."""
    for number, volume in enumerate(spec.volumes):
        yield volume.path, f"volumes[{number}].path", volumes / str(number)
    for number, tmpfs in enumerate(spec.tmpfs):
        yield tmpfs.path, f"tmpfs[{number}].path", None


def _open(folder: Path, held: ExitStack) -> int:
    descriptor = os.open(folder, FOLDER | os.O_CLOEXEC)
    held.callback(os.close, descriptor)
    return descriptor


def _place(folders: dict[Parts, int], parts: Parts, field: str) -> Parts:
    """Without links.  What is not there is itself."""
    done: list[str] = []
    ahead, links = list(reversed(parts)), 0
    while ahead:
        part = ahead.pop()
        if part == "..":
            done = done[:-1]
            continue
        target = _link(folders, done, part)
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > MOST_LINKS:
            raise InvalidSpec("The path leads through links without end.", hint="Choose another path.", field=field)
        if target.startswith("/"):
            done = []
        ahead += [word for word in reversed(target.split("/")) if word not in {"", "."}]
    return tuple(done)


def _link(folders: dict[Parts, int], done: Sequence[str], part: str) -> str | None:
    """Where ``part`` leads if it is a link, looked up in the folder that is shown at the longest part of ``done``."""
    folder, path = _shown(folders, [*done, part], len(done))
    try:
        return os.readlink(path, dir_fd=folder)
    except OSError:
        return None


def _shown(folders: dict[Parts, int], parts: Sequence[str], most: int) -> tuple[int, str]:
    """The folder that is shown at the longest beginning of ``parts``, at most so long, and the rest of the path."""
    length = next(length for length in range(most, -1, -1) if tuple(parts[:length]) in folders)
    return folders[tuple(parts[:length])], "/".join(parts[length:])


def _below(place: Parts, others: Sequence[Parts]) -> bool:
    return any(place[: len(other)] == other for other in others)


def _passes_a_file(folders: dict[Parts, int], place: Parts) -> bool:
    """Or is one.  A place has no links any more."""
    for length in range(1, len(place) + 1):
        folder, path = _shown(folders, place[:length], length)
        try:
            kind = os.stat(path or ".", dir_fd=folder, follow_symlinks=False).st_mode
        except FileNotFoundError:
            return False
        if not stat.S_ISDIR(kind):
            return True
    return False
