"""Where a container's volumes and file systems in memory come to lie: links of its image, and of volumes below which others lie, lead there."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from runtime.api import ContainerSpec
from runtime.engines.native import etc
from runtime.errors import InvalidSpec
from runtime.kernel.beneath import FOLDER
from runtime.validation_storage import THE_KERNELS, path_parts

MOST_LINKS = 40
"""As the kernel's own MAXSYMLINKS."""
Parts = tuple[str, ...]
FILES: frozenset[Parts] = frozenset((*etc.FOLDER, name) for name in etc.FILES)
"""The runtime's own, which it mounts."""
ACCOUNTS: tuple[Parts, ...] = (("etc", "passwd"), ("etc", "group"))


def check(root: Path, spec: ContainerSpec, volumes: Path) -> tuple[Parts, ...]:
    """``root`` is the container's, ``volumes`` has its volumes mounted by their numbers.  Returns where they come to lie.  Raises InvalidSpec.

    The runtime follows links within the root when it mounts.  One that leads into /dev would put an image's files where the
    runtime then takes its devices and masks from; one into /proc or /sys would uncover what those hide.  A file is no place for any.
    What is seen at last where the runtime looks users up is no pipe.
    """
    with ExitStack() as held:
        folders: dict[Parts, int] = {(): _open(root, held)}
        empty: list[Parts] = []
        sealed: dict[Parts, str] = {}
        for path, field, volume, read_only in sorted(_asked(spec, volumes), key=lambda one: path_parts(one[0])):
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
            above = _longest(place, [*folders, *empty])
            if above in sealed and not _is_there(folders, place):
                raise InvalidSpec(
                    f"{path!r} lies in a read-only volume that has no such folder.",
                    hint="Make the folder in that volume first, or choose another path.",
                    field=field,
                )
            if volume:
                folders[place] = _open(volume, held)
            else:
                empty.append(place)
            if read_only:
                sealed[place] = field
        _check_own(folders, empty, sealed)
        _check_accounts(folders, empty)
        return (*filter(None, folders), *empty)


def covered(root: int, places: Sequence[Parts], path: str) -> bool:
    """Whether what is seen at the path is not what ``root`` has there: something is mounted at one of ``places``, as :func:`check` told them."""
    parts = tuple(part for part in path.split("/") if part not in {"", "."})
    with suppress(InvalidSpec):  # links without end: there is nothing
        return bool(places) and _below(_place({(): root}, parts, ""), places)
    return False


def _check_own(folders: dict[Parts, int], empty: Sequence[Parts], sealed: Mapping[Parts, str]) -> None:
    """The runtime's own files need a file each to be mounted at, which nobody can make in a read-only volume any more."""
    for file in sorted(FILES):
        place = _place(folders, file, "")
        field = sealed.get(_longest(place, [*folders, *empty]))
        if field and not _is_there(folders, place, kind=stat.S_ISREG):
            raise InvalidSpec(
                f"A read-only volume that is shown at /etc needs a file {file[-1]!r}.",
                hint="Make an empty one in it, or do not mount it read-only.",
                field=field,
            )


def _check_accounts(folders: dict[Parts, int], empty: Sequence[Parts]) -> None:
    """The runtime looks the container's user up in its files; it would wait for whoever writes to a pipe until its deadline."""
    for file in ACCOUNTS:
        place = _place(folders, file, "")
        if not _below(place, empty) and _is_there(folders, place, kind=stat.S_ISFIFO):
            raise InvalidSpec(
                f"{'/' + '/'.join(file)!r} is a pipe: the container's user cannot be looked up there.",
                hint="Make it a file, or take it away.",
                field="image",
            )


def _asked(spec: ContainerSpec, volumes: Path) -> Iterator[tuple[str, str, Path | None, bool]]:
    """Path, field, the folder that is shown there, and whether it is read-only."""
    for number, volume in enumerate(spec.volumes):
        yield volume.path, f"volumes[{number}].path", volumes / str(number), volume.read_only
    for number, tmpfs in enumerate(spec.tmpfs):
        yield tmpfs.path, f"tmpfs[{number}].path", None, False


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


def _longest(place: Parts, mounted: Sequence[Parts]) -> Parts:
    """Where that lies which is seen at ``place``, or above it."""
    return max((one for one in mounted if place[: len(one)] == one), key=len)


def _is_there(folders: dict[Parts, int], place: Parts, *, kind: Callable[[int], bool] = stat.S_ISDIR) -> bool:
    folder, path = _shown(folders, place, len(place))
    try:
        return kind(os.stat(path or ".", dir_fd=folder, follow_symlinks=False).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


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
