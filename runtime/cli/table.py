"""Rows for a person's eyes."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.cli.words import plain


def table(rows: Sequence[tuple[str, ...]]) -> None:
    """The first row is the heading."""
    rows = [tuple(map(plain, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
