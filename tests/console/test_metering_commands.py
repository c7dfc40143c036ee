"""Bills from the command line: a book is published, a month is exported, a wrong word is told by its field."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from types import ModuleType

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from console.accounts.models import Tenant
from console.core.errors import Invalid
from console.metering import services
from console.metering.models import Invoice, Period, PriceBook
from console.metering.services import cycle, files, periods, prices
from console.metering.services.rating import rate_period
from console.operations import tasks
from console.workloads.models import Container
from launcher import verify_bill
from tests.console.test_metering import at, final
from tests.console.test_metering_bills import NEXT, period

BOOK = {
    "currency": "EUR",
    "valid_from": "2026-11-01T00:00:00Z",
    "prices": [{"sku": "CPU", "meter": "cpu", "unit": "Core-Seconds", "included": "1", "tiers": [["0", "0.01"]]}],
}


@pytest.mark.django_db(transaction=True)
def test_a_book_is_published_and_a_month_exported(
    container: Container, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    services.ingest_final(final(container, at(60, cpu_ns=5 * 10**9)))
    (tmp_path / "book.json").write_text(json.dumps(BOOK))
    call_command("bills", "prices", str(tmp_path / "book.json"))
    assert PriceBook.objects.get().sha256 in capsys.readouterr().out
    tasks.bill()
    assert str(period().run.total) == "0.04"  # type: ignore[union-attr]
    call_command("bills", "export", "acme", "2026-11", str(tmp_path / "out"))
    assert verify_bill.main([str(tmp_path / "out")]) == 0
    with pytest.raises(CommandError, match=r"folder: .*out already"):
        call_command("bills", "export", "acme", "2026-11", str(tmp_path / "out"))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("export", "nobody", "2026-11", "/tmp/x"), "tenant: "),
        (("export", "acme", "november", "/tmp/x"), "month: "),
        (("export", "acme", "2020-01", "/tmp/x"), "month: "),
        (("prices", "/nowhere.json"), "nowhere"),
    ],
)
def test_a_wrong_word_is_told(tenant: Tenant, words: tuple[str, ...], told: str) -> None:
    with pytest.raises(CommandError, match=told):
        call_command("bills", *words)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"currency": 5}, "currency"),
        ({"valid_from": "soon"}, "valid_from"),
        ({"prices": None}, "prices"),
        ({"prices": ["x"]}, "prices"),
        ({"prices": [{**BOOK["prices"][0], "tiers": [[0, 0.01]]}]}, "tiers"),  # type: ignore[dict-item, index]
        ({"prices": [{**BOOK["prices"][0], "included": 1}]}, "included"),  # type: ignore[dict-item, index]
        ({"prices": [{**BOOK["prices"][0], "sku": ""}]}, "sku"),  # type: ignore[dict-item, index]
    ],
)
def test_a_wrong_file_is_told_by_its_field(change: dict[str, object], field: str) -> None:
    with pytest.raises(Invalid) as caught:
        files.draft_from_json(json.dumps({**BOOK, **change}))
    assert caught.value.field == field
    for text in ("{", "[]"):
        with pytest.raises(Invalid):
            files.draft_from_json(text)


@pytest.mark.django_db
def test_the_schedule_closes_what_has_ended(container: Container) -> None:
    services.ingest_final(final(container, at(60, cpu_ns=5 * 10**9)))
    cycle.turn(NEXT)
    assert period().run is None, "without prices there is nothing to rate"
    prices.publish(files.draft_from_json(json.dumps(BOOK)).pk)
    cycle.turn(NEXT - dt.timedelta(minutes=1))
    first = period().run
    assert first is not None
    cycle.turn(timezone.now())
    assert period().run == first, "rated within the hour"
    cycle.turn(NEXT)
    cycle.turn(NEXT)
    assert Invoice.objects.get().period == period()
    assert period().state == Period.State.CLOSED


@pytest.mark.django_db
def test_the_schedule_goes_on_where_somebody_closes_a_month_meanwhile(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.ingest_final(final(container, at(60, cpu_ns=5 * 10**9)))
    prices.publish(files.draft_from_json(json.dumps(BOOK)).pk)
    checked: list[dt.datetime] = []

    def overtaken(period_id: int, as_of: dt.datetime) -> None:
        periods.close(period_id, NEXT)
        rate_period(period_id, as_of)

    monkeypatch.setattr(cycle, "carry_on", overtaken)
    monkeypatch.setattr(cycle.budgets, "check", checked.append)
    cycle.turn(NEXT - dt.timedelta(minutes=1))
    assert period().state == Period.State.CLOSED
    assert len(checked) == 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("module", "name", "as_of"),
    [(cycle, "carry_on", NEXT - dt.timedelta(minutes=1)), (periods, "rate_period", NEXT)],
    ids=["rated", "closed"],
)
def test_one_month_that_fails_keeps_no_other_waiting(
    container: Container, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, as_of: dt.datetime
) -> None:
    services.ingest_final(final(container, at(60, cpu_ns=5 * 10**9)))
    prices.publish(files.draft_from_json(json.dumps(BOOK)).pk)
    good = period()
    bad = Period.objects.create(
        tenant=Tenant.objects.create(id="a", name="First", slug="first"), starts_at=good.starts_at, ends_at=good.ends_at
    )
    rated, checked = getattr(module, name), list[dt.datetime]()

    def broken(period_id: int, *more: dt.datetime) -> None:
        if period_id == bad.pk:
            raise ArithmeticError("a sum that nobody foresaw")
        rated(period_id, *more)

    monkeypatch.setattr(module, name, broken)
    monkeypatch.setattr(cycle.budgets, "check", checked.append)
    cycle.turn(as_of)
    good.refresh_from_db()
    assert good.run is not None
    assert good.state == (Period.State.CLOSED if module is periods else Period.State.OPEN)
    assert checked == [as_of]
