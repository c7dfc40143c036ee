"""A volume's and a container's life in the browser: made, launched with, paused, changed, renamed, removed; over the real engine."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from runtime.api import ExecSpec
from tests.e2e.conftest import Person, Visit
from tests.e2e.test_pages import axe

SOON = 60_000
FIXED = 200
"""The number of an address that nobody is given."""


def _axe_finds_nothing(page: Page) -> None:
    page.evaluate(axe())
    result = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    assert [f"{one['id']}: {one['nodes'][0]['html'][:160]}" for one in result["violations"]] == []


def _confirmed(page: Page) -> None:
    page.locator("#confirm [data-confirm-yes]").click()


def _shown(page: Page, id: str) -> None:
    """The container's page, by which a form is answered: who goes elsewhere before it comes has that ended by it."""
    page.wait_for_url(f"**/containers/{id}/")


def _make(person: Person) -> None:
    """A volume and a network, on their pages, which show them without being loaded anew."""
    page = person.go("/volumes/")
    page.get_by_label("Name").fill("e2e-data")
    page.get_by_label("Size").fill("32")
    page.get_by_role("button", name="Make it").click()
    row = page.get_by_role("row").filter(has_text="e2e-data")
    expect(row).to_contain_text("Ready", timeout=SOON)
    expect(row).to_contain_text("of 32 MiB")
    page = person.go("/networks/")
    page.get_by_label("Name").fill("e2e-back")
    page.get_by_label("Internal").check()
    page.get_by_role("button", name="Make it").click()
    expect(page.get_by_role("row").filter(has_text="e2e-back")).to_contain_text("Ready", timeout=SOON)


def _launch(person: Person) -> str:
    """With the volume and the network, and a check that asks a file of the volume."""
    page = person.go("/catalog/launch/?item=recipe:busybox")
    page.locator("[name=name]").fill("e2e-store")
    page.locator("[name=command]").fill("sh -c 'touch /data/ready; exec sleep 100000'")
    page.locator(".more-options summary").click()
    page.get_by_role("button", name="Add a volume").click()
    page.get_by_label("Volume", exact=True).select_option("e2e-data")
    expect(page.get_by_label("Name of the new volume")).to_be_hidden()
    page.get_by_label("Path in the container").fill("data")
    page.get_by_label("Path in the container").press("Tab")
    expect(page.locator("#volumes-problem")).to_contain_text("not absolute")
    page.get_by_label("Path in the container").fill("/data")
    page.get_by_label("Path in the container").press("Tab")
    expect(page.locator("#volumes-problem")).to_be_empty()
    page.get_by_label("e2e-back", exact=False).first.check()
    fixed = page.get_by_label("Fixed address on e2e-back", exact=True)
    fixed.fill(_address(person, "e2e-back", 1))
    fixed.press("Tab")
    expect(page.locator("#networks-problem")).to_contain_text("keeps the address")
    fixed.fill(_address(person, "e2e-back", FIXED))
    fixed.press("Tab")
    expect(page.locator("#networks-problem")).to_be_empty()
    page.get_by_label("Kind").select_option("command")
    expect(page.get_by_label("Port", exact=True)).to_be_hidden()
    page.locator("#health-command").fill("test -e /data/ready")
    page.locator("#health-interval").fill("1")
    page.get_by_role("button", name="Add a label").click()
    page.get_by_label("Label", exact=True).fill("team")
    page.locator("[name=label_value]").fill("web")
    _axe_finds_nothing(page)
    page.get_by_role("button", name="Launch", exact=True).click()
    expect(page.locator("#status")).to_have_attribute("data-state", "running", timeout=SOON)
    expect(page.locator("[data-health]")).to_have_attribute("data-health", "healthy", timeout=SOON)
    id = person.container("e2e-store")
    assert _address(person, "e2e-back", FIXED) in _addresses(person, id, "eth1")
    return id


def _address(person: Person, network: str, number: int) -> str:
    """The one of that number in the subnet of a network of the tenant that has ``e2e-back``."""
    networks = person.stack.engine.networks
    tenant = next(one.tenant for one in networks.list() if one.name == "e2e-back")
    return str(ipaddress.ip_network(networks.inspect(tenant, network).subnet)[number])


def _addresses(person: Person, id: str, interface: str) -> str:
    """As the kernel tells them in the container."""
    session = person.stack.engine.exec(id, ExecSpec(("ip", "addr", "show", interface)))
    text = session.stdout.read().decode()
    session.wait(60)
    session.close()
    return text


