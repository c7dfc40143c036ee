"""Figures of use and of cost lead to the records behind them, wherever they stand, and what is said beside them is so."""

from __future__ import annotations

import datetime as dt
import html
import re

import pytest
from django.test import Client
from django.utils import timezone

from console.accounts.models import Tenant, User
from console.core.templatetags.metering import money
from console.metering import services
from console.metering.models import Period
from console.metering.months import month_of
from console.metering.selectors.conservation import by_tenant, conservation
from console.metering.services import allocations, holdings, totals
from console.metering.services.rating import rate_period
from console.metering.spans import DAY, day_of
from console.metering.splitting import HOUR
from console.workloads.models import Container, Volume
from tests.console.test_metering import START, begun
from tests.console.test_metering_bills import CPU, MEMORY, MONTH, NEXT, PriceDraft, period, published
from tests.console.test_metering_conservation import total
from tests.console.test_metering_explorer import lived, made
from tests.console.test_metering_ingest import observed

pytestmark = pytest.mark.django_db
TO = f"{NEXT:%Y-%m-%d}"


def opened(user: User, path: str) -> str:
    client = Client()
    client.force_login(user)
    answer = client.get(path)
    assert answer.status_code == 200
    return " ".join(html.unescape(answer.content.decode()).split())


def linked(page: str) -> dict[str, str]:
    """What is a link to records or to an invoice, and where it leads."""
    found = re.findall(r'<a [^>]*href="(/(?:usage|admin)/(?:records|invoices)/[^"]*)"[^>]*>([^<]*)</a>', page)
    return {text.strip(): link for link, text in found}


def test_what_was_used_in_the_time_before_leads_there(tenant: Tenant, member: User) -> None:
    one = made(tenant, "web")
    lived(one, 2 * 10**12)
    page = opened(member, f"/usage/?range=day&what=cpu&to={START + 2 * HOUR * 12 + HOUR:%Y-%m-%dT%H:00}")
    (row,) = re.findall(r"<tbody> <tr>.*?</tr> </tbody>", page)
    before = re.findall(r'<a href="([^"]+)"', row)[-1]
    assert before.startswith("/usage/records/?")
    assert f"container={one.pk}" in before
    assert "to=2026-11-23T21%3A00" in before


def test_the_cost_of_what_has_no_image_leads_to_volumes_alone(tenant: Tenant, member: User) -> None:
    lived(made(tenant, "web"), 2 * 10**12)
    volume = Volume.objects.create(tenant=tenant, node="n", name="data", size_bytes=1 << 30)
    holdings.hold_volume(volume, START)
    allocations.charge(START + 3 * HOUR)
    published(CPU, PriceDraft("VOL", "volume_size", "GiB-Seconds", (("0", "0.00002"),)))
    rate_period(period().pk)
    page = opened(member, f"/usage/?range=month&what=cost&by=image&to={TO}")
    rows = re.findall(r'<span class="break">([^<]*)</span>.*?<a href="([^"]+)"', page)
    assert {name for name, _link in rows} == {"none", "x"}
    held = opened(member, dict(rows)["none"])
    assert "data" in held
    assert ">web<" not in held
    assert ">web<" in opened(member, dict(rows)["x"])


def test_figures_of_a_month_lead_to_its_records(tenant: Tenant, member: User, admin: User) -> None:
    published(CPU, MEMORY)
    lived(made(tenant, "web"), 2 * 10**12)
    run = rate_period(period().pk)
    shown = f"{run.total.normalize():f} {run.currency}"
    span = f"from={MONTH:%Y-%m-%d}&to={TO}"
    invoice = opened(member, f"/usage/invoices/{MONTH:%Y-%m}/")
    assert re.search(rf'href="/usage/records/\?{span}">\s*{re.escape(shown)}', invoice)


def test_the_charges_of_a_list_lead_to_the_invoice_which_leads_on(tenant: Tenant, member: User, admin: User) -> None:
    """What was credited or corrected is on the invoice, and not among the records of its month."""
    published(CPU, MEMORY)
    lived(made(tenant, "web"), 2 * 10**12)
    run = rate_period(period().pk)
    charges = money(run.total, run.currency)
    listed = linked(opened(member, "/usage/invoices/"))
    assert listed[charges] == listed[f"{MONTH:%Y-%m}"] == f"/usage/invoices/{MONTH:%Y-%m}/"
    everybodys = linked(opened(admin, f"/admin/invoices/?month={MONTH:%Y-%m}"))
    assert everybodys[charges] == everybodys["Acme"] == f"/admin/invoices/{MONTH:%Y-%m}/?tenant={tenant.pk}"
    assert opened(admin, everybodys[charges]).count(f"/admin/records/?tenant={tenant.pk}&") > 1


def test_the_cost_so_far_leads_to_the_records_of_its_month_and_of_no_other_time(tenant: Tenant, owner: User) -> None:
    """It led to the last 31 days, which cost something else."""
    published(CPU, MEMORY)
    start = month_of(timezone.now())[0]
    for path in ("/usage/so-far/", "/usage/budget/"):
        (link,) = {link for text, link in linked(opened(owner, path)).items() if text.endswith("EUR")}
        assert link == f"/usage/records/?from={start:%Y-%m-%d}"
    assert not Period.objects.filter(tenant=tenant, starts_at=start).exists(), "the records are there without a bill"


def test_idle_containers_lead_to_what_they_used(tenant: Tenant, member: User) -> None:
    published(CPU, PriceDraft("RES", "cpu_limit", "Core-Seconds", (("0", "0.001"),)), MEMORY)
    one = made(tenant, "idle", state=Container.State.RUNNING)
    services.take([observed(one, at, cpu_ns=at * 10**6) for at in (20, 9000)])
    rate_period(period().pk)
    page = opened(member, f"/usage/?range=month&to={TO}")
    assert "Reserved and hardly used" in page
    (section,) = re.findall(r'<section [^>]*aria-labelledby="idle".*?</section>', page)
    links = re.findall(r'href="(/usage/records/[^"]+)"', section)
    assert len(links) == 3
    assert [re.findall("meter=([a-z_]+)", link) for link in links] == [["cpu"], ["memory_used"], []]
    assert all(f"container={one.pk}" in link for link in links)


def test_an_hour_that_was_watched_in_part_does_not_add_up_in_green(container: Container, admin: User) -> None:
    begun(container)
    late = 3 * 86400.0 + 60
    totals.take([total(container.tenant, at, ns) for at, ns in ((late, 10**12), (late + 60, 10**12 + 5))], "n")
    day = day_of(START + dt.timedelta(seconds=late))
    (found,) = by_tenant(conservation(None, day, day + DAY))
    assert found.partial == 1
    page = opened(admin, f"/admin/metering-error/?day={day:%Y-%m-%d}")
    assert "All add up" not in page
    assert "1 hour watched in part" in page
    span = f"from={day:%Y-%m-%d}&to={day + DAY:%Y-%m-%d}"
    assert f"/admin/records/?tenant={container.tenant_id}&meter=cpu&{span}" in page
