"""Who ``USER`` of an image is: names are looked up in the image's own files, read without leaving its root."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import InvalidSpec

MAX_FILE = 1 << 20
LONGEST_ID = 20
"""Digits."""


@dataclass(frozen=True, slots=True)
class Identity:
    uid: int
    gid: int
    groups: tuple[int, ...] = ()
    home: str = "/"


def _rows(root: Path, name: str) -> list[list[str]]:
    """Of /etc/<name>, if it is a regular file there; a symbolic link anywhere on the way is not followed."""
    try:
        etc = os.open(root / "etc", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return []
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=etc)
    except OSError:
        return []
    finally:
        os.close(etc)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return []
    with os.fdopen(descriptor, "rb") as handle:
        text = handle.read(MAX_FILE).decode(errors="replace")
    return [line.split(":") for line in text.splitlines() if line and not line.startswith("#")]


def _number(text: str) -> bool:
    """Digits of other scripts are no number to the kernel, nor are more of them than any id has."""
    return len(text) <= LONGEST_ID and text.isascii() and text.isdigit()


def names(root: Path) -> dict[int, str]:
    """The image's own name of each user's number."""
    rows = [row for row in _rows(root, "passwd") if len(row) >= 3 and _number(row[2])]
    return {int(row[2]): row[0] for row in reversed(rows)}  # the first of several counts


def resolve(root: Path, user: str) -> Identity:
    """``user`` is ``name|uid[:group|gid]``, or empty for root.  Raises InvalidSpec."""
    who, _, group = (user or "0").partition(":")
    accounts = [row for row in _rows(root, "passwd") if len(row) >= 6 and _number(row[2]) and _number(row[3])]
    account = next((row for row in accounts if who in {row[0], row[2]}), None)
    if account is None and not _number(who):
        raise InvalidSpec(
            f"The image has no user {who!r}.", hint="Give a user of the image, or a number.", field="user"
        )
    uid = int(account[2]) if account else int(who)
    gid = int(account[3]) if account else 0
    groups = [row for row in _rows(root, "group") if len(row) >= 4 and _number(row[2])]
    extra: tuple[int, ...] = ()
    if group:
        found = next((row for row in groups if group in {row[0], row[2]}), None)
        if found is None and not _number(group):
            raise InvalidSpec(f"The image has no group {group!r}.", hint="Give a group of the image.", field="user")
        gid = int(found[2]) if found else int(group)
    elif account:
        extra = tuple(sorted(int(row[2]) for row in groups if account[0] in row[3].split(",")))
    if max(uid, gid, *extra, 0) >= 65536:
        raise InvalidSpec("User and group ids go up to 65535.", hint="Use a smaller id.", field="user")
    return Identity(uid, gid, extra, account[5] if account else "/")
