"""A question to a tenant's data set and its answer, as the views have them."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from console.accounts.models import Tenant, User
from console.core.sentences import told
from console.live import client
from console.metering.dataset.files import linked

log = logging.getLogger(__name__)
Row = list[Any]
LONGEST_LINE = 4 << 20
"""Bytes of a row; a list in it may be as long as the sandbox's memory."""


class QueryFailed(Exception):
    """What DuckDB says of the question, or why it was ended; for a person."""


@dataclass(slots=True)
class Answer:
    """``rows`` is read once, as it arrives; ``more`` is known after its end.  Reading it raises QueryFailed, AgentUnavailable."""

    columns: list[tuple[str, str]]
    """Name and DuckDB type of each."""
    rows: Iterator[Row]
    more: bool = False


@contextlib.contextmanager
def asked(*, user: User, tenant: Tenant, query: str, most: int, most_bytes: int | None = None) -> Iterator[Answer]:
    """The caller has authorised the user.  ``most_bytes``: of an answer that is held in memory.

    Raises QueryFailed, AgentUnavailable, AgentRefused.
    """
    with contextlib.ExitStack() as held:
        try:
            folder = held.enter_context(linked(tenant))
        except OSError:
            log.exception("the tables of %s cannot be written", tenant.pk)
            raise QueryFailed(_("The tables cannot be written: an admin finds the reason in the node's log.")) from None
        pieces = client.query(user, tenant, {"query": query, "folder": folder, "most": most})
        held.enter_context(contextlib.closing(pieces))
        lines = _lines(pieces if most_bytes is None else _at_most(pieces, most_bytes))
        held.enter_context(contextlib.closing(lines))
        first = next(lines, {"error": "The answer is empty."})
        answer = Answer([(str(name), str(kind)) for name, kind in _checked(first)["columns"]], iter(()))
        answer.rows = _rows(lines, answer)
        yield answer


def _rows(lines: Iterator[Any], answer: Answer) -> Iterator[Row]:
    for line in lines:
        if isinstance(line, list):
            yield line
        else:
            answer.more = bool(_checked(line).get("more"))


def _checked(line: Any) -> dict[str, Any]:
    if not isinstance(line, dict) or "error" in line:
        raise QueryFailed(told(str(line["error"])) if isinstance(line, dict) else "")
    return line


def _at_most(pieces: Iterator[bytes], most: int) -> Iterator[bytes]:
    read = 0
    for piece in pieces:
        read += len(piece)
        if read > most:
            raise QueryFailed(_("The answer is too large to be shown: ask for less, or download it."))
        yield piece


def _lines(pieces: Iterator[bytes]) -> Generator[Any]:
    """Each is JSON.  What an end in mid-line cut off is left out: a line that tells of it follows."""
    rest = b""
    for piece in pieces:
        *whole, rest = (rest + piece).split(b"\n")
        if len(rest) > LONGEST_LINE:
            raise QueryFailed(_("A row of the answer is too large: ask for less."))
        for line in whole:
            if line:
                with contextlib.suppress(json.JSONDecodeError):
                    yield json.loads(line)
