"""The home page: what the node offers, what runs on it, what can be launched, and what needs a look."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from console.accounts.models import Role
from console.catalog import selectors as catalog
from console.core.requests import may, person
from console.operations import selectors as operations
from console.workloads import selectors


def home(request: HttpRequest) -> HttpResponse:
    tenant = person(request).tenant
    if tenant is None:
        return render(request, "no_tenant.html")
    return render(
        request,
        "home.html",
        {
            "counts": selectors.counts(tenant),
            "containers": selectors.containers(tenant, state="running")[:6],
            "share": selectors.share(tenant),
            "attention": selectors.needs_attention(tenant),
            "items": catalog.items(tenant)[:8],
            "operations": operations.operations(tenant)[:6],
            "may_launch": may(request, Role.MEMBER),
        },
    )
