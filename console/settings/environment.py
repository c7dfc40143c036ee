"""Typed reading of ``SLIPWAY_…`` environment variables.

A bad value never stops the import: it is collected in :data:`PROBLEMS`, the default stands in, and the system
check ``console.E001`` refuses to start with a sentence that names the variable, the value and what is expected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

T = TypeVar("T")

PROBLEMS: list[str] = []
PASSWORD = re.compile(r"(?<=:)(?!//)[^:@/]*(?=@)")
"""In a URL, ``user:password@host``."""
LIBPQ = frozenset({
    "application_name", "channel_binding", "connect_timeout", "gssencmode", "hostaddr", "keepalives", "keepalives_count",
    "keepalives_idle", "keepalives_interval", "sslcert", "sslcrl", "sslkey", "sslmode", "sslrootcert",
    "target_session_attrs", "tcp_user_timeout",
})  # fmt: skip
"""Parameters of a PostgreSQL URL that are passed on (PostgreSQL's manual, 34.1.2)."""


def _parsed(name: str, default: T, parse: Callable[[str], T], expected: str) -> T:
    raw = os.environ.get(name, "")
    if raw == "":
        return default
    try:
        return parse(raw)
    except ValueError:
        PROBLEMS.append(f"{name}={PASSWORD.sub('…', raw)!r} is not {expected}.")
        return default


def text(name: str, default: str = "") -> str:
    return os.environ.get(name, "") or default


def integer(name: str, default: int, *, low: int, high: int) -> int:
    def parse(raw: str) -> int:
        value = int(raw)
        if not low <= value <= high:
            raise ValueError(raw)
        return value

    return _parsed(name, default, parse, f"a whole number from {low} to {high}")


def boolean(name: str, *, default: bool) -> bool:
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}

    def parse(raw: str) -> bool:
        if raw.lower() not in words:
            raise ValueError(raw)
        return words[raw.lower()]

    return _parsed(name, default, parse, "yes or no")


def choice(name: str, default: str, choices: Sequence[str]) -> str:
    def parse(raw: str) -> str:
        if raw not in choices:
            raise ValueError(raw)
        return raw

    return _parsed(name, default, parse, "one of " + ", ".join(choices))


def names(name: str, default: Sequence[str]) -> list[str]:
    """A comma-separated list."""
    return _parsed(name, list(default), lambda raw: [part.strip() for part in raw.split(",") if part.strip()], "a list")


def folders(name: str) -> list[str]:
    """A list of absolute paths, none of which is the root of the file system."""

    def parse(raw: str) -> list[str]:
        found = [os.path.normpath(part.strip()) for part in raw.split(",") if part.strip()]
        if any(not path.startswith("/") or not path.strip("/") for path in found):
            raise ValueError(raw)
        return found

    return _parsed(name, [], parse, "a list of folders such as /srv/exports, /mnt/finance")


def database(name: str, sqlite_path: str) -> dict[str, object]:
    """``postgresql://user:password@host:port/name`` (or ``…/name?host=/socket/folder``), else SQLite in WAL mode.

    Other parameters of the URL are libpq's, such as ``sslmode`` and ``sslrootcert``.
    """

    def parse(raw: str) -> dict[str, object]:
        parts = urlsplit(raw)
        if parts.scheme not in {"postgresql", "postgres"} or not parts.path.strip("/"):
            raise ValueError(raw)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        host = query.pop("host", "") or parts.hostname or ""
        if not set(query) <= LIBPQ:
            raise ValueError(raw)
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": unquote(parts.path.lstrip("/")),
            "USER": unquote(parts.username or ""),
            "PASSWORD": unquote(parts.password or ""),
            "HOST": host,
            "PORT": str(parts.port or ""),
            "CONN_MAX_AGE": 60,
            "CONN_HEALTH_CHECKS": True,
            "OPTIONS": {"connect_timeout": "5", **query},
        }

    sqlite: dict[str, object] = {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": sqlite_path,
        "CONN_MAX_AGE": 3600,
        "OPTIONS": {
            "timeout": 20,
            "transaction_mode": "IMMEDIATE",
            "init_command": (
                "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-16000; PRAGMA mmap_size=134217728;"
            ),
        },
    }
    return _parsed(name, sqlite, parse, "a URL such as postgresql://user:password@host/name")


def secret(path: str, *, fallback: str) -> str:
    """A secret kept in a file; the fallback serves commands that run before the set-up has made it."""
    try:
        with open(path, encoding="ascii") as handle:
            return handle.read().strip() or fallback
    except FileNotFoundError:
        return fallback
    except PermissionError:
        PROBLEMS.append(
            f"{path} cannot be read by this user: run through `./slipway manage`, or fix its group and mode."
        )
        return fallback
