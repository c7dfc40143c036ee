"""Every door there is, taken from the resolver, the WebSocket routes and the agent's verbs, and who may go through it.

A new door without a rule here fails the first test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver
from django.utils import timezone

from console.accounts.models import AuditEvent, Membership, MetricsToken, Role, Tenant, User
from console.catalog.models import Registry, Repository
from console.live.agent.history import History
from console.live.agent.server import Server
from console.live.consumers.streams import LogConsumer, TerminalConsumer
from console.live.routing import websocket_urlpatterns
from console.live.tickets import VERBS
from console.metering.models import ExportSchedule, Period
from console.metering.months import month_of
from console.metering.services import prices
from console.metering.services.prices import BookDraft, PriceDraft
from console.operations.models import Operation
from console.workloads.models import Container, Network, Volume

pytestmark = pytest.mark.django_db
PEOPLE = ("stranger", "outsider", "viewer", "member", "owner", "admin")
LOGIN, MISSING, NOT_ALLOWED, IN = "sign-in", 404, 403, "in"


@dataclass(frozen=True)
class Rule:
    """What each of :data:`PEOPLE` gets, and by which method the door is tried."""

    answers: tuple[object, ...]
    method: str = "get"


OPEN = (IN,) * 6
SIGNED_IN = (LOGIN, IN, IN, IN, IN, IN)
"""A page of the person's own tenant: the outsider sees theirs, never this one's."""
OF_THE_TENANT = (LOGIN, MISSING, IN, IN, IN, IN)
OF_MEMBERS = (LOGIN, MISSING, NOT_ALLOWED, IN, IN, IN)
OF_OWNERS = (LOGIN, MISSING, NOT_ALLOWED, NOT_ALLOWED, IN, IN)
OF_ADMINS = (LOGIN, MISSING, MISSING, MISSING, MISSING, IN)
LAUNCHING = (LOGIN, IN, NOT_ALLOWED, IN, IN, IN)
"""The outsider is an owner at home, and launches there."""
OWNING = (LOGIN, IN, NOT_ALLOWED, NOT_ALLOWED, IN, IN)

RULES = {
    "healthz/": Rule(OPEN),
    "sign-in/": Rule(OPEN),
    "sign-out/": Rule((LOGIN, LOGIN, LOGIN, LOGIN, LOGIN, LOGIN), "post"),
    "language/": Rule(OPEN, "post"),
    "": Rule(SIGNED_IN),
    "theme/": Rule(SIGNED_IN, "post"),
    "settings/": Rule(SIGNED_IN),
    "tenant/": Rule(OF_THE_TENANT, "post"),
    "members/": Rule(SIGNED_IN),
    "audit/": Rule((LOGIN, IN, MISSING, MISSING, IN, IN)),
    "tokens/": Rule(SIGNED_IN),
    "tokens/<int:id>/revoke/": Rule(OF_OWNERS, "post"),
    "metrics": Rule((401,) * 6),
    "admin/tenants/": Rule(OF_ADMINS),
    "admin/tenants/<str:id>/quota/": Rule(OF_ADMINS, "post"),
    "admin/users/": Rule(OF_ADMINS),
    "admin/users/<int:id>/<str:verb>/": Rule(OF_ADMINS, "post"),
    "admin/usage/": Rule(OF_ADMINS),
    "catalog/": Rule(SIGNED_IN),
    "catalog/launch/": Rule(LAUNCHING),
    "catalog/launch/check/<str:field>/": Rule(LAUNCHING, "post"),
    "catalog/card/<str:key>/": Rule(OF_THE_TENANT),
    "catalog/build/<slug:slug>/": Rule(LAUNCHING, "post"),
    "catalog/icons/<slug:slug>.svg": Rule(SIGNED_IN),
    "catalog/registries/": Rule(SIGNED_IN),
    "catalog/registries/add/": Rule(OWNING, "post"),
    "catalog/registries/<str:id>/credentials/": Rule(OF_OWNERS, "post"),
    "catalog/registries/<str:id>/remove/": Rule(OF_OWNERS, "post"),
    "catalog/repositories/add/": Rule(OWNING, "post"),
    "catalog/repositories/<str:id>/remove/": Rule(OF_OWNERS, "post"),
    "containers/": Rule(SIGNED_IN),
    "containers/rows/": Rule(SIGNED_IN),
    "containers/<str:id>/": Rule(OF_THE_TENANT),
    "containers/<str:id>/status/": Rule(OF_THE_TENANT),
    "containers/<str:id>/configuration/": Rule(OF_THE_TENANT),
    "containers/<str:id>/events/": Rule(OF_THE_TENANT),
    "containers/<str:id>/isolation/": Rule(OF_THE_TENANT),
    "containers/<str:id>/logs/download/": Rule(OF_THE_TENANT),
    "containers/<str:id>/processes/": Rule(OF_MEMBERS),
    "containers/<str:id>/files/download/": Rule(OF_MEMBERS),
    "containers/<str:id>/files/upload/": Rule(OF_MEMBERS, "post"),
    "containers/<str:id>/limits/": Rule(OF_MEMBERS, "post"),
    "containers/<str:id>/rename/": Rule(OF_MEMBERS, "post"),
    "containers/<str:id>/connect/": Rule(OF_MEMBERS, "post"),
    "containers/<str:id>/disconnect/": Rule(OF_MEMBERS, "post"),
    "containers/<str:id>/<str:verb>/": Rule(OF_MEMBERS, "post"),
    "volumes/": Rule(SIGNED_IN),
    "volumes/create/": Rule(LAUNCHING, "post"),
    "volumes/<str:id>/remove/": Rule(OF_MEMBERS, "post"),
    "networks/": Rule(SIGNED_IN),
    "networks/create/": Rule(LAUNCHING, "post"),
    "networks/<str:id>/remove/": Rule(OF_MEMBERS, "post"),
    "operations/": Rule(SIGNED_IN),
    "operations/<str:id>/": Rule(OF_THE_TENANT),
    "operations/<str:id>/cancel/": Rule(OF_MEMBERS, "post"),
    "usage/": Rule(SIGNED_IN),
    "usage/so-far/": Rule(SIGNED_IN),
    "containers/<str:id>/cost/": Rule(OF_THE_TENANT),
    "catalog/launch/price/": Rule(SIGNED_IN, "post"),
    "usage/invoices/": Rule(SIGNED_IN),
    "admin/invoices/": Rule(OF_ADMINS),
    "usage/invoices/<str:month>/": Rule(OF_THE_TENANT),
    "admin/invoices/<str:month>/": Rule(OF_ADMINS),
    "usage/invoices/<str:month>/<str:name>": Rule(OF_THE_TENANT),
    "admin/invoices/<str:month>/<str:name>": Rule(OF_ADMINS),
    "admin/periods/<int:id>/close/": Rule(OF_ADMINS, "post"),
    "admin/periods/<int:id>/credit/": Rule(OF_ADMINS, "post"),
    "admin/prices/": Rule(OF_ADMINS),
    "admin/prices/<int:id>/": Rule(OF_ADMINS),
    "admin/prices/<int:id>/book.json": Rule(OF_ADMINS),
    "admin/prices/<int:id>/<str:verb>/": Rule(OF_ADMINS, "post"),
    "usage/budget/": Rule(SIGNED_IN),
    "admin/budget/": Rule(OF_ADMINS),
    "usage/budget/secret/": Rule(OWNING, "post"),
    "admin/budget/secret/": Rule(OF_ADMINS, "post"),
    "usage/exports/": Rule(SIGNED_IN),
    "admin/exports/": Rule(OF_ADMINS),
    "usage/exports/add/": Rule(OWNING, "post"),
    "admin/exports/add/": Rule(OF_ADMINS, "post"),
    "usage/exports/<str:id>/": Rule(OF_THE_TENANT),
    "admin/exports/<str:id>/": Rule(OF_ADMINS),
    "usage/exports/<str:id>/<str:verb>/": Rule(OF_OWNERS, "post"),
    "admin/exports/<str:id>/<str:verb>/": Rule(OF_ADMINS, "post"),
    "usage/records/": Rule(SIGNED_IN),
    "admin/records/": Rule(OF_ADMINS),
    "usage/metering-error/": Rule(SIGNED_IN),
    "admin/metering-error/": Rule(OF_ADMINS),
    "usage/export.csv": Rule(SIGNED_IN),
    "usage/sql/": Rule(SIGNED_IN),
    "usage/sql/answer.csv": Rule(SIGNED_IN, "post"),
    "usage/sql/answer.json": Rule(SIGNED_IN, "post"),
    "usage/export.json": Rule(SIGNED_IN),
}
SOCKETS = {
    "ws/tenant/<str:tenant>/": Role.VIEWER,
    "ws/containers/<str:container>/": Role.VIEWER,
    "ws/containers/<str:container>/logs/": Role.VIEWER,
    "ws/containers/<str:container>/terminal/": Role.MEMBER,
    "ws/node/": Role.VIEWER,
}
AGENT = {
    "ping": None,
    "history": Role.VIEWER,
    "logs": Role.VIEWER,
    "isolation": Role.VIEWER,
    "top": Role.MEMBER,
    "copy_out": Role.MEMBER,
    "copy_in": Role.MEMBER,
    "exec": Role.MEMBER,
    "counters": None,
    "query": Role.VIEWER,
}
"""The least role of those for whom the web process signs a ticket; ``counters`` is for whoever has a metrics token."""


def doors(patterns: list[URLPattern | URLResolver], before: str = "") -> Iterator[str]:
    for one in patterns:
        if isinstance(one, URLResolver):
            yield from doors(one.url_patterns, before + str(one.pattern))
        else:
            yield before + str(one.pattern)


def test_every_door_has_a_rule() -> None:
    found = list(doors(get_resolver().url_patterns))
    assert sorted(found) == sorted(RULES)
    consumers = {str(one.pattern): one.callback.consumer_class.needs for one in websocket_urlpatterns}
    assert consumers == SOCKETS
    assert set(AGENT) == VERBS


def test_the_agent_knows_no_verb_that_no_ticket_names(tmp_path: object) -> None:
    assert set(Server(None, History())._verbs) == VERBS  # type: ignore[arg-type]
    for consumer in (LogConsumer, TerminalConsumer):
        assert AGENT[consumer.verb] == consumer.needs


@pytest.fixture
def names(tenant: Tenant, member: User, settings: object, tmp_path: object) -> dict[str, str]:
    """What the parameters of the doors are filled with: all of it is the tenant's."""
    settings.AGENT_SOCKET = f"{tmp_path}/nobody.sock"  # type: ignore[attr-defined]
    container = Container.objects.create(
        tenant=tenant, node="node", name="guarded", image_reference="x", memory_bytes=1, cpu_millis=1, state="running"
    )
    operation = Operation.objects.create(
        tenant=tenant, kind="stop", node="node", container=container, request_key="k", state="succeeded"
    )
    registry = Registry.objects.create(tenant=tenant, host="guarded.example.org", name="guarded")
    repository = Repository.objects.create(tenant=tenant, name="guarded", title="guarded")
    volume = Volume.objects.create(tenant=tenant, node="node", name="guarded", state="ready")
    network = Network.objects.create(tenant=tenant, node="node", name="guarded", state="ready")
    token = MetricsToken.objects.create(tenant=tenant, name="guarded", sha256="0" * 64)
    schedule = ExportSchedule.objects.create(
        tenant=tenant, name="guarded", contents=["usage-csv"], every="day", hour=1, place="folder", location="/guarded",
        created_at=timezone.now(),
    )  # fmt: skip
    start, end = month_of(timezone.now())
    period = Period.objects.create(tenant=tenant, starts_at=start, ends_at=end)
    draft = BookDraft("EUR", start, (PriceDraft("GUARDED", "cpu", "Core-Seconds", (("0", "1"),)),), "guarded")
    return {
        "admin/periods/": str(period.pk), "admin/prices/": str(prices.draft(draft).pk), "<str:month>": f"{start:%Y-%m}",
        "<str:name>": "lines.csv", "usage/exports/": schedule.pk, "admin/exports/": schedule.pk,
        "containers/": container.id, "operations/": operation.id, "catalog/registries/": registry.id,
        "catalog/repositories/": repository.id, "admin/tenants/": tenant.id, "admin/users/": str(member.pk),
        "tokens/": str(token.pk), "volumes/": volume.id, "networks/": network.id,
        "<str:key>": f"repository:{repository.id}", "<str:field>": "name", "<slug:slug>": "busybox", "<str:verb>": "stop",
    }  # fmt: skip


