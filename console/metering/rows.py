"""Many rows into a table by one statement (COPY on PostgreSQL): a fifth of the time of ``bulk_create``, which makes objects."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from django.db import connection, models
from django.db.models.fields.json import JSONField

AT_ONCE = 10_000
ROOM_KIB = 65_536
"""Readings and records are found by their epochs, whose ids are hashes: many rows touch most pages of those indexes."""
ROOM_PAGES = 16_384
"""Of SQLite's write-ahead log."""


@contextlib.contextmanager
def room() -> Iterator[None]:
    """For several transactions of many rows.  SQLite meanwhile keeps the pages that they share, rather than write each into the
    log and out of it again for every one; this costs memory, so no other connection has it.
    """
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        usual = [(name, _pragma(cursor, name)) for name in ("cache_size", "wal_autocheckpoint")]
        for name, value in (("cache_size", -ROOM_KIB), ("wal_autocheckpoint", ROOM_PAGES)):
            cursor.execute(f"PRAGMA {name}={value}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            for name, value in usual:
                cursor.execute(f"PRAGMA {name}={value}")


def _pragma(cursor: Any, name: str) -> int:
    cursor.execute(f"PRAGMA {name}")
    return int(cursor.fetchone()[0])


def insert(model: type[models.Model], names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """``names`` are attributes, such as ``epoch_id``; values are what the database stores, but times are datetimes."""
    put(model, names, _told(_columns(model, names), rows))


def put(model: type[models.Model], names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """As :func:`insert`, of rows whose times are told already (:func:`told`): of the most rows that are, for each counts."""
    columns = _columns(model, names)
    into = _into(model, columns)
    found = list(rows)  # whole: making them may ask the database, which a COPY would wait for
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
            for row in found:
                copy.write_row(row)
        return
    _run(f"INSERT INTO {into} VALUES ({', '.join(['%s'] * len(columns))})", found)  # noqa: S608 -- our own names


@lru_cache(4096)
def told(at: dt.datetime) -> str:
    """A time as a text that the database reads.  Of many rows the times are few."""
    return str(connection.ops.adapt_datetimefield_value(at))


def moment_of(text: str) -> dt.datetime:
    """What :func:`told` was asked for."""
    found = dt.datetime.fromisoformat(text)
    return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)  # SQLite's have none


def _into(model: type[models.Model], columns: Sequence[models.Field[Any, Any]]) -> str:
    listed = ", ".join(connection.ops.quote_name(str(column.column)) for column in columns)
    return f"{connection.ops.quote_name(_meta(model).db_table)} ({listed})"


def update(model: type[models.Model], names: Sequence[str], objects: Iterable[models.Model]) -> None:
    """These attributes of each object, by its primary key."""
    columns = _columns(model, names)
    key = _meta(model).pk
    if connection.vendor == "postgresql":
        _update_together(model, [key, *columns], objects)
        return
    listed = ", ".join(f"{connection.ops.quote_name(str(column.column))} = %s" for column in columns)
    table = connection.ops.quote_name(_meta(model).db_table)
    rows = ([*(_stored(column, one) for column in columns), one.pk] for one in objects)
    statement = f"UPDATE {table} SET {listed} WHERE {connection.ops.quote_name(str(key.column))} = %s"  # noqa: S608 -- our own names
    _run(statement, _told([*columns, key], rows))


def _update_together(
    model: type[models.Model], columns: Sequence[models.Field[Any, Any]], objects: Iterable[models.Model]
) -> None:
    """By one statement, from the new values as one JSON text: of many texts each would be escaped alone.  The first is the key."""
    quoted = [connection.ops.quote_name(str(column.column)) for column in columns]
    kinds = ", ".join(f"{name} {_kind(column)}" for name, column in zip(quoted, columns, strict=True))
    changes = ", ".join(f"{name} = new.{name}" for name in quoted[1:])
    table = connection.ops.quote_name(_meta(model).db_table)
    statement = (
        f"UPDATE {table} AS old SET {changes} FROM json_to_recordset(%s::json) AS new({kinds}) "  # noqa: S608 -- our own names
        f"WHERE old.{quoted[0]} = new.{quoted[0]}"
    )
    found = _told(columns, ([getattr(one, column.attname) for column in columns] for one in objects))
    names = [column.column for column in columns]
    with connection.cursor() as cursor:
        for first in range(0, len(found), AT_ONCE):
            some = [dict(zip(names, row, strict=True)) for row in found[first : first + AT_ONCE]]
            cursor.execute(statement, [json.dumps(some)])


def _kind(column: models.Field[Any, Any]) -> str:
    """Texts without their length: a cast would cut one that is too long, where storing it is refused."""
    return "text" if isinstance(column, models.CharField) else str(column.db_type(connection))


def _stored(column: models.Field[Any, Any], one: models.Model) -> Any:
    value = getattr(one, column.attname)
    return column.get_db_prep_save(value, connection) if isinstance(column, JSONField) else value


def _told(columns: Sequence[models.Field[Any, Any]], rows: Iterable[Sequence[Any]]) -> list[list[Any]]:
    places = [number for number, column in enumerate(columns) if isinstance(column, models.DateTimeField)]
    found = []
    for row in rows:
        values = list(row)
        for place in places:
            at = values[place]
            values[place] = None if at is None else told(at)
        found.append(values)
    return found


def _run(statement: str, rows: Sequence[Sequence[Any]]) -> None:
    with connection.cursor() as cursor:
        for first in range(0, len(rows), AT_ONCE):
            cursor.executemany(statement, rows[first : first + AT_ONCE])


def _columns(model: type[models.Model], names: Sequence[str]) -> list[models.Field[Any, Any]]:
    known = {column.attname: column for column in _meta(model).concrete_fields}
    return [known[name] for name in names]


def _meta(model: type[models.Model]) -> Any:
    return model._meta  # noqa: SLF001 -- Django's documented API
