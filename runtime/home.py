"""Where an instance keeps its things and what it names them: every path and every kernel name, derived from ids.

Nothing here touches the kernel, so names can be computed for cleaning up without any state.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import DeadlineExceeded, EngineFault, InvalidSpec

LOCK_POLL_S = 0.005
NONSENSE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""What the content of a state file raises, on its way to a value, that none of ours wrote."""


def _short_hash(text: str, length: int) -> str:
    import hashlib  # loads OpenSSL, which a verb without names in the kernel has no use for

    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _flows(text: str) -> int:
    """Raises InvalidSpec."""
    if not (text.isascii() and text.isdigit() and int(text) < 2**32):
        raise InvalidSpec(
            f"SLIPWAY_FLOWS is {text!r}, which is not a number of connections.",
            hint="Write it as 4096.",
            field="SLIPWAY_FLOWS",
        )
    return int(text)


def _marks(text: str) -> tuple[float, float]:
    """``above,down to``.  Raises InvalidSpec."""
    try:
        above, down_to = map(float, text.split(","))
    except ValueError:
        above, down_to = -1.0, -1.0
    if not 0 <= down_to <= above <= 100:
        raise InvalidSpec(
            f"SLIPWAY_IMAGE_MARKS is {text!r}, which is not two percentages, the higher first.",
            hint="Write them as 85,75.",
            field="SLIPWAY_IMAGE_MARKS",
        )
    return above, down_to


