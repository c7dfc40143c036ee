"""What can be launched: built-in applications and repositories of registries, as one kind of thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.conf import settings
from django.db.models import F, Q, QuerySet
from django.utils.translation import get_language

from console.accounts.models import Tenant
from console.catalog.models import Registry, Repository
from console.core.errors import Missing
from console.operations import selectors as operations
from console.operations.models import Operation
from console.workloads.models import Image
from runtime.errors import InvalidSpec
from runtime.image.recipe import Recipe, recipe, recipes
from runtime.image.reference import Reference


@dataclass(frozen=True, slots=True)
class Variable:
    name: str
    default: str = ""
    help: str = ""
    required: bool = False
    secret: bool = False
    generate: bool = False


@dataclass(frozen=True, slots=True)
class CatalogItem:
    """``key`` is ``recipe:<slug>`` or ``repository:<id>``; ``state`` is ready, building or not-built."""

    key: str
    title: str
    summary: str
    description: str
    category: str
    tags: tuple[str, ...]
    reference: str
    icon: str = ""
    """Slug of a built-in icon, or empty."""
    ports: tuple[int, ...] = ()
    environment: tuple[Variable, ...] = ()
    memory_bytes: int = 256 * 2**20
    memory_needed: int = 0
    cpu_millis: int = 1000
    pids: int = 256
    state: str = "ready"
    build: Operation | None = None
    registry: Registry | None = None
    recipe: str = ""
    image: str = ""
    layers: tuple[Mapping[str, Any], ...] = field(default=())


def _text(by_language: Mapping[str, str] | None) -> str:
    table = by_language or {}
    language = "zh-hans" if (get_language() or "").startswith("zh") else "en"
    return table.get(language) or table.get("en", "")


def _of_recipe(known: Recipe, built: Mapping[str, Image], builds: Mapping[str, Operation]) -> CatalogItem:
    image, build = built.get(str(known.reference)), builds.get(known.slug)
    return CatalogItem(
        key=f"recipe:{known.slug}",
        title=known.title,
        summary=_text(known.summary),
        description=_text(known.description),
        category=known.category,
        tags=known.tags,
        reference=str(known.reference),
        icon=known.slug,
        ports=tuple(port.port for port in known.ports),
        environment=tuple(
            Variable(row.name, row.default, _text(row.help), row.required, row.secret, row.generate)
            for row in known.environment
        ),
        memory_bytes=known.memory_bytes,
        memory_needed=known.memory_needed,
        cpu_millis=known.cpu_millis,
        pids=known.pids,
        state="building" if build else "ready" if image else "not-built",
        build=build,
        recipe=known.slug,
        layers=tuple(image.layers) if image else (),
    )


def _of_repository(row: Repository) -> CatalogItem:
    image = f"{row.registry.host}/{row.name}:{row.tag}" if row.registry else f"{row.name}:{row.tag}"
    return CatalogItem(
        key=f"repository:{row.id}",
        title=row.title,
        summary=image,
        description=row.description,
        category="registry",
        tags=(row.registry.name,) if row.registry else (),
        reference=image,
        ports=(row.port,) if row.port else (),
        environment=tuple(Variable(**variable) for variable in row.environment),
        memory_bytes=row.memory_bytes,
        cpu_millis=row.cpu_millis,
        registry=row.registry,
        image=image,
    )


def _built() -> dict[str, Image]:
    return {row.reference: row for row in Image.objects.filter(tenant__isnull=True, node=settings.NODE)}


def repositories(tenant: Tenant) -> QuerySet[Repository]:
    return Repository.objects.filter(Q(tenant=tenant) | Q(tenant__isnull=True)).select_related("registry")


def registries(tenant: Tenant) -> QuerySet[Registry]:
    """The tenant's own and everybody's."""
    return Registry.objects.filter(Q(tenant=tenant) | Q(tenant__isnull=True))


def registry(tenant: Tenant, id: str) -> Registry:
    found = registries(tenant).filter(pk=id).first()
    if found is None:
        raise Missing
    return found


def registry_of(tenant: Tenant, host: str) -> Registry | None:
    """Whose credentials a reference to this host uses: the tenant's own before everybody's."""
    return registries(tenant).filter(host=host).order_by(F("tenant_id").desc(nulls_last=True)).first()


def registry_for(tenant: Tenant, image: str) -> Registry | None:
    """Of an image reference as a person types it: without a host it is the default registry's."""
    try:
        return registry_of(tenant, Reference.parse(image).registry)
    except InvalidSpec:
        return None


def items(tenant: Tenant) -> tuple[CatalogItem, ...]:
    built, builds = _built(), operations.open_builds()
    return (
        *(_of_recipe(known, built, builds) for known in recipes()),
        *(_of_repository(row) for row in repositories(tenant)),
    )


def item(tenant: Tenant, key: str) -> CatalogItem:
    """Raises Missing."""
    kind, _, name = key.partition(":")
    if kind == "recipe" and (known := recipe(name)) is not None:
        return _of_recipe(known, _built(), operations.open_builds())
    row = repositories(tenant).filter(pk=name).first() if kind == "repository" else None
    if row is None:
        raise Missing
    return _of_repository(row)
