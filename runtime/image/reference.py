"""Image references, ``[registry/]name[:tag|@digest]`` (distribution/reference grammar)."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from runtime.errors import InvalidSpec

BUILT_IN = "slipway.local"
"""The pseudo-registry of images built on this node."""
DOCKER_HUB = "docker.io"
DOCKER_HUB_ALIASES = ("index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
LENGTH = 400

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*|\[[0-9a-fA-F:]+\])(?::[0-9]{1,5})?"
)


def default_registry() -> str:
    return os.environ.get("SLIPWAY_DEFAULT_REGISTRY") or DOCKER_HUB


def registry_host(text: str) -> str:
    """A registry's host name as references have it: in lower case, Docker Hub by one name.  Empty for what is none."""
    host = text.lower()
    port = host.rpartition(":")[2] if ":" in host and not host.endswith("]") else "1"
    if not _HOST.fullmatch(host) or not 1 <= int(port) <= 65535:
        return ""
    return DOCKER_HUB if host in DOCKER_HUB_ALIASES else host


@dataclass(frozen=True, slots=True)
class Reference:
    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @classmethod
    def parse(cls, text: str, *, registry: str | None = None) -> Reference:
        """``registry`` stands in where the text names none.  Raises InvalidSpec, field ``image``."""
        if not text or len(text) > LENGTH or text != text.strip():
            raise _bad(text, "it is empty, too long, or has spaces around it")
        rest, _, digest = text.partition("@")
        if "@" in text and not _DIGEST.fullmatch(digest):
            raise _bad(text, "what follows '@' is not a sha256 digest")
        first, slash, remainder = rest.partition("/")
        if slash and ("." in first or ":" in first or first == "localhost" or first.startswith("[")):
            host, path = first, remainder
        else:
            host, path = registry or default_registry(), rest
        name, colon, tag = path.rpartition(":") if ":" in path.rsplit("/", 1)[-1] else (path, "", "")
        if colon and not _TAG.fullmatch(tag):
            raise _bad(text, "what follows ':' is not a tag")
        if not _REPOSITORY.fullmatch(name):
            raise _bad(text, "a repository's name has lower-case letters, digits, '.', '_', '-' and '/' only")
        host = registry_host(host)
        if not host:
            raise _bad(text, "what comes before the first '/' is not a registry's host name")
        if host == DOCKER_HUB and "/" not in name:
            name = f"library/{name}"
        return cls(host, name, tag or ("" if digest else "latest"), digest)

    @property
    def selector(self) -> str:
        """What a registry is asked for: the digest when there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        return (
            f"{self.registry}/{self.repository}"
            + (f":{self.tag}" if self.tag else "")
            + (f"@{self.digest}" if self.digest else "")
        )


def _bad(text: str, why: str) -> InvalidSpec:
    shown = text if len(text) <= 80 else text[:80] + "…"
    return InvalidSpec(
        f"{shown!r} is not an image reference: {why}.", hint="Write it as [registry/]name[:tag].", field="image"
    )