def _moved(person: Person, id: str, pictures: Path) -> None:
    """Off the tenant's own network, and onto it again by another name, with an address that is refused and then one that is its own."""
    page, engine = person.page, person.stack.engine
    person.go(f"/containers/{id}/?tab=change")
    _axe_finds_nothing(page)
    page.get_by_role("button", name="Disconnect from default").click()
    _confirmed(page)
    _shown(page, id)
    person.go(f"/containers/{id}/?tab=events")
    expect(page.locator("#events")).to_contain_text("Disconnected from a network", timeout=SOON)
    assert [one.network for one in engine.inspect(id).networks] == ["e2e-back"]
    person.go(f"/containers/{id}/?tab=change")
    _axe_finds_nothing(page)
    page.screenshot(path=pictures / "container-change-networks.png", full_page=True)
    page.get_by_label("Network", exact=True).select_option("default")
    page.get_by_label("Further names there").fill("shop")
    page.get_by_label("Fixed address there").fill(_address(person, "default", 1))
    page.get_by_role("button", name="Connect", exact=True).click()
    expect(page.locator("#address-problem")).to_contain_text("keeps the address")
    expect(page.get_by_label("Fixed address there")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Further names there")).to_have_value("shop")
    _axe_finds_nothing(page)
    page.screenshot(path=pictures / "container-change-refused.png", full_page=True)
    address = _address(person, "default", FIXED)
    page.get_by_label("Fixed address there").fill(address)
    page.get_by_role("button", name="Connect", exact=True).click()
    _shown(page, id)
    person.go(f"/containers/{id}/?tab=events")
    expect(page.locator("#events")).to_contain_text("Connected to a network", timeout=SOON)
    assert [one.network for one in engine.inspect(id).networks] == ["e2e-back", "default"]
    person.go(f"/containers/{id}/?tab=configuration")
    expect(page.locator("main")).to_contain_text("shop")
    expect(page.locator("main")).to_contain_text(f"{address} fixed")
    assert address in _addresses(person, id, "eth0")


def test_a_volume_and_a_container_with_a_check(visit: Visit, pictures: Path) -> None:
    person = visit("demo")
    _make(person)
    id = _launch(person)
    page = person.page
    engine = person.stack.engine
    page.get_by_role("button", name="Pause").click()
    expect(page.locator("#status")).to_contain_text("Paused", timeout=SOON)
    assert engine.inspect(id).paused
    page.get_by_role("button", name="Resume").click()
    expect(page.locator("#status")).not_to_contain_text("Paused", timeout=SOON)

    person.go(f"/containers/{id}/?tab=configuration")
    expect(page.locator("main")).to_contain_text("e2e-store.e2e-back.slipway.internal")
    expect(page.locator("main")).to_contain_text("/data")
    person.go(f"/containers/{id}/?tab=processes")
    expect(page.locator("main")).to_contain_text("sleep 100000", timeout=SOON)

    person.go(f"/containers/{id}/?tab=change")
    _axe_finds_nothing(page)
    page.get_by_label("Memory").fill("96")
    page.get_by_role("button", name="Change limits").click()
    expect(page.locator("[data-chart=memory]")).to_contain_text("of 96 MiB", timeout=SOON)
    assert engine.spec(id).limits.memory_bytes == 96 << 20
    person.go(f"/containers/{id}/?tab=change")
    page.get_by_label("New name").fill("e2e-renamed")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("e2e-renamed", timeout=SOON)

    _moved(person, id, pictures)
    volume = person.go("/volumes/").get_by_role("row").filter(has_text="e2e-data")
    expect(volume).to_contain_text("e2e-renamed")
    expect(volume.get_by_role("button")).to_have_count(0)
    person.go(f"/containers/{id}/").get_by_role("button", name="Remove").click()
    _confirmed(page)
    expect(page).to_have_url(person.stack.url + "containers/")
    for path, name in (("/volumes/", "e2e-data"), ("/networks/", "e2e-back")):
        row = person.go(path).get_by_role("row").filter(has_text=name)
        row.get_by_role("button", name=f"Remove {name}").click(timeout=SOON)
        _confirmed(page)
        expect(row).to_have_count(0, timeout=SOON)
    assert engine.volumes.list() == ()


@pytest.mark.parametrize("width", [390, 1440])
def test_the_fields_for_addresses_fit(visit: Visit, pictures: Path, width: int) -> None:
    """Of both families, in the launch form and where a container is connected."""
    person = visit("demo", viewport={"width": width, "height": 1600})
    id = person.launch("recipe:busybox", f"e2e-at-{width}", command="sleep 100000")
    page = person.go("/networks/")
    page.get_by_label("Name").fill(f"e2e-six-{width}")
    page.get_by_label("IPv6").check()
    page.get_by_role("button", name="Make it").click()
    row = page.get_by_role("row").filter(has_text=f"e2e-six-{width}")
    expect(row).to_contain_text("Ready", timeout=SOON)
    for path, name in (("/catalog/launch/?item=recipe:busybox", "launch"), (f"/containers/{id}/?tab=change", "change")):
        page = person.go(path)
        if name == "launch":
            page.locator(".more-options summary").click()
        expect(page.get_by_label("Fixed IPv6 address")).to_be_visible()
        _axe_finds_nothing(page)
        assert not page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth")
        page.screenshot(path=pictures / f"addresses-{name}-{width}.png", full_page=True)
    person.go(f"/containers/{id}/").get_by_role("button", name="Remove").click()
    _confirmed(page)
    expect(page).to_have_url(person.stack.url + "containers/")
    person.go("/networks/").get_by_role("button", name=f"Remove e2e-six-{width}").click(timeout=SOON)
    _confirmed(page)
    expect(row).to_have_count(0, timeout=SOON)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_unfolded_form_fits(visit: Visit, pictures: Path, width: int, scheme: str) -> None:
    page = visit("demo", viewport={"width": width, "height": 1600}, color_scheme=scheme).go(
        "/catalog/launch/?item=recipe:busybox"
    )
    page.locator(".more-options summary").click()
    page.get_by_role("button", name="Add a volume").click()
    page.get_by_label("Kind").select_option("http")
    page.get_by_role("button", name="Add a label").click()
    _axe_finds_nothing(page)
    assert not page.evaluate("() => document.documentElement.scrollWidth > window.innerWidth")
    page.screenshot(path=pictures / f"launch-more-{width}-{scheme}.png", full_page=True)
