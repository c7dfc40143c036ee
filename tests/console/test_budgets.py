"""Budgets: set by owners, told once a threshold, month and amount, by webhooks that are signed, tried again, and never lead inside."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import json
import re
import socket
import threading
from collections.abc import Iterator
from decimal import Decimal

import pytest
from django.test import Client

from console.accounts.models import AuditEvent, Tenant, User
from console.core.errors import Full, Invalid, NotAllowed
from console.metering import services, webhooks
from console.metering.models import Budget, BudgetAlert, Period, WebhookDelivery
from console.metering.selectors import budgets as selectors
from console.metering.services import budgets, credits, cycle, deliveries
from console.metering.services.budgets import Wish
from console.metering.services.prices import PriceDraft
from console.operations.models import Operation
from console.workloads.models import Container
from console.workloads.services import LaunchRequest, act, launch
from tests.console.test_metering import START, final
from tests.console.test_metering import at as counters
from tests.console.test_metering_bills import MONTH, NEXT, published
from tests.console.test_metering_ingest import killed, observed
from tests.serving import QuietHandler, serving

pytestmark = pytest.mark.django_db
S = 10**9
FLAT = PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "0.01"),))
NOW = START + dt.timedelta(minutes=20)
OPEN = "https://hooks.example.org/x"


@pytest.fixture
def container(tenant: Tenant) -> Container:
    published(FLAT, valid_from=MONTH - dt.timedelta(days=900))
    return Container.objects.create(
        tenant=tenant, node="n", name="web", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500, state="running"
    )


def wish(amount: str = "100", actual: str = "50 80 100", forecast: str = "", **more: object) -> Wish:
    return Wish(amount, actual, forecast, **{"stop_launches": False, **more})  # type: ignore[arg-type]


def spend(container: Container, seconds: float, cost: int) -> None:
    """So that it is ``cost`` euros altogether."""
    services.take([observed(container, seconds, cpu_ns=cost * 100 * S)])


def told() -> list[tuple[str, int]]:
    return list(BudgetAlert.objects.order_by("basis", "percent").values_list("basis", "percent"))


def test_each_threshold_is_told_once_a_month(container: Container, owner: User, tenant: Tenant) -> None:
    budgets.save(tenant=tenant, actor=owner, wish=wish())
    spend(container, 5, 49)
    assert budgets.check(NOW) == []
    spend(container, 6, 81)
    assert len(budgets.check(NOW)) == 2
    assert budgets.check(NOW) == []
    spend(container, 7, 130)
    assert [alert.percent for alert in budgets.check(NOW)] == [100]
    assert told() == [("actual", 50), ("actual", 80), ("actual", 100)]
    for after, cost in ((-1, 130), (60, 260)):
        spend(container, (NEXT - START).total_seconds() + after, cost)
    assert len(budgets.check(NEXT + dt.timedelta(minutes=1))) == 3
    assert BudgetAlert.objects.values("month").distinct().count() == 2


def test_a_budget_that_was_raised_is_told_anew(container: Container, owner: User, tenant: Tenant) -> None:
    """Else nobody would hear of it any more until the next month."""
    budgets.save(tenant=tenant, actor=owner, wish=wish())
    spend(container, 5, 100)
    assert [alert.percent for alert in budgets.check(NOW)] == [50, 80, 100]
    assert selectors.warnings(tenant, NOW) == ["100% of this month's budget of 100 EUR is spent."]
    budgets.save(tenant=tenant, actor=owner, wish=wish("300"))
    assert budgets.check(NOW) == []
    assert selectors.warnings(tenant, NOW) == [], "that one is no more"
    spend(container, 6, 240)
    assert [(alert.budget, alert.percent) for alert in budgets.check(NOW)] == [(300, 50), (300, 80)]
    assert selectors.warnings(tenant, NOW) == ["80% of this month's budget of 300 EUR is spent."]
    budgets.save(tenant=tenant, actor=owner, wish=wish(""))
    assert selectors.warnings(tenant, NOW) == []


def test_the_forecast_is_told_before_it_is_spent(container: Container, owner: User, tenant: Tenant) -> None:
    budgets.save(tenant=tenant, actor=owner, wish=wish(actual="", forecast="100, 150, 1000"))
    spend(container, 5, 1)
    for alert in budgets.check(NOW):
        assert alert.amount * 100 >= alert.budget * alert.percent
    assert told() == [("forecast", 100), ("forecast", 150)]
    stored = Budget.objects.get()
    assert (stored.spent, stored.checked_at) == (1, NOW)
    assert 150 <= stored.expected < 1000


def test_what_a_month_came_to_after_its_last_look_is_told(container: Container, owner: User, tenant: Tenant) -> None:
    """As what was used in its last minutes, or while the database was away; a budget from after that month has no part in it."""
    budgets.save(tenant=tenant, actor=owner, wish=wish())
    spend(container, 5, 49)
    assert budgets.check(NOW) == []
    Budget.objects.create(tenant=Tenant.objects.create(name="Other", slug="other"), amount=1, actual=[50])
    for after, cost in ((-5, 85), (60, 86)):
        spend(container, (NEXT - START).total_seconds() + after, cost)
    december = NEXT + dt.timedelta(minutes=1)
    assert [(alert.month, alert.percent) for alert in budgets.check(december)] == [(MONTH, 50), (MONTH, 80)]
    assert selectors.warnings(tenant, december) == []
    budgets.save(tenant=tenant, actor=owner, wish=wish("60"))
    assert budgets.check(december) == []
    Budget.objects.all().delete()
    budgets.save(tenant=tenant, actor=owner, wish=wish("10"))
    assert budgets.check(december) == []


@pytest.mark.parametrize("contract", [False, True])
def test_a_price_that_rises_tells_nothing_of_what_was_used_before(
    container: Container, owner: User, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, contract: bool
) -> None:
    """It was told for good, by the new price of what the last rating did not know yet."""
    clock = START
    monkeypatch.setattr("django.utils.timezone.now", lambda: clock)
    rise, dear = START + dt.timedelta(seconds=3610), PriceDraft("CPU", "cpu", "Core-Seconds", (("0", "0.1"),))
    published(dear, valid_from=rise, tenant=tenant if contract else None)
    budgets.save(tenant=tenant, actor=owner, wish=wish())
    for clock, cost in ((rise - dt.timedelta(minutes=10), 10), (rise - dt.timedelta(seconds=1), 20)):
        spend(container, (clock - START).total_seconds(), cost)
        cycle.turn(clock)
    clock = rise + dt.timedelta(minutes=5)
    spend(container, (clock - START).total_seconds(), 20)
    cycle.turn(clock)
    assert (Budget.objects.get().spent, told()) == (20, [])


def test_what_is_no_longer_so_is_not_said_at_home(container: Container, owner: User, tenant: Tenant) -> None:
    """It was told, and stays among the alerts."""

    def said(now: dt.datetime) -> list[str]:
        return [sentence.partition("%")[0] for sentence in selectors.warnings(tenant, now)]

    budgets.save(tenant=tenant, actor=owner, wish=wish(forecast="100"))
    spend(container, 5, 85)
    budgets.check(NOW)
    assert said(NOW) == ["80", "This month will cost 100"]
    credits.give(Period.objects.get().pk, Decimal(30), "an outage", key="k")
    budgets.check(NOW)
    assert said(NOW) == ["50", "This month will cost 100"]
    quiet = NOW + dt.timedelta(hours=26)
    services.ingest_final(final(container, counters(6, cpu_ns=8500 * S)))
    budgets.check(quiet)
    assert said(quiet) == ["50"]
    assert selectors.alerts(tenant).count() == 3


@pytest.mark.django_db(transaction=True)
def test_a_kill_between_makes_no_second_alert_and_loses_none(container: Container, owner: User, tenant: Tenant) -> None:
    budgets.save(tenant=tenant, actor=owner, wish=wish(webhook_url=OPEN))
    spend(container, 5, 90)
    killed(lambda: budgets.check(NOW), "budget.reached")
    assert (told(), WebhookDelivery.objects.count()) == ([], 0)
    budgets.check(NOW)
    budgets.check(NOW)
    assert (told(), WebhookDelivery.objects.count()) == ([("actual", 50), ("actual", 80)], 2)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"amount": "x"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": "0.001"}, "amount"),
        ({"amount": "NaN"}, "amount"),
        ({"amount": "1e15"}, "amount"),
        ({"actual": "0"}, "actual"),
        ({"actual": "half"}, "actual"),
        ({"actual": "1001"}, "actual"),
        ({"actual": "000019999999999"}, "actual"),
        ({"actual": " ".join(map(str, range(1, 12)))}, "actual"),
        ({"forecast": "-5"}, "forecast"),
        ({"webhook_url": "ftp://x.example.org/"}, "webhook_url"),
        ({"webhook_url": "http://x.example.org/"}, "webhook_url"),
        ({"webhook_url": "https://user:pass@x.example.org/"}, "webhook_url"),
        ({"webhook_url": "https://[::1/"}, "webhook_url"),
        ({"webhook_url": "https://x.example.org:99999/"}, "webhook_url"),
        ({"webhook_url": "https://x.example.org/" + "a" * 500}, "webhook_url"),
        ({"webhook_url": "https://127.0.0.1/"}, "webhook_url"),
        ({"webhook_url": "https://localhost:8443/"}, "webhook_url"),
        ({"webhook_url": "https://10.1.2.3/"}, "webhook_url"),
        ({"webhook_url": "https://169.254.169.254/latest"}, "webhook_url"),
        ({"webhook_url": "https://[::ffff:127.0.0.1]/"}, "webhook_url"),
    ],
)
def test_what_makes_no_budget_is_refused_by_its_field(
    container: Container, owner: User, tenant: Tenant, change: dict[str, str], field: str
) -> None:
    with pytest.raises(Invalid) as caught:
        budgets.save(tenant=tenant, actor=owner, wish=wish(**change))
    assert caught.value.field == field
    assert not Budget.objects.exists()
    client = Client()
    client.force_login(owner)
    answer = client.post("/usage/budget/", {"amount": "5", "actual": "50", "forecast": "", **change})
    assert answer.status_code == 422
    assert f'id="{field}"' in answer.content.decode()
    assert 'aria-invalid="true"' in answer.content.decode()


def test_owners_set_it_and_members_and_outsiders_do_not(
    container: Container, owner: User, member: User, outsider: User, tenant: Tenant
) -> None:
    with pytest.raises(NotAllowed):
        budgets.save(tenant=tenant, actor=member, wish=wish())
    client = Client()
    client.force_login(member)
    assert client.post("/usage/budget/", {"amount": "5"}).status_code == 403
    client.force_login(outsider)
    assert f"/admin/budget/?tenant={tenant.pk}" not in client.get("/usage/budget/").content.decode()
    assert client.post(f"/admin/budget/?tenant={tenant.pk}", {"amount": "5"}).status_code == 404
    assert not Budget.objects.filter(tenant=tenant).exists()
    client.force_login(owner)
    client.post("/usage/budget/", {"amount": "5", "actual": "50", "forecast": "100"})
    assert Budget.objects.get().amount == 5
    client.post("/usage/budget/", {"amount": ""})
    assert not Budget.objects.exists()
    assert list(
        AuditEvent.objects.filter(verb__startswith="budget.").order_by("pk").values_list("verb", flat=True)
    ) == ["budget.set", "budget.end"]


def test_an_owners_new_address_loses_what_an_admin_allowed(
    container: Container, owner: User, admin: User, tenant: Tenant
) -> None:
    inside = "http://10.1.2.3:9/hook"
    budgets.save(tenant=tenant, actor=admin, wish=wish(webhook_url=inside, webhook_inside=True))
    budgets.save(tenant=tenant, actor=owner, wish=wish("7", webhook_url=inside))
    assert Budget.objects.get().webhook_inside, "the same address stays allowed"
    with pytest.raises(Invalid):
        budgets.save(tenant=tenant, actor=owner, wish=wish(webhook_url="http://10.1.2.4:9/", webhook_inside=True))
    budgets.save(tenant=tenant, actor=owner, wish=wish(webhook_url=OPEN, webhook_inside=True))
    assert not Budget.objects.get().webhook_inside


def test_the_secret_is_shown_once_and_stored_unreadable(container: Container, owner: User, tenant: Tenant) -> None:
    client = Client()
    client.force_login(owner)
    form = {"amount": "5", "actual": "50", "forecast": "", "webhook_url": OPEN}
    page = client.post("/usage/budget/", form).content.decode()
    (secret,) = re.findall(r"<code>([\w-]{40,})</code>", page)
    assert secret.encode() not in bytes(Budget.objects.get().secret_encrypted)
    page = client.get("/usage/budget/").content.decode()
    assert secret not in page
    assert "t=&lt;seconds&gt;,v1=&lt;HMAC-SHA256 of" in page, "how messages are signed is read, not taken for tags"
    assert client.post("/usage/budget/", form).status_code == 302, "the same webhook keeps its secret"
    (other,) = re.findall(r"<code>([\w-]{40,})</code>", client.post("/usage/budget/secret/").content.decode())
    assert other != secret
    assert secret not in json.dumps(list(AuditEvent.objects.values_list("data", flat=True)))


def test_launches_stop_at_100_percent_with_a_sentence_and_only_then(
    container: Container, owner: User, member: User, tenant: Tenant
) -> None:
    request = LaunchRequest("more", recipe="busybox", memory_bytes=1 << 26, cpu_millis=100)
    budgets.save(tenant=tenant, actor=owner, wish=wish())
    spend(container, 5, 100)
    budgets.refuse_over(tenant, NOW)
    budgets.save(tenant=tenant, actor=owner, wish=wish("100.01", stop_launches=True))
    budgets.refuse_over(tenant, NOW)
    budgets.save(tenant=tenant, actor=owner, wish=wish(stop_launches=True))
    with pytest.raises(Full, match="2026-12-01") as caught:
        budgets.refuse_over(tenant, NOW)
    assert "100 EUR" in caught.value.message
    budgets.refuse_over(tenant, NEXT + dt.timedelta(hours=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.utils.timezone.now", lambda: NOW)
        with pytest.raises(Full):
            launch(tenant=tenant, actor=member, request=request, request_key="k")
        assert not Container.objects.filter(name="more").exists()
        client = Client()
        client.force_login(member)
        form = {
            "item": "recipe:busybox",
            "name": "more",
            "memory": "64",
            "cpu": "0.1",
            "pids": "10",
            "request_key": "f",
        }
        answer = client.post("/catalog/launch/", form)
        assert answer.status_code == 422
        assert "is used up" in answer.content.decode()


@pytest.mark.parametrize("verb", ["start", "restart"])
def test_what_is_stopped_is_not_started_by_hand_at_100_percent_and_what_runs_goes_on(
    container: Container, owner: User, member: User, tenant: Tenant, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    stopped = Container.objects.create(
        tenant=tenant, node="n", name="idle", image_reference="x", memory_bytes=1 << 30, cpu_millis=1500, state="exited",
        wanted="stopped",
    )  # fmt: skip
    spend(container, 5, 100)
    budgets.save(tenant=tenant, actor=owner, wish=wish(stop_launches=True))
    with pytest.raises(Full, match="is used up"):
        act(container=stopped, actor=member, verb=verb, request_key="k")
    assert not Operation.objects.exists()
    stopped.refresh_from_db()
    assert stopped.wanted == "stopped"
    client = Client()
    client.force_login(member)
    answer = client.post(f"/containers/{stopped.pk}/{verb}/", {"request_key": "f"}, headers={"HX-Request": "true"})
    assert (answer.status_code, "is used up" in answer.content.decode()) == (422, True)
    assert act(container=container, actor=member, verb=verb, request_key="r").kind == verb
    budgets.save(tenant=tenant, actor=owner, wish=wish("101", stop_launches=True))
    assert act(container=stopped, actor=member, verb=verb, request_key="l").kind == verb


def test_alerts_are_shown_where_people_look(
    container: Container, owner: User, member: User, admin: User, tenant: Tenant
) -> None:
    budgets.save(tenant=tenant, actor=owner, wish=wish())
    client = Client()
    client.force_login(admin)
    assert "Not rated yet" in client.get("/admin/budget/").content.decode(), "and not that nothing is spent"
    spend(container, 5, 85)
    budgets.check(NOW)
    client.force_login(member)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("django.utils.timezone.now", lambda: NOW)
        home = client.get("/").content.decode()
    assert "80% of this month" in home
    assert "50% of this month" not in home, "the highest alone"
    page = " ".join(client.get("/usage/budget/").content.decode().split())
    assert re.search(r"80% of this month[^.]+\. <small class=\"muted\"> 2026-11,", page), "which month that is is told"
    assert "Owners set it" in page
    client.force_login(admin)
    assert f"?tenant={tenant.pk}" in client.get("/admin/budget/").content.decode()


# ------------------------------------------------------------------------------------------------ webhooks


class Receiver(QuietHandler):
    got: list[tuple[dict[str, str], bytes]]
    answers: list[int]

    def do_POST(self) -> None:  # noqa: N802 -- the name that http.server calls
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append((dict(self.headers.items()), body))
        status = type(self).answers.pop(0) if type(self).answers else 204
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def receiver() -> Iterator[tuple[str, type[Receiver]]]:
    class Fresh(Receiver):
        got: list[tuple[dict[str, str], bytes]] = []
        answers: list[int] = []

    with serving(Fresh) as address:
        yield f"http://{address}/hook", Fresh


def due(container: Container, admin: User, url: str, *, inside: bool = True) -> str:
    """One delivery that is due; returns the secret."""
    secret = budgets.save(
        tenant=container.tenant, actor=admin, wish=wish(actual="50", webhook_url=url, webhook_inside=inside)
    )
    spend(container, 5, 60)
    budgets.check(NOW)
    return secret


def test_a_delivery_is_signed_and_says_all(
    container: Container, admin: User, receiver: tuple[str, type[Receiver]]
) -> None:
    url, server = receiver
    secret = due(container, admin, url)
    assert deliveries.deliver_due(NOW) == 1
    assert deliveries.deliver_due(NOW + dt.timedelta(days=1)) == 0
    ((headers, body),) = server.got
    found = re.fullmatch(r"t=(\d+),v1=([0-9a-f]{64})", headers["Slipway-Signature"])
    assert found is not None
    expected = hmac.new(secret.encode(), f"{found[1]}.".encode() + body, hashlib.sha256).hexdigest()
    assert found[2] == expected
    said = json.loads(body)
    assert (said["basis"], said["percent"], said["budget"], said["amount"], said["currency"], said["month"]) == (
        "actual", 50, "100", "60", "EUR", "2026-11",
    )  # fmt: skip
    delivery = WebhookDelivery.objects.get()
    assert (said["id"], headers["Slipway-Delivery"], delivery.state) == (delivery.pk, delivery.pk, "delivered")


def test_a_delivery_that_fails_is_tried_later_and_later_until_it_is_given_up(
    container: Container, admin: User, receiver: tuple[str, type[Receiver]]
) -> None:
    url, server = receiver
    server.answers += [500, 302, 429, 204]
    due(container, admin, url)
    now, pauses = NOW, []
    for _ in range(4):
        assert deliveries.deliver_due(now) == 1
        delivery = WebhookDelivery.objects.get()
        if delivery.state == "waiting":
            assert deliveries.deliver_due(delivery.due_at - dt.timedelta(seconds=1)) == 0
            pauses.append(delivery.due_at - now)
            now = delivery.due_at
    assert pauses == sorted(pauses)
    assert len(set(pauses)) == 3
    assert (delivery.state, delivery.attempts, delivery.error) == ("delivered", 4, "")
    assert len({body for _, body in server.got}) == 1, "the same bytes each time"
    assert len(server.got) == 4, "a redirect is not followed"
    server.answers += [500] * 100
    WebhookDelivery.objects.update(state="waiting", attempts=0, due_at=now)
    while (delivery := WebhookDelivery.objects.get()).state == "waiting":
        deliveries.deliver_due(delivery.due_at)
    assert (delivery.state, delivery.attempts) == ("given_up", deliveries.MOST_ATTEMPTS)
    assert delivery.error == "The address answered with status 500."


def test_two_workers_send_it_once_and_a_dead_one_holds_it_for_a_while(
    container: Container, admin: User, receiver: tuple[str, type[Receiver]]
) -> None:
    url, server = receiver
    due(container, admin, url)
    id = WebhookDelivery.objects.get().pk
    assert deliveries._claim(id, NOW) is not None  # by one that then died
    assert deliveries.deliver_due(NOW) == 0
    assert deliveries._claim(id, NOW) is None
    assert deliveries.deliver_due(NOW + deliveries.LEASE) == 1
    assert len(server.got) == 1


def test_nothing_is_sent_to_the_node_unless_an_admin_allows_it(
    container: Container, admin: User, receiver: tuple[str, type[Receiver]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a name too that leads there, and by one that leads there only once it is connected to."""
    url, server = receiver
    port = int(url.rsplit(":", 1)[1].split("/")[0])
    due(container, admin, f"https://hooks.example.org:{port}/", inside=False)
    inner = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    outer = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", port))]
    for answers in ([inner], [outer, inner]):
        found = iter(answers)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, found=found, **__: next(found))
        WebhookDelivery.objects.update(state="waiting", due_at=NOW)
        assert deliveries.deliver_due(NOW) == 1
        delivery = WebhookDelivery.objects.get()
        assert (delivery.state, "only an admin" in delivery.error) == ("given_up", True)
    assert server.got == []


def test_an_address_that_answers_byte_by_byte_does_not_hold_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "WITHIN_S", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def trickle() -> None:
        connection, _ = listener.accept()
        with connection:
            try:
                while not done.wait(0.05):
                    connection.sendall(b"H")
            except OSError:
                return

    threading.Thread(target=trickle, daemon=True).start()
    try:
        with pytest.raises(webhooks.Failed):
            webhooks.send(
                f"http://127.0.0.1:{listener.getsockname()[1]}/", b"{}", {}, inside=True, containers="10.89.0.0/16"
            )
    finally:
        done.set()
        listener.close()


def test_what_is_no_more_wanted_is_not_sent(
    container: Container, admin: User, receiver: tuple[str, type[Receiver]]
) -> None:
    url, server = receiver
    due(container, admin, url)
    budgets.save(tenant=container.tenant, actor=admin, wish=wish())
    deliveries.deliver_due(NOW)
    assert (WebhookDelivery.objects.get().state, server.got) == ("given_up", [])
