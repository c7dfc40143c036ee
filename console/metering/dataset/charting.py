"""The picture of an answer, when it has one: a column of names or times, and columns of numbers.  Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from django.utils.translation import gettext as _

NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT", "FLOAT", "DOUBLE", "DECIMAL")  # fmt: skip
MOST_BARS, MOST_SERIES = 366, 8
Column = tuple[str, str]


def chart(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> dict[str, Any] | None:
    """``{"labels", "unit", "series": [{"label", "values"}]}`` as the stacked bars want it; None where nothing can be drawn.

    Label, text, number: a series for each text, of many for the largest, and one of everything else.  Label and numbers: a series
    for each column.
    """
    if len(columns) < 2 or not rows or _is_number(columns[0]):
        return None
    if len(columns) >= 3 and columns[1][1] == "VARCHAR" and _is_number(columns[2]):
        return _pivoted(columns[2][0], rows)
    numeric = [at for at, column in enumerate(columns) if _is_number(column)][:MOST_SERIES]
    if not numeric or len(rows) > MOST_BARS:
        return None
    series = [{"label": columns[at][0], "values": [_number(row[at]) for row in rows]} for at in numeric]
    return {"labels": [_label(row[0]) for row in rows], "unit": "", "series": series}


def _pivoted(unit: str, rows: Sequence[Sequence[Any]]) -> dict[str, Any] | None:
    labels = {_label(row[0]): None for row in rows}
    sums: dict[str, dict[str, float]] = {}
    for label, name, value, *_others in rows:
        of_one = sums.setdefault(str(name), {})
        of_one[_label(label)] = of_one.get(_label(label), 0) + _number(value)
    if len(labels) > MOST_BARS:
        return None
    drawn = dict(sums)
    if len(sums) > MOST_SERIES:
        largest = sorted(sums, key=lambda name: -sum(sums[name].values()))
        drawn = {name: sums[name] for name in largest[:MOST_SERIES]}
        rest = [sums[name] for name in largest[MOST_SERIES:]]
        drawn[_("everything else")] = {label: sum(one.get(label, 0) for one in rest) for label in labels}
    series = [{"label": name, "values": [of_one.get(label, 0) for label in labels]} for name, of_one in drawn.items()]
    return {"labels": list(labels), "unit": unit, "series": series}


def _is_number(column: Column) -> bool:
    return column[1].partition("(")[0] in NUMBERS


def _number(value: Any) -> float:
    """What is no number, or has no end, has no bar."""
    found = float(value) if isinstance(value, int | float | str) else 0.0
    return found if math.isfinite(found) else 0.0


def _label(value: Any) -> str:
    """A midnight is its day."""
    return "–" if value is None else str(value).removesuffix("T00:00:00Z")
