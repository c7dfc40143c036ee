"""A container's places on networks, asked for and given."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_NETWORK = "default"

MOST_NETWORKS = 8
"""Of one container."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """A container's place on one network of its tenant.

    ``address`` and ``address6`` are fixed where they are given: the container's own from then on, whether it runs or not, until it leaves the
    network or is removed.  Others are given anew with each start, the lowest that is nobody's.  ``aliases`` are names beside the container's own; several
    containers may share one, and are all told to whoever asks for it.
    """

    network: str
    address: str | None = None
    address6: str | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Connection:
    """What an attachment has become while the container runs."""

    network: str
    address: str
    address6: str = ""
    """Empty where the network has no IPv6."""
    interface: str = ""
    """In the container: ``eth0``, ``eth1``, ..., in the order of its attachments; one that comes later has the first that is free."""
