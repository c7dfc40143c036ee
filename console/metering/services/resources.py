"""What is metered, as it is called and labelled now; a new name or label makes a new row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from console.accounts.models import Tenant
from console.metering.models import Resource
from console.workloads.models import Container

NONE: Mapping[str, str] = {}


class Description(NamedTuple):
    """A row of :class:`Resource` that may not be stored yet.  Most that are made are, and a model's instance takes ten times as long."""

    id: str
    tenant_id: str
    tenant_slug: str
    tenant_name: str
    kind: str
    identity: str
    name: str
    image: str
    node: str
    labels: Mapping[str, str]

    @property
    def pk(self) -> str:
        return self.id


def described(
    tenant: Tenant,
    kind: Resource.Kind,
    identity: str,
    name: str,
    node: str,
    *,
    image: str = "",
    labels: Mapping[str, str] = NONE,
) -> Description:
    """Its id follows from what it says, as it did before there were labels where it has none."""
    said: list[object] = [tenant.pk, tenant.slug, tenant.name, kind.value, identity, name, image, node]
    said += [sorted(labels.items())] if labels else []
    id = hashlib.sha256(json.dumps(said).encode()).hexdigest()
    return Description(
        id, tenant.pk, tenant.slug, tenant.name, kind.value, identity, name, image, node, dict(sorted(labels.items()))
    )


def of_container(container: Container) -> Description:
    """``container.tenant`` should have been fetched with it."""
    return described(
        container.tenant, Resource.Kind.CONTAINER, container.pk, container.name, container.node,
        image=container.image_reference, labels=container.labels,
    )  # fmt: skip


def store(found: Iterable[Description]) -> None:
    """Mostly they are there already."""
    fresh = {one.id: one for one in found}
    for id in Resource.objects.filter(pk__in=fresh).values_list("pk", flat=True):
        del fresh[id]
    made = (Resource(**one._asdict()) for one in fresh.values())
    Resource.objects.bulk_create(made, ignore_conflicts=True, batch_size=500)
