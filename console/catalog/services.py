"""Registries, repositories, and building the catalog's images."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils.translation import gettext as _

from console.accounts.models import Role, Tenant, User
from console.accounts.services import audit, require
from console.catalog.models import Registry, Repository
from console.core import secrets
from console.core.errors import Invalid, person
from console.operations import services as operations
from console.operations.models import Operation
from console.workloads.models import Image
from runtime.errors import InvalidSpec
from runtime.image.recipe import recipes
from runtime.image.reference import BUILT_IN, Reference, registry_host

if TYPE_CHECKING:
    from django.db.models import Field


@transaction.atomic
def add_registry(
    *, tenant: Tenant, actor: User, host: str, name: str, username: str = "", password: str = "", insecure: bool = False
) -> Registry:
    """The password is stored encrypted and shown to nobody.  Only an admin's may lie on the node itself.

    Raises Missing, NotAllowed, Invalid.
    """
    require(actor, tenant, Role.OWNER)
    host = _host(host, actor)
    _fits(Registry, host=host, name=name, username=username)
    if bool(username) != bool(password):
        raise Invalid("password", _("Give both a user name and a password, or neither."))
    try:
        with transaction.atomic():
            row = Registry.objects.create(
                tenant=tenant,
                host=host,
                name=name or host[:80],
                username=username,
                insecure=insecure,
                trusted=actor.is_superuser,
                password_encrypted=secrets.encrypt(password) if password else b"",
            )
    except IntegrityError:
        raise Invalid("host", _("This registry is in the list already.")) from None
    audit("registry.add", actor=actor, tenant=tenant, target=row.id, host=host)
    return row


def _host(text: str, actor: User) -> str:
    """As references have it.  A name that only turns out to lead to the node is refused when it is pulled from."""
    host = registry_host(text)
    if not host:
        raise Invalid("host", _("Write the registry's host name, with its port if need be, and nothing else."))
    if host == BUILT_IN:
        raise Invalid("host", _("This name is the node's own, for its built-in applications."))
    name = host if host.endswith("]") else host.rpartition(":")[0] or host
    if not actor.is_superuser and (name == "localhost" or re.fullmatch(r"127\.[0-9.]+|\[::1\]|0\.0\.0\.0", name)):
        raise Invalid("host", _("This address is the node itself: only an admin can add a registry there."))
    return host


@transaction.atomic
def change_credentials(*, registry: Registry, actor: User, username: str, password: str) -> None:
    """An empty password keeps the one there is while the user name stays; both empty make the registry a public one.

    Raises Missing, NotAllowed, Invalid.
    """
    _own(actor, registry.tenant)
    _fits(Registry, username=username)
    keeps = bool(username) and not password and username == registry.username
    if not keeps and bool(username) != bool(password):
        raise Invalid("password", _("Give both a user name and a password, or neither."))
    registry.username = username
    if not keeps:
        registry.password_encrypted = secrets.encrypt(password) if password else b""
    registry.save(update_fields=["username", "password_encrypted"])
    audit("registry.credentials", actor=actor, tenant=registry.tenant, target=registry.id, host=registry.host)


def _fits(model: type[Registry | Repository], **texts: str) -> None:
    """Raises Invalid for a text longer than its column."""
    for name, text in texts.items():
        most = cast("Field[str, str]", model._meta.get_field(name)).max_length  # noqa: SLF001 -- Django's documented way
        if most is not None and len(text) > most:
            raise Invalid(name, _("This is too long: %(most)d characters at most.") % {"most": most})


def _own(actor: User, tenant: Tenant | None) -> None:
    """Everybody's rows are the admin's to change."""
    if tenant is not None:
        require(actor, tenant, Role.OWNER)
    elif not actor.is_superuser:
        from console.core.errors import Missing

        raise Missing


@transaction.atomic
def remove_registry(*, registry: Registry, actor: User) -> None:
    _own(actor, registry.tenant)
    audit("registry.remove", actor=actor, tenant=registry.tenant, target=registry.id, host=registry.host)
    registry.delete()


@transaction.atomic
def add_repository(
    *,
    tenant: Tenant,
    actor: User,
    registry: Registry | None,
    name: str,
    title: str,
    tag: str = "latest",
    description: str = "",
    port: int | None = None,
    memory_bytes: int = 256 * 2**20,
    cpu_millis: int = 1000,
) -> Repository:
    """A catalog entry.  Raises Missing, NotAllowed, Invalid."""
    require(actor, tenant, Role.OWNER)
    if not title.strip():
        raise Invalid("title", _("Give the entry a title."))
    _fits(Repository, title=title.strip(), name=name, tag=tag)
    host = registry.host if registry else settings.DEFAULT_REGISTRY
    try:
        Reference.parse(f"{host}/{name}")
    except InvalidSpec as fault:
        raise Invalid("name", person(fault).message) from None
    try:
        Reference.parse(f"{host}/{name}:{tag}")
    except InvalidSpec as fault:
        raise Invalid("tag", person(fault).message) from None
    if port is not None and not 1 <= port <= 65535:
        raise Invalid("port", _("Ports are whole numbers from 1 to 65535."))
    row = Repository.objects.create(
        tenant=tenant,
        registry=registry,
        name=name,
        tag=tag,
        title=title.strip(),
        description=description,
        port=port,
        memory_bytes=memory_bytes,
        cpu_millis=cpu_millis,
    )
    audit("repository.add", actor=actor, tenant=tenant, target=row.id, name=name)
    return row


@transaction.atomic
def remove_repository(*, repository: Repository, actor: User) -> None:
    _own(actor, repository.tenant)
    audit("repository.remove", actor=actor, tenant=repository.tenant, target=repository.id, name=repository.name)
    repository.delete()


def prepare_builtin(slugs: Iterable[str] | None = None, *, actor: User | None = None) -> list[Operation]:
    """Have built-in images built in the background; what is built already or being built is left out."""
    ready = set(Image.objects.filter(tenant__isnull=True, node=settings.NODE).values_list("reference", flat=True))
    wanted = None if slugs is None else set(slugs)
    begun = []
    for known in recipes():
        if str(known.reference) in ready or (wanted is not None and known.slug not in wanted):
            continue
        builds = Operation.objects.filter(kind=Operation.Kind.BUILD, params__recipe=known.slug)
        tries = builds.exclude(state__in=Operation.OPEN)
        with transaction.atomic():
            begun.append(
                operations.submit(
                    tenant=None,
                    actor=actor,
                    kind=Operation.Kind.BUILD,
                    node=settings.NODE,
                    params={"recipe": known.slug},
                    request_key=f"build-{known.slug}-{known.digest[:16]}-{tries.count()}",
                )
            )
    return begun
