"""Fixed addresses in the launch form, in the form that connects, and wherever a container's places are shown."""

from __future__ import annotations

import html
import ipaddress
import re

import pytest
from django.test import Client

from console.accounts.models import Tenant, User
from console.catalog import forms
from console.operations.models import Operation
from console.operations.tasks import run
from console.workloads import services
from console.workloads.models import Container, Network
from runtime.api import Attachment
from runtime.engines.fake.engine import FakeEngine
from tests.console.launching import act, engine
from tests.console.launching import launched as simple
from tests.console.test_launch_options import OPTIONS, SIMPLE, fields, launched

__all__ = ["engine"]
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def client(tenant: Tenant, member: User, engine: FakeEngine) -> Client:
    made = Client()
    made.force_login(member)
    for name, ipv6 in (("back", True), ("four", False)):
        operation = services.create_network(tenant=tenant, actor=member, name=name, ipv6=ipv6, request_key=name)
        run(operation=operation.id)
    return made


def at(number: int, *, six: bool = False) -> str:
    back = Network.objects.get(name="back")
    return str(ipaddress.ip_network(back.subnet6 if six else back.subnet)[number])


def form(**typed: object) -> dict[str, object]:
    """With both addresses on ``back``."""
    asked = {"network": "back", "aliases:back": "db", "address:back": f" {at(77)} ", "address6:back": at(77, six=True)}
    return {**SIMPLE, **OPTIONS, **asked, **typed}


def launch_page(client: Client, query: str = "item=recipe:busybox") -> str:
    return html.unescape(client.get(f"/catalog/launch/?{query}").content.decode())


def marked(page: str) -> list[str]:
    """The names of the fields that are said to be wrong."""
    wrong = (one for one in re.findall(r"<input[^>]*>", page) if "aria-invalid" in one)
    return [name for one in wrong for name in re.findall(r'\sname="([^"]*)"', one)]


def test_what_is_typed_reaches_the_engine(client: Client, engine: FakeEngine) -> None:
    container = launched(client, form())
    assert container.state == "running", container.reason
    assert engine.spec(container.id).networks == (Attachment("back", at(77), at(77, six=True), ("db",)),)


def test_there_is_a_field_for_each_subnet_that_is_known(
    tenant: Tenant, member: User, client: Client, engine: FakeEngine
) -> None:
    services.create_network(tenant=tenant, actor=member, name="soon", request_key="s")
    page = launch_page(client)
    for name in ("address:back", "address6:back", "address:four"):
        assert f'name="{name}"' in page
    for name in ("address6:four", "address:soon", "address6:soon", "address:default"):
        assert f'name="{name}"' not in page
    assert f'placeholder="any in {Network.objects.get(name="back").subnet}"' in page
    simple(tenant, member)
    assert 'name="address:default"' in launch_page(client)
    told = page[page.index('id="networks-help"') :].partition("</p>")[0]
    assert "until the container leaves the network or is removed" in " ".join(told.split())


def test_a_form_that_comes_back_is_as_it_was_typed(client: Client, engine: FakeEngine) -> None:
    answer = client.post("/catalog/launch/", form(**{"address:back": "nonsense"}))
    assert answer.status_code == 422
    page = html.unescape(answer.content.decode())
    assert "'nonsense' is not an IPv4 address. Give one of the network." in page
    assert '<details class="card pad more-options" data-name="more" open>' in page
    assert marked(page) == ["address:back"]
    typed = fields(answer.content.decode())
    assert (typed["network"], typed["aliases:back"]) == (["back"], ["db"])
    assert (typed["address:back"], typed["address6:back"]) == (["nonsense"], [at(77, six=True)])
    assert not Container.objects.exists()


