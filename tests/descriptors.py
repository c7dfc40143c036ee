"""A process that has opened more files than select(2) knows of."""

from __future__ import annotations

import contextlib
import os
import resource
from collections.abc import Iterator

SELECT_KNOWS = 1024
MORE = 100


@contextlib.contextmanager
def all_that_select_knows_taken() -> Iterator[list[int]]:
    """Whatever is opened within has a higher number.  Yields what was opened for that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4 * SELECT_KNOWS)), hard))
    opened: list[int] = []
    try:
        while not opened or opened[-1] < SELECT_KNOWS + MORE:
            opened.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        yield opened
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
