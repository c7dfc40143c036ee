"""Commands, environments and what else a program is told in words: what every engine refuses of them before it does anything."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from runtime.errors import InvalidSpec

if TYPE_CHECKING:
    from runtime.api import ContainerSpec, ExecSpec

ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
LONGEST_WORD = 128 * 2**10 - 1
"""Bytes that the kernel takes of one argument or variable (MAX_ARG_STRLEN, with its zero byte)."""
MOST_WORDS = 2**21 - 2**14
"""Bytes of all of them: a quarter of the usual 8 MiB of stack, less what the image and the runtime add."""


def check_exec(spec: ExecSpec) -> None:
    """Raises InvalidSpec for the first thing that is wrong."""
    if not spec.command or not spec.command[0]:
        raise InvalidSpec("There is no command to run.", hint="Give one, such as /bin/sh.", field="command")
    check_texts(spec)
    check_environment(spec)


def check_texts(spec: ContainerSpec | ExecSpec) -> None:
    for value, field in _texts(spec):
        if "\0" in value:
            raise InvalidSpec("A zero byte cannot be part of it.", hint="Remove it.", field=field)
    sizes = [(len(value.encode(errors="surrogateescape")) + len(field), field) for value, field in _texts(spec)]
    if sizes and max(sizes)[0] > LONGEST_WORD:
        raise InvalidSpec(
            "It is longer than the kernel takes.", hint="Put it into a file of the image.", field=max(sizes)[1]
        )
    if sum(size for size, _ in sizes) > MOST_WORDS:
        raise InvalidSpec(
            "Command and environment together are longer than the kernel takes.",
            hint="Put a part into a file of the image.",
            field="command",
        )


def check_environment(spec: ContainerSpec | ExecSpec) -> None:
    for name in spec.env:
        if not ENVIRONMENT_NAME.fullmatch(name):
            raise InvalidSpec(
                f"{name!r} is not a name for an environment variable.",
                hint="Use letters, digits and underscores, no digit first.",
                field=f"env.{name}",
            )
    if spec.working_dir is not None and not spec.working_dir.startswith("/"):
        raise InvalidSpec("The working directory is not absolute.", hint="Begin it with '/'.", field="working_dir")


def _texts(spec: ContainerSpec | ExecSpec) -> Iterator[tuple[str, str]]:
    for field in ("entrypoint", "command"):
        yield from ((word, field) for word in getattr(spec, field, None) or ())
    yield from ((value, f"env.{name}") for name, value in spec.env.items())
    yield spec.working_dir or "", "working_dir"
    yield spec.user or "", "user"