VERBS_OF = {
    "usage/exports/": "pause",
    "admin/exports/": "pause",
    "admin/users/": "password",
    "admin/prices/": "publish",
}


def filled(door: str, names: dict[str, str]) -> str:
    for part, value in names.items():
        if part.startswith("<"):
            door = door.replace(part, next((verb for of, verb in VERBS_OF.items() if door.startswith(of)), value))
        elif door.startswith(part):
            door = door.replace("<str:id>", value).replace("<int:id>", value)
    assert "<" not in door
    return f"/{door}"


def answer(client: Client, door: str, path: str, tenant: Tenant) -> object:
    asked = {"tenant": tenant.id, "theme": "dark", "language": "en"}
    response = getattr(client, RULES[door].method)(path, asked)
    content = b"".join(response) if response.streaming else response.content
    if response.status_code in {401, 403, 404}:
        assert b"guarded" not in content
        return response.status_code
    assert response.status_code < 500 or response.status_code == 503  # the agent, of which there is none
    if response.status_code == 302 and response.headers["Location"].startswith("/sign-in/"):
        return LOGIN
    return IN


@pytest.mark.parametrize("door", sorted(RULES))
def test_who_gets_through(
    request: pytest.FixtureRequest, tenant: Tenant, names: dict[str, str], door: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from console.operations import services as operations

    monkeypatch.setattr(operations, "ring", lambda *_: None)
    path = filled(door, names)
    people = {who: None if who == "stranger" else request.getfixturevalue(who) for who in PEOPLE}
    got = []
    for who in PEOPLE:  # the mightiest last: a deed that is done may take away what it was done to
        client = Client()
        if people[who] is not None:
            client.force_login(people[who])
            session = client.session
            session["tenant"] = tenant.id  # as far as the person can bring the session to name it
            session.save()
        got.append(IN if gone(door, names) else answer(client, door, path, tenant))  # gone: an equal before did it
    assert tuple(got) == RULES[door].answers


def gone(door: str, names: dict[str, str]) -> bool:
    """Whether an earlier person's removal has taken what the door names."""
    if door == "tokens/<int:id>/revoke/":
        return not MetricsToken.objects.exists()
    if not door.endswith("<str:id>/remove/"):
        return False
    return not (
        Registry.objects.filter(pk=names["catalog/registries/"]).exists()
        if "registries" in door
        else Repository.objects.filter(pk=names["catalog/repositories/"]).exists()
    )


@pytest.mark.parametrize("door", sorted(door for door, rule in RULES.items() if rule.method == "post"))
def test_no_deed_without_the_token_of_our_own_page(admin: User, names: dict[str, str], door: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    before = AuditEvent.objects.count()
    assert client.post(filled(door, names)).status_code == 403
    assert AuditEvent.objects.count() == before


@pytest.mark.parametrize(
    "door", ["members/", "admin/tenants/", "admin/users/", "catalog/launch/", "settings/", "sign-in/"]
)
def test_pages_that_take_a_form_want_the_token_too(admin: User, door: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(admin)
    assert client.post(f"/{door}", {"name": "x", "username": "x", "password": "x"}).status_code == 403


@pytest.mark.parametrize("door", sorted(door for door, rule in RULES.items() if rule.method == "post"))
def test_nothing_is_done_by_a_link(admin: User, names: dict[str, str], door: str) -> None:
    client = Client()
    client.force_login(admin)
    before = AuditEvent.objects.count()
    assert client.get(filled(door, names)).status_code == 405
    page = client.get(filled(door, names), headers={"accept": "text/html"}, follow=True)
    assert page.status_code == 200, "where a mistake was told, a reload or another language is a page"
    assert page.redirect_chain
    assert AuditEvent.objects.count() == before


NASTY = "<img src=x onerror=alert(1)>"


def test_what_people_and_programs_wrote_is_text_on_every_page(
    tenant: Tenant, admin: User, names: dict[str, str]
) -> None:
    """Names, environment, labels, sentences of errors, reasons: whatever got past the checks once."""
    Tenant.objects.update(name=NASTY)
    User.objects.exclude(pk=admin.pk).update(username=NASTY)
    Container.objects.update(
        name=NASTY, image_reference=NASTY, reason=NASTY, state="failed", command=[NASTY],
        environment={NASTY: NASTY, "PASSWORD": NASTY}, labels={NASTY: NASTY}, health_output=NASTY, user=NASTY, hostname=NASTY,
        working_dir=NASTY, entrypoint=[NASTY], health_check={"kind": "command", "command": [NASTY], "path": NASTY},
    )  # fmt: skip
    Operation.objects.update(state="failed", error_message=NASTY, error_hint=NASTY, detail=NASTY)
    container = Container.objects.get()
    container.events.create(kind="failed", data={"message": NASTY, "hint": NASTY, "reason": NASTY})
    container.mounts.create(volume=Volume.objects.get(), path=NASTY)
    container.attachments.create(network=Network.objects.get(), aliases=[NASTY])
    Volume.objects.update(name=NASTY)
    Network.objects.update(name=NASTY)
    Registry.objects.update(host=NASTY, name=NASTY, username=NASTY)
    Repository.objects.update(name=NASTY, title=NASTY, description=NASTY, environment=[{"name": NASTY, "help": NASTY}])
    AuditEvent.objects.create(verb="x.y", user=admin, tenant=tenant, target=NASTY, data={"name": NASTY})
    Membership.objects.get_or_create(user=admin, tenant=tenant, defaults={"role": "owner"})
    client = Client()
    client.force_login(admin)
    pages = [filled(door, names) for door, rule in RULES.items() if rule.method == "get" and "export" not in door]
    pages += [
        f"/containers/{container.id}/?tab={tab}" for tab in ("configuration", "change", "events", "logs", "terminal")
    ]
    pages += ["/audit/?all", f"/catalog/launch/?item={names['<str:key>']}"]
    shown = 0
    for path in pages:
        page = client.get(path)
        if "html" in page.headers["Content-Type"]:
            assert NASTY not in page.content.decode(), path
            shown += "&lt;img src=x" in page.content.decode()
    assert shown > len(pages) // 2
