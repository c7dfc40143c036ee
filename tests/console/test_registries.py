"""Registries and their entries: who may, what is refused on which field, and a password that nobody ever reads again."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from django.core.management import call_command
from django.test import Client

from console.accounts.models import AuditEvent, Membership, Role, Tenant, User
from console.catalog import selectors, services
from console.catalog.models import Registry, Repository
from console.core import secrets
from console.operations import images
from runtime.api import Credentials, no_progress

pytestmark = pytest.mark.django_db
HOST = "images.acme.test:5000"
SECRET = "open sesame"


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def registry(tenant: Tenant, owner: User) -> Registry:
    return services.add_registry(tenant=tenant, actor=owner, host=HOST, name="Ours", username="robot", password=SECRET)


@pytest.fixture
def repository(tenant: Tenant, owner: User, registry: Registry) -> Repository:
    return services.add_repository(tenant=tenant, actor=owner, registry=registry, name="team/app", title="Our app")


def test_the_password_is_stored_encrypted_and_rendered_nowhere(
    owner: User, registry: Registry, repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    registry.refresh_from_db()
    stored = bytes(registry.password_encrypted)
    assert SECRET.encode() not in stored
    assert secrets.decrypt(stored) == SECRET
    client = signed_in(owner)
    for path in ("/catalog/registries/", "/catalog/", f"/catalog/launch/?item=repository:{repository.id}", "/audit/"):
        page = client.get(path).content.decode()
        assert SECRET not in page
        assert stored.decode() not in page
    assert SECRET not in str([event.data for event in AuditEvent.objects.all()])
    call_command("dumpdata", "catalog")
    assert SECRET not in capsys.readouterr().out


def test_a_form_that_is_refused_comes_back_without_its_password(owner: User) -> None:
    typed = {"host": "https://registry.example.org/", "name": "Kept", "username": "robot", "password": SECRET}
    answer = signed_in(owner).post("/catalog/registries/add/", typed)
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "host name" in page
    assert 'value="Kept"' in page
    assert 'value="https://registry.example.org/"' in page
    assert SECRET not in page
    assert not Registry.objects.exists()


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        ({"host": ""}, "host"),
        ({"host": "registry.example.org/team"}, "host"),
        ({"host": "user:secret@registry.example.org"}, "host"),
        ({"host": "registry.example.org:port"}, "host"),
        ({"host": f"{'a' * 255}.example.org"}, "host"),
        ({"host": "registry.example.org:65536"}, "host"),
        ({"host": "slipway.local"}, "host"),
        ({"host": "localhost:5000"}, "host"),
        ({"host": "127.0.0.1:5000"}, "host"),
        ({"host": "[::1]:5000"}, "host"),
        ({"name": "n" * 81}, "name"),
        ({"username": "robot"}, "password"),
        ({"password": SECRET}, "password"),
        ({"username": "u" * 256, "password": SECRET}, "username"),
    ],
)
def test_what_is_wrong_with_a_registry_is_said_on_its_field(owner: User, typed: dict[str, str], where: str) -> None:
    answer = signed_in(owner).post("/catalog/registries/add/", {"host": "registry.example.org", **typed})
    assert answer.status_code == 422
    assert set(answer.context["errors"]) == {where}
    assert not Registry.objects.exists()


@pytest.mark.usefixtures("registry")
def test_a_host_is_in_the_list_once(owner: User) -> None:
    answer = signed_in(owner).post("/catalog/registries/add/", {"host": HOST})
    assert set(answer.context["errors"]) == {"host"}
    assert Registry.objects.count() == 1


@pytest.mark.parametrize(
    ("typed", "where"),
    [
        ({"title": " "}, "title"),
        ({"title": "t" * 81}, "title"),
        ({"name": "Team/App"}, "name"),
        ({"name": "../app"}, "name"),
        ({"tag": "no tag"}, "tag"),
        ({"port": "eighty"}, "port"),
        ({"port": "65536"}, "port"),
        ({"port": "9" * 40}, "port"),
        ({"port": "²"}, "port"),
    ],
)
def test_what_is_wrong_with_an_entry_is_said_on_its_field(
    owner: User, registry: Registry, typed: dict[str, str], where: str
) -> None:
    honest = {"title": "Our app", "name": "team/app", "tag": "1", "port": "80", "registry": registry.id}
    answer = signed_in(owner).post("/catalog/repositories/add/", {**honest, **typed})
    assert answer.status_code == 422
    assert set(answer.context["errors"]) == {where}
    assert not Repository.objects.exists()


def test_an_entry_is_in_the_catalog_and_its_launch_uses_the_registry(
    tenant: Tenant, owner: User, registry: Registry
) -> None:
    data = {"title": "Our app", "name": "team/app", "tag": "1", "port": "8080", "registry": registry.id}
    assert signed_in(owner).post("/catalog/repositories/add/", data).status_code == 302
    item = next(item for item in selectors.items(tenant) if item.key.startswith("repository:"))
    assert (item.image, item.ports, item.registry) == (f"{HOST}/team/app:1", (8080,), registry)


# ------------------------------------------------------------------------------------------------ credentials


def test_credentials_are_changed_without_losing_the_entries(
    owner: User, registry: Registry, repository: Repository
) -> None:
    client, path = signed_in(owner), f"/catalog/registries/{registry.id}/credentials/"
    assert client.post(path, {"username": "robot", "password": "open barley"}).status_code == 302
    registry.refresh_from_db()
    assert secrets.decrypt(bytes(registry.password_encrypted)) == "open barley"
    assert client.post(path, {"username": "robot", "password": ""}).status_code == 302, "unchanged"
    registry.refresh_from_db()
    assert secrets.decrypt(bytes(registry.password_encrypted)) == "open barley"
    assert client.post(path, {"username": "another", "password": ""}).status_code == 422, "whose password?"
    assert client.post(path, {"username": "", "password": ""}).status_code == 302, "public now"
    registry.refresh_from_db()
    assert (registry.username, bytes(registry.password_encrypted)) == ("", b"")
    assert Repository.objects.get() == repository


@dataclass
class Asked:
    """Stands where an engine would, and keeps what it was asked with."""

    credentials: list[Credentials | None] = field(default_factory=list)
    insecure: list[bool] = field(default_factory=list)
    confined: list[bool] = field(default_factory=list)

    def pull(
        self, _reference: str, *, credentials: Credentials | None, insecure: bool, confined: bool, **_: object
    ) -> None:
        self.credentials.append(credentials)
        self.insecure.append(insecure)
        self.confined.append(confined)
        raise InterruptedError


def test_the_engine_gets_the_credentials_in_clear_and_shows_none(tenant: Tenant, registry: Registry) -> None:
    engine = Asked()
    with pytest.raises(InterruptedError):
        images.pulled(engine, tenant, f"{HOST}/team/app:1", registry, no_progress)  # type: ignore[arg-type]
    assert engine.credentials == [Credentials("robot", SECRET)]
    assert engine.insecure == [False]
    assert SECRET not in repr(engine.credentials)


def test_only_what_the_nodes_admin_chose_may_lie_on_the_node(
    tenant: Tenant, owner: User, admin: User, registry: Registry, settings: object
) -> None:
    """The engine is told whether a tenant's own choice leads it."""
    Membership.objects.create(user=admin, tenant=tenant, role=Role.OWNER)
    by_admin = services.add_registry(tenant=tenant, actor=admin, host="localhost:5000", name="On the node")
    shared = Registry.objects.create(tenant=None, host="all.example.org", name="Everybody's")
    settings.DEFAULT_REGISTRY = "127.0.0.1:5001"  # type: ignore[attr-defined]
    engine = Asked()
    for one, reference in (
        (registry, f"{HOST}/app"),
        (None, "127.0.0.1:6379/app"),
        (by_admin, "localhost:5000/app"),
        (shared, "all.example.org/app"),
        (None, "127.0.0.1:5001/app"),
    ):
        with pytest.raises(InterruptedError):
            images.pulled(engine, tenant, reference, one, no_progress)  # type: ignore[arg-type]
    assert engine.confined == [True, True, False, False, False]


