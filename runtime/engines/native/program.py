"""The program that a container's init is to run, looked for before the start: an init would tell only its log that it is not there."""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
import struct
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from runtime.engines.native.mount_places import Parts, covered
from runtime.engines.native.options import INIT_PATH
from runtime.errors import HostUnfit, InvalidSpec
from runtime.kernel.beneath import open_in_root

PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
HEAD = 4096
"""Bytes of a program in which its kind is told; interpreters that ELF names further on are not looked at."""
PT_INTERP = 3


@cache
def init() -> Path:
    """A static one: it needs nothing of the image.  Raises HostUnfit."""
    found = shutil.which("tini-static", path=PROGRAMS)
    if found is None:
        raise HostUnfit("tini is missing.", hint="Install the package tini.")
    return Path(found)


def check(root: Path, process: Mapping[str, Any], uid_base: int, places: Sequence[Parts] = ()) -> None:
    """``process`` is an OCI process whose first arguments are the init's.  ``places``: where something is mounted over the image;
    what lies there nobody judges before the start.

    Raises InvalidSpec with the words that the runtime itself would have.
    """
    arguments: list[str] = process["args"][2:] if process["args"][0] == INIT_PATH else process["args"]
    name, user = arguments[0], process["user"]
    ids = (uid_base + user["uid"], {uid_base + group for group in (user["gid"], *user["additionalGids"])})
    folder = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        denied, certain = False, True
        for path in _candidates(name, process):
            if covered(folder, places, path):
                certain = False
                continue
            found = _open(folder, path)
            if found is None:
                continue
            try:
                if _may_run(os.fstat(found), *ids, uid_base):
                    _check_kind(folder, os.pread(found, HEAD, 0), places)
                    return
            finally:
                os.close(found)
            denied = True
    finally:
        os.close(folder)
    if denied and certain:
        raise InvalidSpec(
            "The command cannot be executed: permission denied.",
            hint="Choose another command or user.",
            field="command",
        )
    if certain:
        raise InvalidSpec(
            f"The image has no command {name!r}.",
            hint="Check the command, or leave it empty to run the image's own.",
            field="command",
        )


def _candidates(name: str, process: Mapping[str, Any]) -> Iterator[str]:
    if "/" in name:
        yield posixpath.join(process["cwd"], name)
        return
    rows = dict(row.split("=", 1) for row in process["env"])
    for folder in rows.get("PATH", "").split(":"):
        yield posixpath.join(process["cwd"], folder, name)


def _open(root: int, path: str) -> int | None:
    """To read; a pipe or device that lies there is never opened for that."""
    try:
        place = open_in_root(root, path, os.O_PATH)
    except OSError:
        return None
    try:
        regular = stat.S_ISREG(os.fstat(place).st_mode)
        return os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC) if regular else None
    finally:
        os.close(place)


def _may_run(file: os.stat_result, uid: int, gids: set[int], root: int) -> bool:
    """As execve(2) would judge."""
    if uid == root:
        return bool(file.st_mode & 0o111)
    if file.st_uid == uid:
        return bool(file.st_mode & 0o100)
    return bool(file.st_mode & (0o010 if file.st_gid in gids else 0o001))


def _check_kind(root: int, head: bytes, places: Sequence[Parts]) -> None:
    if head.startswith(b"\x7fELF") and _machine(head) == _own_machine():
        interpreter = _elf_interpreter(head)
    elif head.startswith(b"#!"):
        words = head[2:].split(b"\n", 1)[0].split()
        interpreter = os.fsdecode(words[0]) if words else None
    else:
        raise InvalidSpec(
            "The command is not a program of this node's architecture, or a script without '#!'.",
            hint="Check the command.",
            field="command",
        )
    if interpreter is not None and not covered(root, places, interpreter):
        found = _open(root, interpreter)
        if found is None:
            raise InvalidSpec(
                "The image does not have the command, or the interpreter or library that the command needs.",
                hint="Check the command.",
                field="command",
            )
        os.close(found)


def _machine(head: bytes) -> bytes:
    """Class, byte order and e_machine (elf(5))."""
    return head[4:6] + head[18:20]


@cache
def _own_machine() -> bytes:
    with open("/proc/self/exe", "rb") as own:
        return _machine(own.read(20))


def _elf_interpreter(head: bytes) -> str | None:
    """Of a program of this node's kind, as PT_INTERP names it; None for a static one, and where it is not told in the head."""
    try:
        (table,) = struct.unpack_from("=Q", head, 32)
        size, number = struct.unpack_from("=HH", head, 54)
        for row in range(number):
            (kind,) = struct.unpack_from("=I", head, table + row * size)
            if kind == PT_INTERP:
                at, _, _, length = struct.unpack_from("=QQQQ", head, table + row * size + 8)
                return os.fsdecode(head[at : at + length].rstrip(b"\0")) or None
    except struct.error:
        return None
    return None
