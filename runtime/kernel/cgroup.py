"""cgroups, version 1 and 2 behind one face (kernel documents cgroup-v1/ and cgroup-v2.rst).

On version 1 a cgroup is a folder of the same name in every controller's hierarchy; on version 2 it is one folder.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from runtime.api import Counters
from runtime.errors import HostUnfit
from runtime.kernel import freezer
from runtime.kernel.hierarchy import ROOT as ROOT  # noqa: PLC0414 -- offered here, too
from runtime.kernel.hierarchy import version as version  # noqa: PLC0414
from runtime.kernel.process import ends

CONTROLLERS_V1 = ("cpu", "cpuacct", "memory", "pids", "blkio", "cpuset", "devices", "freezer", "systemd", "net_cls",
                  "net_prio", "hugetlb", "perf_event", "unified")  # fmt: skip
CONFINING_V1 = ("cpu", "cpuacct", "memory", "pids", "blkio", "cpuset", "devices", "freezer")
"""Those that limit, count or freeze."""
CONTROLLERS_V2 = ("cpu", "cpuset", "memory", "pids", "io")
DELEGATION_TRIES, DELEGATION_AGAIN_S = 5, 0.02
NEEDED_V2 = frozenset({"cpu", "memory", "pids"})
"""Without these limits would not hold; the others only add to what can be asked for and counted."""
LIMIT_FILES_V1 = {
    "memory": ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes"),
    "cpu": ("cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.shares"),
    "pids": ("pids.max",),
    "cpuset": ("cpuset.cpus",),
    "blkio": (
        "blkio.bfq.weight", "blkio.throttle.read_bps_device", "blkio.throttle.write_bps_device",
        "blkio.throttle.read_iops_device", "blkio.throttle.write_iops_device",
    ),
}  # fmt: skip
LIMIT_FILES_V2 = (
    "memory.max", "memory.swap.max", "cpu.max", "cpu.weight", "pids.max", "cpuset.cpus.effective", "io.bfq.weight", "io.weight", "io.max",
)  # fmt: skip
ACCOUNTING_GROUP = "slipway-block-accounting"
HARMLESS_BYTES_PER_SECOND = 2**62
MOVES_EXPECTED_EVERY_S = 0.004
KILL_DEADLINE_S = 5.0
PAGES = 8192
"""Bytes that most of the kernel's files are shorter than."""
MOST_DIGITS = 20
"""Of a 64-bit count."""


GONE = frozenset({errno.ENOENT, errno.ENODEV})
"""What the kernel answers of a cgroup that was removed, by name and by an open file."""


@functools.cache
def _hierarchies() -> tuple[Path, ...]:
    if version() == 2:
        return (ROOT,)
    return tuple(ROOT / name for name in CONTROLLERS_V1 if (ROOT / name).is_dir() and not (ROOT / name).is_symlink())


def _number(path: Path) -> int | None:
    try:
        text = path.read_text(encoding="ascii").strip()
    except (FileNotFoundError, OSError):
        return None
    return int(text) if text.lstrip("-").isdigit() else None


