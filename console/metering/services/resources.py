"""What is metered, as it is called and labelled now; a new name or label makes a new row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

from console.accounts.models import Tenant
from console.metering.models import Resource
from console.workloads.models import Container

NONE: Mapping[str, str] = {}


def described(
    tenant: Tenant,
    kind: Resource.Kind,
    identity: str,
    name: str,
    node: str,
    *,
    image: str = "",
    labels: Mapping[str, str] = NONE,
) -> Resource:
    """Not stored yet; its id follows from what it says, as it did before there were labels where it has none."""
    said: list[object] = [tenant.pk, tenant.slug, tenant.name, str(kind), identity, name, image, node]
    said += [sorted(labels.items())] if labels else []
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
        labels=dict(sorted(labels.items())),
    )


def of_container(container: Container) -> Resource:
    """Not stored yet.  ``container.tenant`` should have been fetched with it."""
    return described(
        container.tenant, Resource.Kind.CONTAINER, container.pk, container.name, container.node,
        image=container.image_reference, labels=container.labels,
    )  # fmt: skip


def store(resources: Iterable[Resource]) -> None:
    """Mostly they are there already."""
    fresh = {resource.pk: resource for resource in resources}
    for one in Resource.objects.filter(pk__in=fresh).values_list("pk", flat=True):
        del fresh[one]
    Resource.objects.bulk_create(fresh.values(), ignore_conflicts=True, batch_size=500)
