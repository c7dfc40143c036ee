"""Usage that comes when the months behind it are closed."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from console.accounts.models import Tenant
from console.metering.exports import bundle
from console.metering.models import Period, UsageRecord
from console.metering.rating import Line, Used
from console.metering.services import corrections, periods
from console.metering.services.rating import rate_period
from console.metering.units import total
from console.workloads.models import Container
from tests.console.test_metering_bills import CPU, LATER, MEMORY, MONTH, NEXT, OUT, cost, period, published, use
from tests.console.test_metering_exports import differences

pytestmark = pytest.mark.django_db
FEBRUARY = dt.datetime(2027, 2, 1, tzinfo=dt.UTC)


@pytest.fixture
def container(tenant: Tenant) -> Container:
    return Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500
    )


def written(starts_at: dt.datetime, folder: Path) -> Path:
    bundle.write(period(starts_at), folder / f"{starts_at:%Y-%m}")
    return folder / f"{starts_at:%Y-%m}"


def test_a_month_that_is_corrected_twice_nets_to_the_recomputed_total(container: Container, tmp_path: Path) -> None:
    """Over the edges of tiers, by the bill's own sums and by verify-bill's."""
    published(CPU, MEMORY, OUT)
    made = []
    for epoch, (month, end) in enumerate(((MONTH, NEXT), (NEXT, LATER), (LATER, FEBRUARY)), 1):
        use(container, epoch=epoch, cpu=10**12 * (4 - epoch), sent=10**9)
        made.append(periods.close(period(month).pk, end))
    folders = [written(month, tmp_path) for month in (MONTH, NEXT, LATER)]
    assert all(invoice.charges for invoice in made)
    for number, folder in enumerate(folders):
        assert differences(folder, *folders[:number]) == []
    for one in Period.objects.all():
        assert one.run is not None
        assert one.run.total == cost(one.run)
        assert sum(day.nanos for day in one.run.days.all()) == round(one.run.total * 10**9)
    UsageRecord.objects.update(billed_in=period())
    Period.objects.filter(pk=period().pk).update(state=Period.State.OPEN)
    assert total(*(invoice.charges for invoice in made)) == rate_period(period().pk).total


def test_an_hour_is_held_at_a_time_however_long_the_month(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    published(CPU, MEMORY, OUT)
    use(container)
    periods.close(period().pk, NEXT)
    use(container, epoch=2)
    held: list[set[dt.datetime]] = []
    plain: Callable[..., Iterator[Line]] = corrections.rate

    def watched(used: Iterable[Used], *of: object) -> Iterator[Line]:
        some = list(used)
        held.append({one.window for one in some})
        return plain(some, *of)

    monkeypatch.setattr(corrections, "rate", watched)
    run = rate_period(period(NEXT).pk)
    assert [len(hours) for hours in held] == [1] * len(held)
    assert len(held) == len({line.window for line in run.lines.all()}) > 1