class Cgroup:
    """``Cgroup("/slipway/t1/c1")``."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._main = (ROOT if version() == 2 else ROOT / "memory") / path.lstrip("/")

    def _folders(self) -> Iterator[Path]:
        for hierarchy in _hierarchies():
            folder = hierarchy / self.path.lstrip("/")
            if folder.is_dir():
                yield folder

    def exists(self) -> bool:
        return any(True for _ in self._folders())

    def inode(self) -> int:
        """Raises FileNotFoundError."""
        return self._main.stat().st_ino

    def procs(self) -> tuple[int, ...]:
        """Of this cgroup and those below it."""
        found: set[int] = set()
        for folder, _, files in os.walk(self._main):
            if "cgroup.procs" in files:
                with contextlib.suppress(OSError):
                    found.update(int(word) for word in Path(folder, "cgroup.procs").read_text(encoding="ascii").split())
        return tuple(sorted(found))

    def populated(self) -> bool:
        """On version 2 the kernel says it itself: also of what is dying and in no list any more, but still counted."""
        if version() == 1:
            return bool(self.procs())
        try:
            return _field((self._main / "cgroup.events").read_bytes(), b"populated ") == 1
        except OSError as error:
            if error.errno in GONE:
                return False
            raise

    def limits(self) -> Mapping[str, str]:
        """File name -> content; without those that say nothing."""
        if version() == 2:
            files = [self._main / name for name in LIMIT_FILES_V2]
        else:
            files = [
                ROOT / controller / self.path.lstrip("/") / name
                for controller, names in LIMIT_FILES_V1.items()
                for name in names
            ]
        found = {file.name: file.read_text(encoding="ascii").strip() for file in files if file.exists()}
        return {name: text for name, text in found.items() if text}

    def oom_kills(self) -> int | None:
        name = "memory.events" if version() == 2 else "memory.oom_control"
        try:
            return _field((self._main / name).read_bytes(), b"oom_kill ")
        except OSError:
            return None

    def cpu_ns(self) -> int | None:
        """Used in it and below it since it was made, by cgroups that are gone too.  None: the kernel does not say."""
        if version() == 1:
            return _number(ROOT / "cpuacct" / self.path.lstrip("/") / "cpuacct.usage")
        try:
            used = _field((self._main / "cpu.stat").read_bytes(), b"usage_usec ")
        except OSError as error:
            if error.errno in GONE:
                return None
            raise
        return None if used is None else used * 1000

    def kill(self) -> None:
        """SIGKILL to every process in it, until none is left or the deadline has passed."""
        deadline = time.monotonic() + KILL_DEADLINE_S
        while self.populated() and time.monotonic() < deadline:
            self._kill_once()
            time.sleep(0.005)

    def _kill_once(self) -> None:
        """By the kernel's own switch where it has one (version 2): nothing that forks meanwhile escapes it."""
        try:
            descriptor = os.open(self._main / "cgroup.kill", os.O_WRONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            for pid in self.procs():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            freezer.thaw(self.path)  # what is frozen does not die, there
            return
        try:
            os.write(descriptor, b"1")
        except OSError as error:
            if error.errno not in GONE:
                raise
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """With those below it.  A populated cgroup stays: OSError EBUSY."""
        for top in list(self._folders()):
            for folder, _, _ in os.walk(top, topdown=False):
                with contextlib.suppress(FileNotFoundError):
                    _rmdir(folder)

    def remove_empty(self) -> None:
        """Unless there is one below it, made in this moment perhaps, or it is populated."""
        for folder in self._folders():
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def children(path: str) -> tuple[str, ...]:
    """Names of the cgroups in it, in order."""
    folder = (ROOT if version() == 2 else ROOT / "memory") / path.lstrip("/")
    try:
        return tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    except FileNotFoundError:
        return ()


def _rmdir(folder: str) -> None:
    """The kernel answers EBUSY for a moment after the last process has gone."""
    for attempt in range(20):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            raise
        except OSError:
            if attempt == 19:
                raise
            time.sleep(0.005)
        else:
            return


@contextlib.contextmanager
def moves_expected() -> Iterator[None]:
    """While processes are about to be moved into cgroups: the kernel keeps the lock that a move takes at hand.

    The first move after a quiet moment waits for a grace period of RCU (8 ms; ``cgroup_threadgroup_rwsem`` in
    kernel/cgroup/cgroup.c), those within 10 ms of another do not.  Moving this process to where it is
    takes the same lock and changes nothing; so it is done again and again, beside other work.  One thread does it for
    all who expect moves at once: many of them would wait for each other's, and take half of a processor.
    """
    _moves.expect()
    try:
        yield
    finally:
        _moves.forget()


class _Moves:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._expecting = 0
        self._over = threading.Event()

    def expect(self) -> None:
        with self._lock:
            if not self._expecting:
                self._over = threading.Event()
                threading.Thread(target=_move_nowhere, args=(self._over,), name="cgroup-moves").start()
            self._expecting += 1

    def forget(self) -> None:
        with self._lock:
            self._expecting -= 1
            if not self._expecting:
                self._over.set()


_moves = _Moves()


def _move_nowhere(over: threading.Event) -> None:
    with contextlib.suppress(OSError), (_own_folder() / "cgroup.procs").open("wb", buffering=0) as procs:
        while True:
            procs.write(str(os.getpid()).encode())
            if over.wait(MOVES_EXPECTED_EVERY_S):
                return


def _own_folder() -> Path:
    """Of the cgroup that this process is in."""
    return (ROOT if version() == 2 else ROOT / "memory") / place_of("self").lstrip("/")


def place_of(pid: int | str) -> str:
    """The path of the cgroup that a process is in, that of memory on version 1.  Raises FileNotFoundError or ProcessLookupError when there is none."""
    controller = "" if version() == 2 else "memory"
    for line in os.fsdecode(Path(f"/proc/{pid}/cgroup").read_bytes()).rstrip("\n").split("\n"):
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            return path
    raise FileNotFoundError(errno.ENOENT, "the process is in no cgroup of the controller", controller)


def confines(path: str, pid: int) -> bool:
    """Whether the process is in this cgroup or below it, on version 1 by each controller that :data:`CONFINING_V1` names.

    One that is ending is where it was: version 1 shows it at the top from then on.  Raises FileNotFoundError or ProcessLookupError when there is none.
    """
    return _is_in(path, pid) or ends(pid)


def _is_in(path: str, pid: int) -> bool:
    wanted = {""} if version() == 2 else set(CONFINING_V1)
    for line in os.fsdecode(Path(f"/proc/{pid}/cgroup").read_bytes()).rstrip("\n").split("\n"):
        _, controllers, place = line.split(":", 2)
        if wanted.intersection(controllers.split(",")) and not f"{place}/".startswith(f"{path}/"):
            return False
    return True


def ensure_parent(path: str) -> None:
    """Make a cgroup that containers' cgroups go into, with the controllers that they need.  Raises HostUnfit.

    On version 2 systemd may take a controller away from the top in the very moment, as long as nothing below uses it; then all is
    done again; likewise where somebody takes a parent away that is still empty.
    """
    parts = [part for part in path.split("/") if part]
    for hierarchy in _hierarchies():
        for left in reversed(range(DELEGATION_TRIES)):
            try:
                _make_parent(hierarchy, parts)
                break
            except (HostUnfit, FileNotFoundError):
                if not left:
                    raise
                time.sleep(DELEGATION_AGAIN_S)


def _make_parent(hierarchy: Path, parts: Sequence[str]) -> None:
    folder = hierarchy
    for part in parts:
        if version() == 2:
            _delegate(folder)
        folder = folder / part
        if not folder.is_dir():
            folder.mkdir(exist_ok=True)
            if hierarchy.name == "cpuset":
                for name in ("cpuset.cpus", "cpuset.mems"):
                    (folder / name).write_text((folder.parent / name).read_text(encoding="ascii"), encoding="ascii")
    if version() == 2:
        _delegate(folder)


def _delegate(folder: Path) -> None:
    """Offer its controllers to the cgroups below (cgroup-v2.rst, "Enabling and Disabling").  Raises HostUnfit."""
    have = (folder / "cgroup.controllers").read_text(encoding="ascii").split()
    on = (folder / "cgroup.subtree_control").read_text(encoding="ascii").split()
    lacking = sorted(NEEDED_V2.difference(have))
    if lacking:
        raise HostUnfit(
            f"The kernel offers no cgroup controller {' and '.join(lacking)} to containers.",
            hint="Boot without cgroup_disable= and let nothing else hold the controllers.",
        )
    for name in CONTROLLERS_V2:
        if name in have and name not in on:
            _turn_on(folder, name)


def _turn_on(folder: Path, controller: str) -> None:
    """One at a time: the kernel takes all that a write names or none."""
    try:
        (folder / "cgroup.subtree_control").write_text(f"+{controller}", encoding="ascii")
    except OSError as error:
        if controller not in NEEDED_V2:
            import logging  # which takes long to load

            logging.getLogger(__name__).warning("cgroup controller %s is not to be had: %s", controller, error.strerror)
            return
        raise HostUnfit(
            f"The kernel does not let the cgroup controller {controller} be used for containers: {error.strerror}.",
            hint="Run Slipway where the top cgroup holds no processes of its own, or in a cgroup that is delegated to it.",
        ) from None


@functools.cache
def enable_block_accounting() -> bool:
    """Make version 1 count block IO in every cgroup: it does so once a disk has one throttle rule, even a harmless one.

    False: it could not be done, and block counters are None.  Version 2 always counts.
    """
    if version() == 2:
        return True
    group = ROOT / "blkio" / ACCOUNTING_GROUP
    try:
        group.mkdir(exist_ok=True)
        for disk in Path("/sys/block").iterdir():
            if (disk / "device").exists() or disk.name.startswith(("dm-", "md")):
                device = (disk / "dev").read_text(encoding="ascii").strip()
                rule = f"{device} {HARMLESS_BYTES_PER_SECOND}"
                (group / "blkio.throttle.read_bps_device").write_text(rule, encoding="ascii")
    except OSError:
        return False
    return True


# ------------------------------------------------------------------------------------------------ counters


def _count(word: bytes) -> int | None:
    """What the kernel writes for a count: digits alone."""
    return int(word) if word.isdigit() and len(word) <= MOST_DIGITS else None


def _field(content: bytes, key: bytes) -> int | None:
    """The number after ``key`` at the start of a line; None where there is none, or the line has no end: it may have been cut."""
    at = 0 if content.startswith(key) else content.find(b"\n" + key) + 1
    if at == 0 and not content.startswith(key):
        return None
    end = content.find(b"\n", at)
    return _count(content[at + len(key) : end]) if end >= 0 else None


def _sum(counts: Iterable[int | None]) -> int | None:
    """None when one of them is: a part is not the whole."""
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


def _sum_io_v1(content: bytes) -> tuple[int | None, int | None]:
    """Read and Write over all disks; Total also has Discard."""
    rows = [words for words in map(bytes.split, content.splitlines()) if len(words) == 3]
    read, write = (_sum(_count(words[2]) for words in rows if words[1] == kind) for kind in (b"Read", b"Write"))
    return read, write


def _sum_io_v2(content: bytes) -> tuple[int | None, int | None]:
    words = content.split()
    read, write = (
        _sum(_count(word[7:]) for word in words if word.startswith(kind)) for kind in (b"rbytes=", b"wbytes=")
    )
    return read, write


class Reader:
    """Keeps a cgroup's files open: a reading is a ``pread`` each.  Raises FileNotFoundError when the cgroup isn't there.

    ``memory.stat`` costs as much as all others together, so a live reading takes it anew only every ``STAT_EVERY_NS``.
    """

    STAT_EVERY_NS = 5 * 10**9

    FILES_V1 = {
        "cpu": "cpuacct/{}/cpuacct.usage",
        "memory": "memory/{}/memory.usage_in_bytes",
        "memory_stat": "memory/{}/memory.stat",
        "oom": "memory/{}/memory.oom_control",
        "pids": "pids/{}/pids.current",
        "throttle": "cpu/{}/cpu.stat",
        "io": "blkio/{}/blkio.throttle.io_service_bytes_recursive",
    }
    FILES_V2 = {
        "cpu": "{}/cpu.stat",
        "memory": "{}/memory.current",
        "memory_stat": "{}/memory.stat",
        "oom": "{}/memory.events",
        "pids": "{}/pids.current",
        "io": "{}/io.stat",
    }

    def __init__(self, path: str) -> None:
        self._v2 = version() == 2
        self._fds: dict[str, int] = {}
        self._counts_io = enable_block_accounting()
        relative = path.lstrip("/")
        if not Cgroup(path).exists():
            raise FileNotFoundError(path)
        for key, template in (self.FILES_V2 if self._v2 else self.FILES_V1).items():
            with contextlib.suppress(FileNotFoundError):
                self._fds[key] = os.open(ROOT / template.format(relative), os.O_RDONLY | os.O_CLOEXEC)
        self.inode = Cgroup(path).inode()
        self._inactive: int | None = None
        self._inactive_at = -self.STAT_EVERY_NS
        self._io: tuple[bytes | None, tuple[int | None, int | None]] = None, (None, None)
        """What the kernel said of block IO last, and its sums: most containers do none most of the time."""

    def close(self) -> None:
        for descriptor in self._fds.values():
            os.close(descriptor)
        self._fds.clear()

    def _read(self, key: str) -> bytes | None:
        descriptor = self._fds.get(key)
        if descriptor is None:
            return None
        content, size = b"", PAGES
        try:
            while len(content := os.pread(descriptor, size, 0)) == size:
                size *= 4  # a node of many disks has a long io.stat: a part of it would be a wrong sum
        except OSError:
            return None
        return content

    def _whole(self, key: str) -> int | None:
        try:
            return _count(os.pread(self._fds[key], 32, 0).strip())
        except (KeyError, OSError):
            return None

    def read(self, *, live: bool = False, net_rx_bytes: int | None = None, net_tx_bytes: int | None = None) -> Counters:
        """Network counters are not the cgroup's: the caller brings them.  ``live`` as in :meth:`runtime.api.Engine.counters`."""
        now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        memory = self._whole("memory")
        inactive = self._inactive_file(now, live)
        cpu_ns, throttled_ns = self._processor(live)
        read, write = self._block()
        oom = None if live else self._read("oom")
        return Counters(
            at=time.time(),
            boottime_ns=now,
            cpu_ns=cpu_ns,
            memory_bytes=memory,
            working_set_bytes=None if memory is None or inactive is None else max(0, memory - inactive),
            pids=self._whole("pids"),
            throttled_ns=throttled_ns,
            oom_kills=_field(oom, b"oom_kill ") if oom else None,
            block_read_bytes=read,
            block_write_bytes=write,
            net_rx_bytes=net_rx_bytes,
            net_tx_bytes=net_tx_bytes,
        )

    def _inactive_file(self, now: int, live: bool) -> int | None:
        if not live or now - self._inactive_at >= self.STAT_EVERY_NS:
            stat = self._read("memory_stat")
            self._inactive = _field(stat, b"inactive_file " if self._v2 else b"total_inactive_file ") if stat else None
            self._inactive_at = now
        return self._inactive

    def _processor(self, live: bool) -> tuple[int | None, int | None]:
        if not self._v2:
            stat = None if live else self._read("throttle")
            return self._whole("cpu"), _field(stat, b"throttled_time ") if stat else None
        stat = self._read("cpu")
        if not stat:
            return None, None
        usage, throttled = _field(stat, b"usage_usec "), _field(stat, b"throttled_usec ")
        return None if usage is None else usage * 1000, None if throttled is None else throttled * 1000

    def _block(self) -> tuple[int | None, int | None]:
        content = self._read("io") if self._counts_io else None
        if content is None or (content and not content.endswith(b"\n")):
            return None, None
        if content != self._io[0]:
            self._io = content, (_sum_io_v2 if self._v2 else _sum_io_v1)(content)
        return self._io[1]
