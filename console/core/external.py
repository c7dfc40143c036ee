"""The services that somebody else runs for us, asked before anything starts: PostgreSQL and Redis by URL."""

from __future__ import annotations

from dataclasses import dataclass

import redis
from django.conf import settings
from django.db import DatabaseError, NotSupportedError, connection

WITHIN_S = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """``what`` names the variable and what happened, never a password; ``fix`` what to do."""

    what: str
    fix: str


def problems() -> list[Problem]:
    """Of the database and of Redis; empty when both can be used."""
    return [problem for problem in (database_problem(), redis_problem()) if problem is not None]


def database_problem() -> Problem | None:
    """None also for SQLite, which is ours.  Waits no longer than the URL's ``connect_timeout``, 5 s by default."""
    if connection.vendor != "postgresql":
        return None
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT current_setting('server_encoding'), current_schema(),"
                " coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"
            )
            encoding, schema, may_create = cursor.fetchone()
    except NotSupportedError as error:
        return _of_database(str(error), "Use a newer PostgreSQL.")
    except DatabaseError as error:
        return _of_database(_reason(error), "Correct the URL, or see to it that PostgreSQL runs and lets this user in.")
    finally:
        connection.close()
    if encoding != "UTF8":
        return _of_database(f"its encoding is {encoding}", "Create the database with ENCODING 'UTF8'.")
    if not may_create:
        user, where = connection.settings_dict["USER"], schema or "public"
        return _of_database(
            f"its user may not create tables in the schema {where}",
            f"Give it the right: GRANT CREATE ON SCHEMA {where} TO {user}; or make it the database's owner.",
        )
    return None


def _of_database(why: str, fix: str) -> Problem:
    row = connection.settings_dict
    where = f"{row['HOST'] or 'the local socket'}{':' if row['PORT'] else ''}{row['PORT']}"
    return Problem(
        f"SLIPWAY_DATABASE_URL: the database {row['NAME']!r} at {where} cannot be used: {why.rstrip('.')}.", fix
    )


def _reason(error: Exception) -> str:
    """Of libpq's lines the server's own word, or else the end of the first."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    for line in lines:
        if "FATAL:" in line:
            return line.rpartition("FATAL:")[2].strip()
    return lines[0].rpartition("failed: ")[2].strip()


def redis_problem() -> Problem | None:
    """None also for the private one, which starts after this."""
    url = settings.EXTERNAL_REDIS_URL
    if not url:
        return None
    client = redis.Redis.from_url(url, socket_timeout=WITHIN_S, socket_connect_timeout=WITHIN_S)
    try:
        client.ping()
    except (redis.RedisError, OSError) as error:
        return Problem(
            f"SLIPWAY_REDIS_URL: this Redis cannot be used: {str(error).rstrip('.') or type(error).__name__}.",
            "Correct the URL, or see to it that Redis runs and lets us in.",
        )
    finally:
        client.close()
    return None
