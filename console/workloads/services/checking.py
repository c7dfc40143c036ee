"""What is wrong with a request by itself: field -> refusal.  Quotas are looked at when it is carried out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable

from django.conf import settings
from django.utils.translation import gettext as _

from console.accounts.models import Tenant
from console.core.errors import Invalid, person
from console.workloads.models import Container, PublishedPort
from console.workloads.services import checking_options, checking_places
from console.workloads.services.naming import check_free
from console.workloads.services.requests import MIB, LaunchRequest, LimitsRequest, PortRequest
from runtime.errors import InvalidSpec
from runtime.image.recipe import recipe
from runtime.image.reference import BUILT_IN, Reference
from runtime.validation import LEAST_CPU_MILLIS, LEAST_MEMORY, MOST_PIDS, node_memory
from runtime.validation_life import MOST_RETRIES
from runtime.validation_words import ENVIRONMENT_NAME

Test = Callable[[Tenant, LaunchRequest], None]


def check(tenant: Tenant, request: LaunchRequest) -> dict[str, Invalid]:
    """Field -> the first refusal of it, for everything that is wrong with the request itself; quotas are checked by launch."""
    problems: dict[str, Invalid] = {}
    tests: tuple[Test, ...] = (
        _check_name,
        _check_image,
        _check_command,
        _check_entrypoint,
        _check_environment,
        check_ports,
        *_LIMITS,
        _check_restart,
        *checking_options.TESTS,
        *checking_places.TESTS,
    )
    for test in tests:
        try:
            test(tenant, request)
        except Invalid as refused:
            problems.setdefault(refused.field, refused)
    return problems


def check_limits(container: Container, limits: LimitsRequest) -> None:
    """Of what is there already.  Raises Invalid for the first that cannot be."""
    asked = LaunchRequest(
        container.name, recipe=container.recipe, memory_bytes=limits.memory_bytes, cpu_millis=limits.cpu_millis,
        pids=limits.pids, init=container.init,
    )  # fmt: skip
    for test in _LIMITS:
        test(container.tenant, asked)


def _check_name(tenant: Tenant, request: LaunchRequest) -> None:
    check_free(tenant, request.name)


def _check_image(_tenant: Tenant, request: LaunchRequest) -> None:
    if request.recipe:
        if recipe(request.recipe) is None:
            raise Invalid("image", _("There is no such application in the catalog."))
        return
    try:
        built_in = Reference.parse(request.image).registry == BUILT_IN
    except InvalidSpec as fault:
        said = person(fault)
        raise Invalid("image", f"{said.message} {said.hint}") from None
    if built_in:
        raise Invalid("image", _("Built-in applications are launched from the catalog."))


def words(command: str, field: str = "command") -> list[str]:
    """As a shell splits it.  Raises Invalid."""
    if "\0" in command:
        raise Invalid(field, _("A zero byte cannot be part of a command."))
    try:
        return shlex.split(command)
    except ValueError:
        raise Invalid(field, _("A quotation mark is not closed.")) from None


def _check_command(_tenant: Tenant, request: LaunchRequest) -> None:
    words(request.command)


def _check_entrypoint(_tenant: Tenant, request: LaunchRequest) -> None:
    words(request.entrypoint, "entrypoint")


def _check_environment(_tenant: Tenant, request: LaunchRequest) -> None:
    for name, value in request.environment.items():
        if not ENVIRONMENT_NAME.fullmatch(name):
            raise Invalid(
                "environment",
                _("%(name)s is not a name for a variable: use letters, digits and underscores.") % {"name": name},
            )
        if "\0" in value:
            raise Invalid("environment", _("The value of %(name)s has a zero byte.") % {"name": name})
    known = recipe(request.recipe)
    for variable in known.environment if known else ():
        if variable.required and not request.environment.get(variable.name):
            raise Invalid("environment", _("%(name)s is required.") % {"name": variable.name})


def check_ports(_tenant: Tenant, request: LaunchRequest) -> None:
    seen: set[tuple[str, int]] = set()
    for port in request.ports:
        if port.protocol not in {"tcp", "udp"}:
            raise Invalid("ports", _("The protocol is neither tcp nor udp."))
        for number in (port.container_port, 1 if port.host_port is None else port.host_port):
            if not 1 <= number <= 65535:
                raise Invalid("ports", _("%(port)d is not a port: they go from 1 to 65535.") % {"port": number})
        if port.host_port is None:
            continue
        if (port.protocol, port.host_port) in seen:
            raise Invalid("ports", _("Port %(port)d of the node is given twice.") % {"port": port.host_port})
        own = port.protocol == "tcp" and port.host_port == settings.PORT  # also while nobody listens, as in an upgrade
        if own or _port_owner(port) is not None:
            raise Invalid(
                "ports",
                _("Port %(port)d of the node is taken: choose another, or leave it empty.") % {"port": port.host_port},
            )
        seen.add((port.protocol, port.host_port))


def _port_owner(port: PortRequest) -> PublishedPort | None:
    taken = PublishedPort.objects.filter(protocol=port.protocol, host_port=port.host_port, released_at__isnull=True)
    return taken.first()


def _check_memory(_tenant: Tenant, request: LaunchRequest) -> None:
    known = recipe(request.recipe)
    least = max(LEAST_MEMORY, known.memory_needed if known else 0)
    if request.memory_bytes < least:
        raise Invalid("memory", _("This image needs at least %(mib)d MiB of memory.") % {"mib": least // MIB})
    if request.memory_bytes > node_memory():
        raise Invalid("memory", _("The node has only %(mib)d MiB of memory.") % {"mib": node_memory() // MIB})


def _check_cpu(_tenant: Tenant, request: LaunchRequest) -> None:
    cpus = os.cpu_count() or 1
    if not LEAST_CPU_MILLIS <= request.cpu_millis <= cpus * 1000:
        raise Invalid("cpu", _("Choose from 0.01 to %(cpus)d vCPU: the node has no more.") % {"cpus": cpus})


def _check_pids(_tenant: Tenant, request: LaunchRequest) -> None:
    if not 1 <= request.pids <= MOST_PIDS:
        raise Invalid("pids", _("Choose from 1 to %(most)d processes.") % {"most": MOST_PIDS})
    if request.init and request.pids < 2:
        raise Invalid("pids", _("The init and the program are two processes: choose 2 or more."))


_LIMITS: tuple[Test, ...] = (_check_memory, _check_cpu, _check_pids)


def _check_restart(_tenant: Tenant, request: LaunchRequest) -> None:
    if request.restart not in Container.RestartPolicy.values:
        raise Invalid("restart", _("Choose one of the restart policies."))
    if request.restart_retries is None:
        return
    if request.restart != "on-failure":
        raise Invalid("restart", _("Only the policy for failures counts its retries: leave them empty."))
    if not 1 <= request.restart_retries <= MOST_RETRIES:
        raise Invalid("restart", _("Choose from 1 to %(most)d retries, or leave it empty.") % {"most": MOST_RETRIES})
