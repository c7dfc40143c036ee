"""Questions in SQL to the tenant's usage: the page, an answer as table and chart, and as a download."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST

from console.accounts.services import audit
from console.core.requests import person, tenant_of, wants_a_page
from console.live.client import AgentRefused, AgentUnavailable
from console.live.dataset import Answer, QueryFailed, Row, asked
from console.metering.dataset.charting import chart
from console.metering.dataset.tables import TABLES
from console.metering.exports.usage import FORMULA
from console.metering.views.scope import Scope

SHOWN, MOST = 1000, 1_000_000
SHOWN_BYTES = 8 << 20
PROBLEMS = (QueryFailed, AgentUnavailable, AgentRefused)


@dataclass(frozen=True, slots=True)
class Example:
    title: str
    query: str


def examples() -> list[Example]:
    return [
        Example(_("Cost by day and container"), (
            "SELECT date_trunc('day', hour) AS day, name, sum(cost) AS cost\nFROM costs\nGROUP BY ALL\nORDER BY day, name"
        )),
        Example(_("What runs idle"), (
            "SELECT u.name, sum(u.amount) FILTER (meter = 'cpu') AS used,\n"
            "       sum(u.amount) FILTER (meter = 'cpu_limit') AS reserved\nFROM usage u\nGROUP BY ALL\n"
            "HAVING used < reserved / 10\nORDER BY reserved - used DESC"
        )),
        Example(_("The busiest hours on the network"), (
            "SELECT hour, sum(amount) AS gb\nFROM usage\nWHERE meter IN ('net_rx', 'net_tx')\nGROUP BY hour\n"
            "ORDER BY gb DESC\nLIMIT 24"
        )),
        Example(_("Memory held by image"), (
            "SELECT image, sum(amount) / 3600 AS gib_hours\nFROM usage\nWHERE meter = 'memory_limit'\nGROUP BY image\n"
            "ORDER BY gib_hours DESC"
        )),
    ]  # fmt: skip


@require_http_methods(["GET", "POST"])
def page(request: HttpRequest) -> HttpResponse:
    """Asks on POST alone: ``?query=`` fills the field, so that a link asks nothing by itself."""
    if request.method == "GET":
        return _page(request)
    query, tenant = request.POST.get("query", ""), tenant_of(request)
    try:
        with asked(user=person(request).user, tenant=tenant, query=query, most=SHOWN, most_bytes=SHOWN_BYTES) as answer:
            rows = list(answer.rows)
            found: dict[str, Any] = {
                "columns": answer.columns,
                "rows": rows,
                "more": answer.more,
                "chart": chart(answer.columns, rows),
            }
    except PROBLEMS as problem:
        return _page(request, status=422, problem=str(problem))
    return _page(request, **found)


def _page(request: HttpRequest, *, status: int = 200, **more: Any) -> HttpResponse:
    found = examples()
    query = (request.POST if request.method == "POST" else request.GET).get("query", found[0].query)
    plain = {
        "scope": Scope(tenant_of(request), everybody=False), "query": query, "examples": found, "tables": TABLES, "most": SHOWN,
    }  # fmt: skip
    return render(request, "metering/sql.html", plain | more, status=status)


@require_POST
def download(request: HttpRequest, kind: str) -> HttpResponse | StreamingHttpResponse:
    """All rows, to a million, as they arrive.  A failure before the first is a 422 with the sentence, for a browser on the page with the
    question as it was typed; a later one breaks it off.
    """
    with contextlib.ExitStack() as held:
        try:
            answer = held.enter_context(
                asked(
                    user=person(request).user,
                    tenant=tenant_of(request),
                    query=request.POST.get("query", ""),
                    most=MOST,
                )
            )
            first = list(islice(answer.rows, 1))
        except PROBLEMS as problem:
            if wants_a_page(request):
                return _page(request, status=422, problem=str(problem))
            return HttpResponse(str(problem), status=422, content_type="text/plain; charset=utf-8")
        audit(
            "usage.sql",
            actor=person(request).user,
            tenant=tenant_of(request),
            target=kind,
            query=request.POST["query"][:500],
        )
        writes: Callable[[Answer, Iterator[Row]], Iterator[str]] = as_csv if kind == "csv" else as_json
        pieces = _until_read(writes(answer, chain(first, answer.rows)), held.pop_all())
    content_type = "text/csv; charset=utf-8" if kind == "csv" else "application/json"
    response = StreamingHttpResponse(pieces, content_type=content_type)
    response["Content-Disposition"] = f'attachment; filename="answer.{kind}"'
    return response


def _until_read(pieces: Iterator[str], held: contextlib.ExitStack) -> Iterator[str]:
    with held:
        yield from pieces


def as_csv(answer: Answer, rows: Iterator[Row]) -> Iterator[str]:
    """RFC 4180; a text that a spreadsheet would take for a formula is quoted by an apostrophe."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\r\n")
    writer.writerow([name for name, _kind in answer.columns])
    for row in rows:
        writer.writerow([_cell(value, kind) for value, (_name, kind) in zip(row, answer.columns, strict=True)])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _cell(value: Any, kind: str) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and kind == "VARCHAR" and value.startswith(FORMULA) else value


def as_json(answer: Answer, rows: Iterator[Row]) -> Iterator[str]:
    """An array of objects."""
    names = apart([name for name, _kind in answer.columns])
    yield "["
    for number, row in enumerate(rows):
        yield (",\n" if number else "\n") + json.dumps(dict(zip(names, row, strict=True)))
    yield "\n]\n"


def apart(names: Sequence[str]) -> list[str]:
    """A name that comes again gets a number that no other has: an object has each once."""
    taken, found = set(names), list[str]()
    for name in names:
        free, number = name, 1
        while free in (found if number == 1 else taken):
            number += 1
            free = f"{name}_{number - 1}"
        taken.add(free)
        found.append(free)
    return found
