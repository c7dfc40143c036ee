"""What the kernel refuses, as errors of our tree: a person never reads an errno with a path of the host in it."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

from runtime import logs
from runtime.errors import EngineFault, InvalidSpec, OutOfSpace, RuntimeFault

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})

logger = logs.of(__name__)


def refuse_unconfined(group: str, pid: int) -> None:
    """Raises EngineFault: somebody has taken the cgroup away from a container that runs, or its first process out of it."""
    from runtime.kernel.cgroup import confines

    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        if not confines(group, pid):
            raise EngineFault(
                "The container's cgroup is gone: nothing limits or counts it any more.", hint="Restart the container."
            )


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Also a decorator.  OutOfSpace, InvalidSpec (a command that is too long), else EngineFault with the kernel's own words.

    A pipe that its reader has closed is the reader's business, and goes through.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        fault = _fault(error)
        if isinstance(fault, EngineFault):
            logger.exception("the kernel refused")
        raise fault from error


def node_full() -> OutOfSpace:
    return OutOfSpace("The node's disk is full.", hint="Remove images or containers and try again.")


def _fault(error: OSError) -> RuntimeFault:
    if error.errno in FULL:
        return node_full()
    if error.errno == errno.E2BIG:
        return InvalidSpec("The command is too long.", hint="Shorten it, or put it into a file.", field="command")
    words = os.strerror(error.errno) if error.errno else type(error).__name__
    return EngineFault(f"The node's kernel refused: {words}.", hint="Try again; the node's log has the details.")
