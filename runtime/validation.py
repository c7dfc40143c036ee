"""Refuse a spec that cannot be, naming the field, before anything is made."""

from __future__ import annotations

import functools
import os
import re
import signal

from runtime import validation_storage
from runtime.api import ANY_ADDRESS, ANY_ADDRESS6, ID_PATTERN, ContainerSpec, Image, Limits, Port
from runtime.errors import ImageUnsuitable, InvalidSpec, LimitExceeded
from runtime.validation_life import check_life
from runtime.validation_limits import check_shares
from runtime.validation_networks import MOST_PORTS, check_attachments, check_bandwidth, check_host_address
from runtime.validation_options import check_options
from runtime.validation_words import check_environment, check_texts

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
LONGEST_HOSTNAME = 63
"""The kernel takes 64 bytes."""
LEAST_MEMORY = 6 * 2**20
LEAST_CPU_MILLIS = 10
LEAST_LOG = 64 * 2**10
MOST_PIDS = 32768
LONGEST_GRACE_S = 3600
MEMORY_LABEL = "io.slipway.memory-needed"
AMOUNT = re.compile(r"[0-9]{1,18}")
"""Of bytes, as an image may say it; what else it says is none."""


SIGNAL = re.compile(r"(?P<number>\d{1,2})|(?:SIG)?(?P<name>[A-Z0-9]+)(?P<more>[+-]\d{1,2})?", re.ASCII)


def signal_number(name: str, field: str = "signal") -> int:
    """``SIGTERM``, ``term``, ``15`` or ``RTMIN+3``; from 1 to 64.  Raises InvalidSpec."""
    number = _signal(name.upper())
    if number not in signal.valid_signals():
        raise InvalidSpec(f"There is no signal {name!r}.", hint="Use a name such as SIGTERM.", field=field)
    return number


def signal_name(number: int) -> str:
    """``SIGTERM``, or ``SIGRTMIN+3``."""
    known = {int(one): one.name for one in signal.Signals}
    return known.get(number) or f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _signal(text: str) -> int:
    """0: none."""
    written = SIGNAL.fullmatch(text)
    if written is None:
        return 0
    if written["number"]:
        return int(written["number"])
    named = signal.Signals.__members__.get(f"SIG{written['name']}", 0)
    more = int(written["more"] or 0)
    return named + more if not more or named + more >= signal.SIGRTMIN else 0


@functools.cache
def node_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check(spec: ContainerSpec) -> None:
    """Raises InvalidSpec or LimitExceeded for the first thing that is wrong."""
    check_texts(spec)
    for value, field in ((spec.id, "id"), (spec.tenant, "tenant")):
        check_id(value, field)
    check_name(spec.name, "name")
    if spec.hostname:
        check_hostname(spec.hostname)
    check_environment(spec)
    if spec.stop_signal is not None:
        signal_number(spec.stop_signal, "stop_signal")
    check_grace(spec.stop_grace_s, "stop_grace_s")
    check_limits(spec.limits)
    check_options(spec)
    check_life(spec)
    validation_storage.check_disk(spec.limits.disk_bytes, "limits.disk_bytes")
    validation_storage.check_mounts(spec.volumes, [tmpfs.path for tmpfs in spec.tmpfs])
    _check_ports(spec)
    check_attachments(spec)


def check_id(value: str, field: str) -> None:
    """Raises InvalidSpec."""
    if not re.fullmatch(ID_PATTERN, value):
        raise InvalidSpec(
            f"{value!r} is not an id.", hint="Use 3 to 32 lower-case letters and digits, a letter first.", field=field
        )


def check_name(value: str, field: str) -> None:
    """Raises InvalidSpec."""
    if not NAME.fullmatch(value):
        raise InvalidSpec(
            f"{value!r} is not a valid name.",
            hint="Use up to 63 lower-case letters, digits and hyphens, a letter or digit first and last.",
            field=field,
        )


def check_hostname(value: str) -> None:
    """A name, or several with dots between them.  Raises InvalidSpec."""
    if len(value) > LONGEST_HOSTNAME or not all(map(NAME.fullmatch, value.split("."))):
        raise InvalidSpec(
            f"{value!r} is not a valid name.",
            hint="Use up to 63 lower-case letters, digits and hyphens; a host name may have dots, such as mail.example.com.",
            field="hostname",
        )


