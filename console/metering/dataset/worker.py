"""The program in the sandbox: one question, read from standard input, answered on standard output.  It stands alone.

In: ``{"query": SQL, "most": rows}``.  Out, a line of JSON each: ``{"columns": [[name, type], ...]}``, then rows as arrays, then
``{"rows": n, "more": bool}``; or, anywhere, ``{"error": sentence}``.  Decimals and times are strings, so that nothing is rounded.
"""

from __future__ import annotations

import datetime as dt
import glob
import json
import math
import os
import sys
from decimal import Decimal
from typing import Any

import duckdb

DATA = "/data"
MEMORY = "512MB"
AT_ONCE = 500
CELL = 10_000
"""Characters of a text that are shown."""
KINDS = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


def main() -> int:
    request = json.loads(sys.stdin.buffer.read())
    try:
        answer(opened(), str(request["query"]), int(request["most"]))
    except duckdb.OutOfMemoryException:  # its own words advise what nobody can do here
        say({"error": "The question needs more memory or time than one may have: ask for less."})
    except (duckdb.Error, Refused) as problem:
        say({"error": str(problem)[:CELL]})
    except (OverflowError, RecursionError):  # an interval of many years, lists in lists in lists
        say({"error": "The answer has a value that cannot be shown: ask for it as a text, with CAST(… AS VARCHAR)."})
    return 0


class Refused(Exception):
    pass


ALONE: dict[str, Any] = {"threads": 1, "async_threads": 1}
"""From the start: as many as the node has processors are begun else, whose stacks count in the process's address space."""


def opened() -> duckdb.DuckDBPyConnection:
    """With a view for each table, and after that no way to any other file, to extensions or to the settings."""
    database = duckdb.connect(":memory:", config=ALONE)
    files = sorted(glob.glob(f"{DATA}/*.parquet"))
    for name in sorted({os.path.basename(path).split(".")[0] for path in files}):
        listed = ", ".join(f"'{path}'" for path in files if os.path.basename(path).startswith(f"{name}."))
        database.execute(f"CREATE VIEW {name} AS SELECT * FROM read_parquet([{listed}])")  # noqa: S608 -- our own names
    for setting in (
        "TimeZone = 'UTC'", f"memory_limit = '{MEMORY}'", "temp_directory = ''",
        "autoinstall_known_extensions = false", "autoload_known_extensions = false", "allow_community_extensions = false",
        f"allowed_directories = ['{DATA}/']", "enable_external_access = false", "lock_configuration = true",
    ):  # fmt: skip
        database.execute(f"SET {setting}")
    return database


def answer(database: duckdb.DuckDBPyConnection, query: str, most: int) -> None:
    statements = database.extract_statements(query)
    if len(statements) != 1 or statements[0].type not in KINDS:
        raise Refused("Ask with one SELECT: the data set is read, never changed.")
    result = database.execute(statements[0])
    say({"columns": [[str(column[0]), str(column[1])] for column in result.description or ()]})
    count = 0
    while rows := result.fetchmany(min(AT_ONCE, most - count + 1)):
        for row in rows:
            if count == most:
                say({"rows": count, "more": True})
                return
            say([plain(value) for value in row])
            count += 1
    say({"rows": count, "more": False})


def plain(value: Any) -> Any:
    """As JSON has it."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(one) for one in value]
    return text(value)[:CELL]


def text(value: Any) -> str:
    if isinstance(value, Decimal):
        return digits(f"{value:f}")
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="microseconds" if value.microsecond else "seconds").replace("+00:00", "Z")
    return bytes(value).hex() if isinstance(value, bytes | bytearray) else str(value)


def digits(number: str) -> str:
    """Without zeros at the end; Decimal's own way to leave them out rounds to 28 digits."""
    shorter = number.rstrip("0").rstrip(".") if "." in number else number
    return "0" if shorter == "-0" else shorter


def say(line: Any) -> None:
    sys.stdout.write(json.dumps(line, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    sys.exit(main())