@pytest.mark.parametrize(
    ("host", "image"),
    [("docker.io", "nginx"), ("index.docker.io", "team/app:1"), ("Registry.Example.org", "registry.EXAMPLE.org/app")],
)
def test_a_reference_finds_its_registrys_credentials_however_it_is_written(
    tenant: Tenant, owner: User, host: str, image: str
) -> None:
    made = services.add_registry(tenant=tenant, actor=owner, host=host, name="", username="robot", password=SECRET)
    assert selectors.registry_for(tenant, image) == made


def test_a_built_in_image_is_not_launched_by_its_name(owner: User) -> None:
    """Else whoever answers to that name in the network would be asked for it."""
    typed = {"name": "x", "image": "slipway.local/nginx", "memory": "64", "cpu": "1", "pids": "64"}
    answer = signed_in(owner).post("/catalog/launch/", typed)
    assert answer.status_code == 422
    assert set(answer.context["form"].errors) == {"image"}


def test_a_tenants_own_registry_goes_before_everybodys(tenant: Tenant, outsider: User, registry: Registry) -> None:
    everybodys = Registry.objects.create(tenant=None, host=HOST, name="Everybody's")
    assert selectors.registry_of(tenant, HOST) == registry
    assert selectors.registry_of(Tenant.objects.get(slug="other"), HOST) == everybodys


