"""Usage by the labels that containers had when it was metered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from console.accounts.models import Tenant
from console.metering.models import Resource


@dataclass(frozen=True, slots=True)
class Label:
    name: str
    value: str
    """Empty: of what has no such label, or an empty one."""

    def __str__(self) -> str:
        return f"{self.name}={self.value}"

    @classmethod
    def told(cls, text: str) -> Label | None:
        """``name=value``; None where there is no name.  A value's spaces are its own."""
        name, _sign, value = text.partition("=")
        return cls(name.strip(), value) if name.strip() else None


def names(tenant: Tenant | None) -> list[str]:
    """Of all labels that something metered has had, in order."""
    found = _of(tenant).exclude(labels={}).values_list("labels", flat=True).distinct()
    return sorted({name for labels in found.iterator(chunk_size=2000) for name in labels})


def values(tenant: Tenant | None, name: str) -> dict[str, str]:
    """Resource -> its value of the label, for those that have it.  A path into JSON would take some names apart."""
    found = _of(tenant).exclude(labels={}).values_list("pk", "labels")
    return {pk: str(labels[name]) for pk, labels in found.iterator(chunk_size=2000) if labels.get(name)}


def only(found: QuerySet[Any], tenant: Tenant | None, label: Label | None) -> QuerySet[Any]:
    """Of what refers to resources that which has the label; None: all of it."""
    if label is None:
        return found
    known = values(tenant, label.name)
    if not label.value:
        return found.exclude(resource__in=list(known))
    return found.filter(resource__in=[pk for pk, value in known.items() if value == label.value])


def _of(tenant: Tenant | None) -> QuerySet[Resource]:
    return Resource.objects.all() if tenant is None else Resource.objects.of(tenant)
