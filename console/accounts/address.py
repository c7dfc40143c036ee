"""From which address the deed at hand is done, for the audit log."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_address: ContextVar[str | None] = ContextVar("address", default=None)


def current() -> str | None:
    """None: nobody's request, such as a command or the sweep."""
    return _address.get()


@contextmanager
def acting_from(address: str) -> Iterator[None]:
    """What is no IP address, such as the name of a unix socket, counts as none."""
    try:
        known: str | None = str(ipaddress.ip_address(address))
    except ValueError:
        known = None
    token = _address.set(known)
    try:
        yield
    finally:
        _address.reset(token)
