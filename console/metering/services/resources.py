"""What is metered, as it is called now; a new name makes a new row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from console.accounts.models import Tenant
from console.metering.models import Resource
from console.workloads.models import Container


def described(tenant: Tenant, kind: Resource.Kind, identity: str, name: str, node: str, *, image: str = "") -> Resource:
    """Not stored yet; its id follows from what it says."""
    said = [tenant.pk, tenant.slug, tenant.name, str(kind), identity, name, image, node]
    return Resource(
        id=hashlib.sha256(json.dumps(said).encode()).hexdigest(),
        tenant=tenant,
        tenant_slug=tenant.slug,
        tenant_name=tenant.name,
        kind=kind,
        identity=identity,
        name=name,
        image=image,
        node=node,
    )


def of_container(container: Container) -> Resource:
    """Not stored yet.  ``container.tenant`` should have been fetched with it."""
    return described(
        container.tenant, Resource.Kind.CONTAINER, container.pk, container.name, container.node,
        image=container.image_reference,
    )  # fmt: skip


def store(resources: Iterable[Resource]) -> None:
    """Mostly they are there already."""
    fresh = {resource.pk: resource for resource in resources}
    for one in Resource.objects.filter(pk__in=fresh).values_list("pk", flat=True):
        del fresh[one]
    Resource.objects.bulk_create(fresh.values(), ignore_conflicts=True, batch_size=500)