# ------------------------------------------------------------------------------------------------ who may


def test_members_and_viewers_see_and_do_not_change(
    member: User, viewer: User, registry: Registry, repository: Repository
) -> None:
    for person in (member, viewer):
        client = signed_in(person)
        page = client.get("/catalog/registries/").content.decode()
        assert HOST in page
        assert '<form method="post" action="/catalog' not in page
        assert client.post("/catalog/registries/add/", {"host": "other.example.org"}).status_code == 403
        assert client.post(f"/catalog/registries/{registry.id}/credentials/", {}).status_code == 403
        assert client.post(f"/catalog/registries/{registry.id}/remove/").status_code == 403
        assert client.post("/catalog/repositories/add/", {"title": "x", "name": "x"}).status_code == 403
        assert client.post(f"/catalog/repositories/{repository.id}/remove/").status_code == 403
    assert Registry.objects.get() == registry
    assert Repository.objects.get() == repository


def test_an_outsider_finds_nothing(outsider: User, registry: Registry, repository: Repository) -> None:
    client = signed_in(outsider)
    for path in ("/catalog/registries/", "/catalog/"):
        page = client.get(path).content.decode()
        assert HOST not in page
        assert "Our app" not in page
    assert client.get(f"/catalog/launch/?item=repository:{repository.id}").status_code == 404
    assert client.get(f"/catalog/card/repository:{repository.id}/").status_code == 404
    assert client.post(f"/catalog/registries/{registry.id}/credentials/", {}).status_code == 404
    assert client.post(f"/catalog/registries/{registry.id}/remove/").status_code == 404
    assert client.post(f"/catalog/repositories/{repository.id}/remove/").status_code == 404
    theirs = {"title": "x", "name": "x", "registry": registry.id}
    assert client.post("/catalog/repositories/add/", theirs).status_code == 404
    assert Registry.objects.get() == registry
    assert Repository.objects.get() == repository


def test_everybodys_registry_is_the_admins_to_change(owner: User, admin: User, tenant: Tenant) -> None:
    shared = Registry.objects.create(tenant=None, host=HOST, name="Everybody's")
    assert signed_in(owner).post(f"/catalog/registries/{shared.id}/remove/").status_code == 404
    assert signed_in(owner).post(f"/catalog/registries/{shared.id}/credentials/", {}).status_code == 404
    services.remove_registry(registry=shared, actor=admin)
    assert not Registry.objects.exists()


def test_a_null_character_is_refused_wherever_it_is_typed(owner: User) -> None:
    client = signed_in(owner)
    assert client.post("/catalog/registries/add/", {"host": "a.example.org", "name": "a\0b"}).status_code == 400
    assert client.get("/containers/", {"q": "a\0b"}).status_code == 400
    assert not Registry.objects.exists()