def check_limits(limits: Limits) -> None:
    """Raises InvalidSpec or LimitExceeded for the first thing that is wrong."""
    least = (
        (limits.memory_bytes, LEAST_MEMORY, "limits.memory_bytes", "6 MiB of memory"),
        (limits.cpu_millis, LEAST_CPU_MILLIS, "limits.cpu_millis", "0.01 vCPU"),
        (limits.pids, 1, "limits.pids", "one process"),
        (limits.log_bytes, LEAST_LOG, "limits.log_bytes", "64 KiB of log"),
    )
    for value, minimum, field, words in least:
        if value < minimum:
            raise InvalidSpec(f"The limit is below the least, {words}.", hint="Raise it.", field=field)
    cpus = os.cpu_count() or 1
    most = (
        (limits.memory_bytes, node_memory(), "limits.memory_bytes", f"{node_memory() // 2**20} MiB of memory"),
        (limits.cpu_millis, cpus * 1000, "limits.cpu_millis", f"{cpus} vCPU"),
        (limits.pids, MOST_PIDS, "limits.pids", f"{MOST_PIDS} processes"),
    )
    for value, maximum, field, words in most:
        if value > maximum:
            raise LimitExceeded(f"The node has only {words}.", hint="Lower the limit.", field=field, most=maximum)
    check_shares(limits)
    check_bandwidth(limits)


def check_grace(seconds: float | None, field: str = "grace_s") -> None:
    """None: as it was said before.  Raises InvalidSpec."""
    if seconds is not None and not 0 <= seconds <= LONGEST_GRACE_S:
        raise InvalidSpec("The grace is not from 0 to 3600 seconds.", hint="Choose another.", field=field)


def _check_ports(spec: ContainerSpec) -> None:
    if len(spec.ports) > MOST_PORTS:
        raise InvalidSpec(f"A container publishes at most {MOST_PORTS} ports.", hint="Give fewer.", field="ports")
    for index, port in enumerate(spec.ports):
        for number, field in (
            (port.container_port, "container_port"),
            (1 if port.host_port is None else port.host_port, "host_port"),
        ):
            if not 1 <= number <= 65535:
                raise InvalidSpec(
                    f"{number} is not a port.", hint="Ports go from 1 to 65535.", field=f"ports[{index}].{field}"
                )
        if not 1 <= port.host_from <= port.host_to <= 65535:
            raise InvalidSpec(
                f"{port.host_from} to {port.host_to} is not a range of ports.",
                hint="Ports go from 1 to 65535.",
                field=f"ports[{index}].host_from",
            )
        if port.protocol not in {"tcp", "udp"}:
            raise InvalidSpec("The protocol is neither tcp nor udp.", hint="Use one.", field=f"ports[{index}].protocol")
        check_host_address(port, index)
        if any(_meet(port, other) for other in spec.ports[:index]):
            raise InvalidSpec(
                f"Host port {port.host_port} is given twice.", hint="Give another.", field=f"ports[{index}].host_port"
            )


def _meet(one: Port, other: Port) -> bool:
    """Whether both want the same port of one address of the node."""
    if one.host_port is None or (one.protocol, one.host_port) != (other.protocol, other.host_port):
        return False
    families = {":" in one.host_address, ":" in other.host_address}
    anywhere = {ANY_ADDRESS, ANY_ADDRESS6} & {one.host_address, other.host_address}
    return len(families) == 1 and (bool(anywhere) or one.host_address == other.host_address)


def check_image(spec: ContainerSpec, image: Image) -> None:
    """Raises ImageUnsuitable when the image says that it needs more memory than the limit."""
    labels = image.config.get("Labels") or {}
    needed = str(labels.get(MEMORY_LABEL, "0")) if isinstance(labels, dict) else "0"
    if AMOUNT.fullmatch(needed) and int(needed) > spec.limits.memory_bytes:
        raise ImageUnsuitable(
            f"The image needs at least {int(needed) // 2**20} MiB of memory; the limit is "
            f"{spec.limits.memory_bytes // 2**20} MiB.",
            hint="Raise the memory limit.",
            field="limits.memory_bytes",
            needed=int(needed),
        )
