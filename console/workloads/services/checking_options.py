"""Options of a launch that the runtime itself judges: each is asked about alone, so that each problem lands on its field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from django.utils.translation import gettext as _

from console.accounts.models import Tenant
from console.core.errors import Invalid, person
from console.workloads.services.requests import LaunchRequest
from runtime import validation
from runtime.api import ContainerSpec, Limits
from runtime.errors import InvalidSpec, LimitExceeded

BARE = ContainerSpec(id="cnobody", tenant="tnobody", name="nobody", image="")
LONGEST = {"user": 100, "working_dir": 1000}


def check_with(field: str, **options: Any) -> None:
    """Raises Invalid on ``field`` with what the runtime says of these options of a spec."""
    try:
        validation.check(replace(BARE, **options))
    except (InvalidSpec, LimitExceeded) as fault:
        said = person(fault)
        raise Invalid(field, f"{said.message} {said.hint}") from None


def _check_labels(_tenant: Tenant, request: LaunchRequest) -> None:
    check_with("labels", labels=dict(request.labels))
    if any("\0" in value for value in request.labels.values()):
        raise Invalid("labels", _("A zero byte cannot be part of it."))


def _check_disk(_tenant: Tenant, request: LaunchRequest) -> None:
    check_with("disk", limits=Limits(disk_bytes=request.disk_bytes))


def _check_health(_tenant: Tenant, request: LaunchRequest) -> None:
    check_with("health", health=request.health)


def _check_hostname(_tenant: Tenant, request: LaunchRequest) -> None:
    check_with("hostname", hostname=request.hostname or None)


def _check_user(_tenant: Tenant, request: LaunchRequest) -> None:
    check_with("user", user=request.user)
    _check_length("user", request.user)


def _check_working_dir(_tenant: Tenant, request: LaunchRequest) -> None:
    check_with("working_dir", working_dir=request.working_dir or None)
    _check_length("working_dir", request.working_dir)


def _check_length(field: str, text: str) -> None:
    most = LONGEST[field]
    if len(text) > most:
        raise Invalid(field, _("This is too long: %(most)d characters at most.") % {"most": most})


TESTS = (_check_labels, _check_disk, _check_health, _check_hostname, _check_user, _check_working_dir)
