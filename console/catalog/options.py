"""The foldable part of the launch form: volumes, networks, health check, labels, disk and the program's surroundings, as they are typed."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import Any

from django.http import QueryDict
from django.utils.translation import gettext as _

from console.core.errors import Invalid
from console.workloads.models import Attachment, Container, Mount
from console.workloads.models.belongings import Belonging
from console.workloads.services import MountRequest, NetworkRequest
from console.workloads.services.checking import words
from console.workloads.services.spec import health_check
from runtime.api import CHECK_KINDS, DEFAULT_NETWORK, HealthCheck

MIB = 2**20
FIELDS = ("volumes", "networks", "health", "labels", "disk", "entrypoint", "user", "working_dir", "hostname")
TEXTS = ("disk", "entrypoint", "user", "working_dir", "hostname")
MOST = 2**40
PLACE_TEXTS = ("aliases", "address", "address6")


@dataclass(slots=True)
class MountRow:
    volume: str = ""
    """Empty: a new one."""
    new: str = ""
    size: str = ""
    """MiB, of a new one."""
    path: str = ""
    read_only: bool = False


@dataclass(slots=True)
class PlaceRow:
    """On one network."""

    aliases: str = ""
    """With spaces between."""
    address: str = ""
    address6: str = ""
    chosen: bool = True
    """False: only something is written beside it."""


@dataclass(slots=True)
class LabelRow:
    name: str
    value: str = ""


@dataclass(slots=True)
class HealthTexts:
    kind: str = ""
    """Empty: the image's own."""
    command: str = ""
    port: str = ""
    path: str = "/"
    interval: str = "30"
    timeout: str = "10"
    retries: str = "3"
    start_period: str = "0"


