"""Ids: a letter that tells the kind, then 80 random bits in Crockford's base 32, lower case.

They are valid as names of cgroups, files and DNS labels, and as :data:`runtime.api.ID_PATTERN`.
"""

from __future__ import annotations

import secrets

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LENGTH = 17


def new_id(kind: str) -> str:
    """``kind`` is one lower-case letter: t tenant, c container, o operation, r registry, p repository, e epoch, x export, v volume, n network."""
    return kind + "".join(secrets.choice(_ALPHABET) for _ in range(LENGTH - 1))


def tenant_id() -> str:
    return new_id("t")


def container_id() -> str:
    return new_id("c")


def operation_id() -> str:
    return new_id("o")


def registry_id() -> str:
    return new_id("r")


def repository_id() -> str:
    return new_id("p")


def export_id() -> str:
    return new_id("x")


def epoch_id() -> str:
    return new_id("e")


def volume_id() -> str:
    return new_id("v")


def network_id() -> str:
    return new_id("n")