def test_the_address_that_is_refused_is_marked_and_no_other(
    client: Client, engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the others look like, and however it is written; also what only the launch itself finds, since somebody was faster."""
    launched(client, form())
    four = str(ipaddress.ip_network(Network.objects.get(name="four").subnet)[7])
    back4, back6 = at(77), at(77, six=True)
    long6 = ipaddress.ip_address(back6).exploded.upper()
    free = {"address:back": at(78), "address6:back": at(78, six=True)}
    cases: tuple[tuple[dict[str, object], str], ...] = (
        ({**free, "address:back": back4, "address:four": back4[:-1]}, "address:back"),
        ({**free, "address:back": at(79), "address:four": at(79)}, "address:four"),
        ({**free, "address6:back": long6, "address:four": four}, "address6:back"),
        ({**free, "network": ["back", "default"], "address:default": four}, "address:default"),
    )
    for check in (forms.check, lambda *_: {}):
        monkeypatch.setattr(forms, "check", check)
        for typed, wrong in cases:
            sent = form(**{"network": ["back", "four"], "name": "other", "request_key": "k2", **typed})
            answer = client.post("/catalog/launch/", sent)
            assert answer.status_code == 422
            assert marked(html.unescape(answer.content.decode())) == [wrong]


def test_an_alias_that_is_wrong_marks_no_address(client: Client, engine: FakeEngine) -> None:
    answer = client.post("/catalog/launch/", form(**{"aliases:back": at(77)}))
    page = html.unescape(answer.content.decode())
    assert f"'{at(77)}' is not a valid name." in page
    assert marked(page) == []


def test_a_viewer_is_told_of_no_address(viewer: User, client: Client, engine: FakeEngine) -> None:
    launched(client, form())
    client.force_login(viewer)
    answer = client.post("/catalog/launch/check/networks/", form())
    assert answer.status_code == 403
    assert "is that of the container" not in html.unescape(answer.content.decode())


def test_an_address_is_checked_as_it_is_typed(client: Client, engine: FakeEngine) -> None:
    launched(client, form())
    for typed, sentence in (
        (form(), "is that of the container box: choose another."),
        (form(**{"address:back": at(1)}), f"The network 'back' keeps the address {at(1)} for itself."),
        (form(**{"address:back": at(78), "address6:back": at(78, six=True)}), ""),
    ):
        beside = html.unescape(client.post("/catalog/launch/check/networks/", typed).content.decode()).strip()
        assert sentence in beside
        assert bool(beside) is bool(sentence)


def test_what_is_written_beside_a_network_that_is_not_chosen_is_not_lost(client: Client, engine: FakeEngine) -> None:
    answer = client.post("/catalog/launch/", form(network="default"))
    assert answer.status_code == 422
    assert "Choose the network back" in html.unescape(answer.content.decode())
    typed = fields(answer.content.decode())
    assert (typed["network"], typed["address:back"]) == (["default"], [at(77)])
    assert not Container.objects.exists()


def test_a_launch_like_it_has_its_address_once_it_has_left_it(
    tenant: Tenant, member: User, client: Client, engine: FakeEngine
) -> None:
    first = launched(client, form())
    typed = fields(client.get(f"/catalog/launch/?like={first.id}").content.decode())
    assert (typed["network"], typed["aliases:back"]) == (["back"], ["db"])
    assert (typed["address:back"], typed["address6:back"]) == ([""], [""])
    second = launched(client, {**typed, "aliases:back": ""})
    assert second.attachments.get().requested_address is None
    act(first, member, "remove")
    typed = fields(client.get(f"/catalog/launch/?like={first.id}").content.decode())
    assert (typed["address:back"], typed["address6:back"]) == ([at(77)], [at(77, six=True)])
    assert engine.spec(launched(client, typed).id).networks == (Attachment("back", at(77), at(77, six=True), ("db",)),)


def test_connecting_from_the_page(tenant: Tenant, member: User, client: Client, engine: FakeEngine) -> None:
    container = simple(tenant, member)
    page = client.get(f"/containers/{container.id}/?tab=change").content.decode()
    assert 'aria-describedby="address-help address-problem"' in page
    assert 'name="address6"' in page
    sent = {"network": "back", "aliases": "", "address": "10.1", "address6": at(9, six=True), "request_key": "f1"}
    answer = client.post(f"/containers/{container.id}/connect/", sent)
    assert answer.status_code == 422
    page = html.unescape(answer.content.decode())
    assert "'10.1' is not an IPv4 address." in page[page.index('id="address-problem"') : page.index('id="address6"')]
    assert 'value="10.1"' in page
    assert f'value="{at(9, six=True)}"' in page
    assert client.post(f"/containers/{container.id}/connect/", {**sent, "address": at(9)}).status_code == 302
    run(operation=Operation.objects.get(kind="connect").id)
    assert engine.spec(container.id).networks[1] == Attachment("back", at(9), at(9, six=True))
    assert 'name="address6"' not in client.get(f"/containers/{container.id}/?tab=change").content.decode(), (
        "no network that is left has IPv6"
    )


@pytest.mark.parametrize("verb", ["", "stop"])
def test_it_is_shown_as_fixed_wherever_places_are(
    tenant: Tenant, member: User, client: Client, engine: FakeEngine, verb: str
) -> None:
    """Also while it is stopped: the address stays its own."""
    container = launched(client, form())
    other = launched(client, {**SIMPLE, **OPTIONS, "name": "other", "request_key": "k2"})
    if verb:
        act(container, member, verb)
    tabs = [f"/containers/{{}}/?tab={tab}" for tab in ("configuration", "change")]

    def read(path: str) -> str:
        return " ".join(client.get(path).content.decode().split())

    for path in (*tabs, "/networks/"):
        page = read(path.format(container.id))
        for address in (at(77), at(77, six=True)):
            assert f'<span class="mono">{address}</span> fixed' in page, path
        assert "</span> fixed" not in read(path.format(other.id)) or path == "/networks/"