@dataclass(frozen=True, slots=True)
class Home:
    """One instance of the runtime on this node."""

    root: Path
    """``HOME/runtime`` lies in it."""
    instance: str = "slipway"
    subnets: str = "10.89.0.0/16"
    uid_base: int = 0x40000000
    flat_bridges: tuple[str, ...] = ()
    """Bridges of the node that an admin allows containers on."""
    flows: int = 0
    """Connections that the node tracks at once for one address of a container: of those that it began, and of those that came to it.
    0: a share of what its table holds (:func:`runtime.network.firewall.flows`)."""
    image_marks: tuple[float, float] = (85.0, 75.0)
    """Percent of the disk in use above which images that are not needed go, and down to which."""

    @classmethod
    def from_environment(cls) -> Home:
        """From ``SLIPWAY_HOME``, ``SLIPWAY_INSTANCE``, ``SLIPWAY_SUBNETS``, ``SLIPWAY_UID_BASE``, ``SLIPWAY_FLAT_BRIDGES``, ``SLIPWAY_FLOWS``,
        ``SLIPWAY_IMAGE_MARKS``.

        Raises InvalidSpec.
        """
        uid_base = os.environ.get("SLIPWAY_UID_BASE") or "0x40000000"
        try:
            base = int(uid_base, 0)
        except ValueError:
            raise InvalidSpec(
                f"SLIPWAY_UID_BASE is {uid_base!r}, which is not a number.", field="SLIPWAY_UID_BASE"
            ) from None
        return cls(
            root=Path(os.environ.get("SLIPWAY_HOME") or "/var/lib/slipway"),
            instance=os.environ.get("SLIPWAY_INSTANCE") or "slipway",
            subnets=os.environ.get("SLIPWAY_SUBNETS") or "10.89.0.0/16",
            uid_base=base,
            flat_bridges=tuple(filter(None, os.environ.get("SLIPWAY_FLAT_BRIDGES", "").split(","))),
            flows=_flows(os.environ.get("SLIPWAY_FLOWS") or "0"),
            image_marks=_marks(os.environ.get("SLIPWAY_IMAGE_MARKS") or "85,75"),
        )

    # folders ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> Path:
        return self.root / "runtime"

    @property
    def run(self) -> Path:
        """On a tmpfs: gone after a reboot, with everything that it names."""
        return Path("/run") / self.instance

    @property
    def images(self) -> Path:
        return self.state / "images"

    @property
    def containers(self) -> Path:
        return self.state / "containers"

    @property
    def tenants(self) -> Path:
        return self.state / "tenants"

    @property
    def networks(self) -> Path:
        return self.state / "networks"

    @property
    def final(self) -> Path:
        return self.state / "final"

    @property
    def runc(self) -> Path:
        return self.run / "runc"

    @property
    def exits(self) -> Path:
        return self.run / "exits"

    def container(self, id: str) -> Path:
        return self.containers / id

    def bundle(self, id: str) -> Path:
        """What the container's own root must be able to reach: bundle and mounted root, in folders that all may pass."""
        return self.run / "bundle" / id

    def conmon(self, id: str) -> Path:
        return self.run / "conmon" / id

    def netns(self, id: str) -> Path:
        return self.run / "netns" / id

    def lower(self, id: str) -> Path:
        return self.run / "lower" / id

    def volume_mounts(self, id: str) -> Path:
        return self.run / "volumes" / id

    # names in the kernel ---------------------------------------------------------------------------------

    def cgroup(self, tenant: str, id: str) -> str:
        return f"/{self.instance}/{tenant}/{id}"

    def veth(self, id: str, number: int = 0) -> str:
        """The host's end of the container's veth pair on its first network, or a further one; interface names have at most 15 characters."""
        return "sw" + _short_hash(f"{self.instance}/{id}" + (f"/{number}" if number else ""), 11)

    def shapers(self, id: str) -> tuple[str, str]:
        """The interfaces that a container's traffic waits on where it is limited: what it receives, what it sends."""
        short = _short_hash(f"{self.instance}/{id}", 11)
        return f"swr{short}", f"swt{short}"

    def bridge(self, tenant: str, network: str = "") -> str:
        """Of the tenant's own network, or of one that has a name."""
        return "swb" + _short_hash(f"{self.instance}/{tenant}" + (f"/{network}" if network else ""), 10)

    @property
    def table(self) -> str:
        """Of nftables."""
        return self.instance.replace("-", "_")

    # locks -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, name: str, timeout_s: float = 30, *, shared: bool = False) -> Iterator[None]:
        """Hold a lock among all threads and processes of this instance; a holder's death frees it.

        Any number may hold it ``shared`` at once.  Raises DeadlineExceeded after ``timeout_s``.
        """
        descriptor = self._acquire(self.run / "locks" / name, time.monotonic() + timeout_s, shared)
        if descriptor is None:
            raise DeadlineExceeded(
                f"Another operation has held {name} for more than {timeout_s:g} seconds.", hint="Try again in a moment."
            )
        try:
            yield
        finally:
            os.close(descriptor)

    def forget_lock(self, name: str) -> None:
        """Remove a lock's file; its holder calls this, and whoever waits for it makes it anew."""
        (self.run / "locks" / name).unlink(missing_ok=True)

    @staticmethod
    def _acquire(path: Path, deadline: float, shared: bool) -> int | None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        while True:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                while not _flock(descriptor, shared):
                    if time.monotonic() > deadline:
                        os.close(descriptor)
                        return None
                    time.sleep(LOCK_POLL_S)
                if os.fstat(descriptor).st_nlink:
                    return descriptor
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # forgotten by its last holder while we waited


def _flock(descriptor: int, shared: bool) -> bool:
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def decoding(file: Path, hint: str = "Restore it from a backup of the node.") -> Iterator[None]:
    """While a state file's content becomes a value: whatever that raises for what none of ours wrote is EngineFault."""
    try:
        yield
    except NONSENSE as error:
        raise EngineFault(f"A file of the node's state is damaged: {file.name}.", hint=hint) from error


def atomic_write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file so that a crash leaves the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def folders(within: Path, names: re.Pattern[str]) -> list[str]:
    """Names of folders there that are such; none where there is no folder."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(within) as entries:
        return [entry.name for entry in entries if names.fullmatch(entry.name) and entry.is_dir()]
    return []


def sweep_temporaries(folder: Path) -> tuple[str, ...]:
    """Remove what an :func:`atomic_write` in ``folder`` left whose process is gone.

    One entry at a time: there may be ten thousand final readings that nobody has taken in yet, and few temporary files.
    """
    swept = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            pid = _writer(entry.name)
            if pid is not None and entry.is_file() and not Path("/proc", pid).exists():
                Path(entry.path).unlink(missing_ok=True)
                swept.append(entry.name)
    return tuple(sorted(swept))


def _writer(name: str) -> str | None:
    """The process whose temporary file is called so."""
    words = name.split(".") if name.startswith(".") else []
    return words[-2] if len(words) > 3 and words[-2].isdigit() else None