@dataclass(slots=True)
class Options:
    mounts: list[MountRow] = field(default_factory=list)
    networks: dict[str, PlaceRow] = field(default_factory=lambda: {DEFAULT_NETWORK: PlaceRow()})
    """By name; those that are chosen are first, in the order of the form."""
    health: HealthTexts = field(default_factory=HealthTexts)
    labels: list[LabelRow] = field(default_factory=list)
    disk: str = ""
    """MiB."""
    entrypoint: str = ""
    user: str = ""
    working_dir: str = ""
    hostname: str = ""
    read_only: bool = False
    init: bool = True

    @property
    def plain(self) -> bool:
        """Nothing in it was chosen."""
        return self == Options()

    def like(self, container: Container) -> Options:
        """As another container was launched; what is removed by now would be made anew."""
        self.mounts = [_mount_row(one) for one in container.mounts.select_related("volume")]
        places = container.attachments.select_related("network")
        usable = {one.network.name: _place_row(one) for one in places if one.network.state in Belonging.USABLE}
        self.networks = usable or self.networks
        self.health = _health_texts(health_check(container))
        self.labels = [LabelRow(name, value) for name, value in container.labels.items()]
        self.disk = f"{container.disk_bytes / MIB:g}" if container.disk_bytes else ""
        self.entrypoint = shlex.join(container.entrypoint)
        self.user, self.working_dir, self.hostname = container.user, container.working_dir, container.hostname
        self.read_only, self.init = container.read_only, container.init
        return self

    def fill(self, data: QueryDict) -> Options:
        for name in TEXTS:
            setattr(self, name, data.get(name, "").strip())
        columns = (
            data.getlist(name) for name in ("mount_volume", "mount_new", "mount_size", "mount_path", "mount_mode")
        )
        self.mounts = [
            MountRow(volume.strip(), new.strip(), size.strip(), path.strip(), mode == "ro")
            for volume, new, size, path, mode in zip(*columns, strict=False)
            if volume or new.strip() or path.strip()
        ]
        self.networks = _places(data)
        self.health = HealthTexts(
            **{name: data.get(f"health_{name}", default).strip() for name, default in _health_defaults()}
        )
        pairs = zip(data.getlist("label_name"), data.getlist("label_value"), strict=False)
        self.labels = [LabelRow(name.strip(), value) for name, value in pairs if name.strip() or value]
        self.read_only = "read_only" in data
        self.init = "init" in data
        return self

    def request(self, errors: dict[str, str]) -> dict[str, Any]:
        """Fields of a :class:`~console.workloads.services.LaunchRequest`; what is mistyped is told in ``errors``, and left out."""
        found: dict[str, Any] = {
            "entrypoint": self.entrypoint, "user": self.user, "working_dir": self.working_dir, "hostname": self.hostname,
            "read_only": self.read_only, "init": self.init,
        }  # fmt: skip
        for name, read in (
            ("mounts", self._mounts), ("networks", self._networks), ("health", self._health), ("labels", self._labels), ("disk_bytes", self._disk),
        ):  # fmt: skip
            try:
                found[name] = read()
            except Invalid as told:
                errors[told.field] = str(told)
        return found

    def reserved(self) -> dict[str, int] | None:
        """Of what the price is: ``disk_bytes``, and ``volume_bytes`` of the volumes that are made; None where a size is no number."""
        try:
            made = {row.new: _mebibytes("volumes", row.size) or 0 for row in self.mounts if not row.volume}
            return {"disk_bytes": self._disk() or 0, "volume_bytes": sum(made.values())}
        except Invalid:
            return None

    def _mounts(self) -> tuple[MountRequest, ...]:
        return tuple(
            MountRequest(row.volume or row.new, row.path, row.read_only, make=not row.volume,
                         size_bytes=None if row.volume else _mebibytes("volumes", row.size))
            for row in self.mounts
        )  # fmt: skip

    def _networks(self) -> tuple[NetworkRequest, ...]:
        for name, row in self.networks.items():
            if not row.chosen:
                raise Invalid(
                    "networks", _("Choose the network %(name)s, or empty what is written beside it.") % {"name": name}
                )
        asked = tuple(
            NetworkRequest(name, tuple(row.aliases.split()), row.address, row.address6)
            for name, row in self.networks.items()
        )
        return () if asked == (NetworkRequest(DEFAULT_NETWORK),) else asked

    def _disk(self) -> int | None:
        return _mebibytes("disk", self.disk)

    def _labels(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for row in self.labels:
            if row.name in found:
                raise Invalid("labels", _("The label %(name)s is given twice.") % {"name": row.name})
            found[row.name] = row.value
        return found

    def _health(self) -> HealthCheck | None:
        typed = self.health
        kind = next((one for one in CHECK_KINDS if one == typed.kind), None)
        if kind is None:
            return None
        if kind == "none":
            return HealthCheck("none")
        asks = kind in {"http", "tcp"}
        return HealthCheck(
            kind,
            command=tuple(words(typed.command, "health")) if kind == "command" else (),
            port=_whole("health", typed.port, _("Write the port that the check asks.")) if asks else None,
            path=typed.path or "/",
            interval_s=_number("health", typed.interval, _("Write the interval in seconds.")),
            timeout_s=_number("health", typed.timeout, _("Write the timeout in seconds.")),
            retries=_whole("health", typed.retries, _("Write a whole number of failures.")),
            start_period_s=_number("health", typed.start_period, _("Write the start period in seconds.")),
        )


def _places(data: QueryDict) -> dict[str, PlaceRow]:
    chosen = data.getlist("network")
    beside = [name.partition(":")[2] for name in data if name.startswith(tuple(f"{one}:" for one in PLACE_TEXTS))]
    rows = {
        name: PlaceRow(
            **{one: data.get(f"{one}:{name}", "").strip() for one in PLACE_TEXTS},
            chosen=name in chosen,
        )
        for name in dict.fromkeys([*chosen, *beside])
    }
    return {name: row for name, row in rows.items() if row != PlaceRow(chosen=False)}


def _place_row(place: Attachment) -> PlaceRow:
    """A fixed address is kept where that container has left it."""
    kept = place.container.removed_at is not None
    fixed = (place.requested_address or "", place.requested_address6 or "") if kept else ("", "")
    return PlaceRow(" ".join(place.aliases), *fixed)


def _mount_row(mount: Mount) -> MountRow:
    volume = mount.volume
    if volume.state in Belonging.USABLE:
        return MountRow(volume.name, path=mount.path, read_only=mount.read_only)
    size = f"{volume.size_bytes / MIB:g}" if volume.size_bytes else ""
    return MountRow(new=volume.name, size=size, path=mount.path, read_only=mount.read_only)


def _health_defaults() -> list[tuple[str, str]]:
    plain = HealthTexts()
    return [(name, getattr(plain, name)) for name in HealthTexts.__slots__]


def _health_texts(check: HealthCheck | None) -> HealthTexts:
    if check is None:
        return HealthTexts()
    return HealthTexts(
        check.kind, shlex.join(check.command), str(check.port or ""), check.path, f"{check.interval_s:g}",
        f"{check.timeout_s:g}", str(check.retries), f"{check.start_period_s:g}",
    )  # fmt: skip


def _number(field: str, text: str, problem: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < MOST:
        raise Invalid(field, problem)
    return value


def _whole(field: str, text: str, problem: str) -> int:
    value = _number(field, text, problem)
    if value % 1:
        raise Invalid(field, problem)
    return int(value)


def _mebibytes(field: str, text: str) -> int | None:
    """Empty: none."""
    return round(_number(field, text, _("Write a number of MiB, or leave it empty.")) * MIB) if text else None
