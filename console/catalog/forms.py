"""The launch form: what a person types, into a LaunchRequest; every mistake lands on its field."""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass, field

from django.http import QueryDict
from django.utils.translation import gettext as _

from console.accounts.models import Tenant
from console.catalog import options, selectors
from console.catalog.options import Options
from console.catalog.selectors import CatalogItem
from console.core.errors import Full, Invalid
from console.workloads.models import Container
from console.workloads.services import LaunchRequest, PortRequest, check, suggest_name

KIB, MIB = 2**10, 2**20
FIELDS = ("name", "image", "command", "environment", "ports", "memory", "cpu", "pids", "restart", *options.FIELDS)


@dataclass(slots=True)
class VariableRow:
    name: str
    value: str = ""
    help: str = ""
    required: bool = False
    secret: bool = False


@dataclass(slots=True)
class PortRow:
    container_port: str
    host_port: str = ""
    protocol: str = "tcp"


@dataclass(slots=True)
class LaunchForm:
    """The form's texts as they stand, so that it comes back as it was typed."""

    item: CatalogItem | None
    name: str = ""
    image: str = ""
    command: str = ""
    memory: str = "256"
    """MiB."""
    cpu: str = "1"
    pids: str = "256"
    terminal: bool = False
    restart: str = "no"
    retries: str = ""
    variables: list[VariableRow] = field(default_factory=list)
    ports: list[PortRow] = field(default_factory=list)
    options: Options = field(default_factory=Options)
    errors: dict[str, str] = field(default_factory=dict)
    wrong_parts: set[str] = field(default_factory=set)
    """Inputs of a field with several that are wrong, by their names, where it is known."""

    def blank(self, tenant: Tenant) -> LaunchForm:
        """With the item's sensible defaults."""
        item = self.item
        if item is None:
            self.name = suggest_name(
                tenant, self.image.rsplit("/", 1)[-1].split(":")[0].split("@")[0] if self.image else "container"
            )
            return self
        self.name = suggest_name(tenant, item.recipe or item.title)
        self.image = item.image
        self.memory, self.cpu, self.pids = f"{item.memory_bytes // MIB}", f"{item.cpu_millis / 1000:g}", f"{item.pids}"
        self.variables = [
            VariableRow(
                row.name, secrets.token_urlsafe(12) if row.generate else row.default, row.help, row.required, row.secret
            )
            for row in item.environment
        ]
        self.ports = [PortRow(str(port)) for port in item.ports]
        return self

    def like(self, container: Container, tenant: Tenant) -> LaunchForm:
        """As another container was launched, under a name of its own; a node's port is kept where that one has left it."""
        self.name = suggest_name(tenant, container.name)
        self.image, self.command, self.terminal = (
            container.image_reference, shlex.join(container.command), container.terminal
        )  # fmt: skip
        self.memory = f"{container.memory_bytes / MIB:g}"
        self.cpu, self.pids = f"{container.cpu_millis / 1000:g}", f"{container.pids}"
        self.restart, self.retries = container.restart_policy, str(container.restart_retries or "")
        self.options.like(container)
        known = {row.name: row for row in self.item.environment} if self.item else {}
        self.variables = [
            VariableRow(name, value, known[name].help if name in known else "",
                        name in known and known[name].required, name in known and known[name].secret)
            for name, value in container.environment.items()
        ]  # fmt: skip
        self.ports = [
            PortRow(str(port.container_port), str(port.requested_port or "") if port.released_at else "", port.protocol)
            for port in container.ports.order_by("pk")
        ]
        return self

    def fill(self, data: QueryDict) -> LaunchForm:
        helps = {row.name: row for row in self.item.environment} if self.item else {}
        for name in ("name", "image", "command", "memory", "cpu", "pids", "retries"):
            setattr(self, name, data.get(name, "").strip())
        self.restart = data.get("restart", "no")
        self.terminal = "terminal" in data
        if "options" in data:
            self.options.fill(data)
        self.variables = [
            VariableRow(name.strip(), value, known.help if (known := helps.get(name)) else "",
                        bool(known and known.required), bool(known and known.secret))
            for name, value in zip(data.getlist("variable_name"), data.getlist("variable_value"), strict=False)
            if name.strip() or value
        ]  # fmt: skip
        self.ports = [
            PortRow(inner.strip(), outer.strip(), protocol)
            for inner, outer, protocol in zip(
                data.getlist("container_port"), data.getlist("host_port"), data.getlist("protocol"), strict=False
            )
            if inner.strip() or outer.strip()
        ]
        return self

    def request(self, tenant: Tenant) -> LaunchRequest | None:
        """None when something is wrong; ``errors`` says what."""
        item = self.item
        found = LaunchRequest(
            name=self.name,
            recipe=item.recipe if item else "",
            image="" if item and item.recipe else self.image,
            registry=(item.registry if item else None) or selectors.registry_for(tenant, self.image),
            command=self.command,
            environment={row.name: row.value for row in self.variables},
            ports=tuple(self._ports()),
            memory_bytes=round(self._number("memory", self.memory, _("Write a number of MiB.")) * KIB) * KIB,
            cpu_millis=round(self._number("cpu", self.cpu, _("Write a number of vCPU, such as 0.5.")) * 1000),
            pids=self._whole("pids", self.pids, _("Write a whole number.")),
            terminal=self.terminal,
            restart=self.restart,
            restart_retries=self._retries(),
            **self.options.request(self.errors),
        )
        for refused in check(tenant, found).values():
            if refused.field not in self.errors:
                self.refuse(refused)
        return None if self.errors else found

    def refuse(self, refused: Invalid | Full) -> None:
        """What a service says of it, on its field."""
        self.errors[refused.field] = refused.message
        if isinstance(refused, Invalid) and refused.part:
            self.wrong_parts.add(refused.part)

    def reserved(self) -> dict[str, int] | None:
        """Of what the price is, as :func:`console.metering.selectors.spending.price` takes it; None where a limit is no number."""
        on_disk = self.options.reserved()
        try:
            memory, cpu = float(self.memory), float(self.cpu)
        except ValueError:
            return None
        if on_disk is None or not 0 <= memory < 2**40 or not 0 <= cpu < 2**20:
            return None
        held = {"memory_bytes": round(memory * KIB) * KIB, "cpu_millis": round(cpu * 1000), "ports": len(self.ports)}
        return held | on_disk

    def _number(self, name: str, text: str, problem: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = -1
        if not 0 <= value < 2**40:
            self.errors[name] = problem
            return 1
        return value

    def _whole(self, name: str, text: str, problem: str) -> int:
        value = self._number(name, text, problem)
        if value % 1:
            self.errors[name] = problem
        return int(value)

    def _retries(self) -> int | None:
        if not self.retries or self.restart != "on-failure":
            return None
        return self._whole("restart", self.retries, _("Write a whole number of retries, or leave it empty."))

    def _ports(self) -> list[PortRequest]:
        found = []
        for row in self.ports:
            try:
                found.append(
                    PortRequest(int(row.container_port), int(row.host_port) if row.host_port else None, row.protocol)
                )
            except ValueError:
                self.errors["ports"] = _("Ports are whole numbers from 1 to 65535.")
        return found

    @property
    def unfolded(self) -> bool:
        """Whether the part for more is open: something in it was chosen, or is wrong."""
        return not self.options.plain or any(name in self.errors for name in options.FIELDS)

    @property
    def policies(self) -> list[tuple[str, str]]:
        return [(value, str(label)) for value, label in Container.RestartPolicy.choices]

    @property
    def elsewhere(self) -> list[str]:
        """What is wrong with no field of the form."""
        return [text for key, text in self.errors.items() if key not in FIELDS]
