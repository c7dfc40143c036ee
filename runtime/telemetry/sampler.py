"""Counters of many containers at once, cheap enough for 1,000 at 1 Hz: files stay open, a reading is a ``pread`` each."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from runtime import logs
from runtime.api import MOST_NETWORKS, Counters
from runtime.errors import EngineFault
from runtime.home import Home
from runtime.kernel.cgroup import Reader
from runtime.kernel.traffic import traffic
from runtime.telemetry import interfaces
from runtime.telemetry.interfaces import Mark, Wiring

logger = logs.of(__name__)
NOTHING: Mapping[int, tuple[int, int]] = {}
UNKNOWN = (None, None)
KEPT = Wiring(())
"""Of a container that has the networks of its start: nothing of theirs has gone."""


ALL_AT_ONCE_FROM = 50
"""Containers in one live reading from which one answer about every interface costs less than a file for each."""


LOOKS = 5
"""At interfaces that others change at that moment, before this reading of their container has none of them."""


def _statistic(interface: str, name: str) -> int | None:
    try:
        return os.open(f"/sys/class/net/{interface}/statistics/{name}", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


class _Interface:
    """What the host sends over its end is what the container receives."""

    def __init__(self, name: str) -> None:
        self.index = socket.if_nametoindex(name)
        self._rx, self._tx = _statistic(name, "tx_bytes"), _statistic(name, "rx_bytes")

    def read(self) -> tuple[int | None, int | None]:
        """Bytes that the container sent, and that it received."""
        return _pread(self._tx), _pread(self._rx)

    def close(self) -> None:
        for descriptor in (self._rx, self._tx):
            if descriptor is not None:
                os.close(descriptor)


def _pread(descriptor: int | None) -> int | None:
    if descriptor is None:
        return None
    try:
        return int(os.pread(descriptor, 32, 0))
    except OSError:
        return None


def _names(home: Home, container: str) -> Iterator[str]:
    """Of its start: without gaps."""
    for number in range(MOST_NETWORKS):
        name = home.veth(container, number)
        if not os.path.exists(f"/sys/class/net/{name}"):
            return
        yield name


def _opened(names: Iterable[str]) -> Iterator[_Interface | None]:
    for name in names:
        try:
            yield _Interface(name)
        except OSError:
            yield None


class _Interfaces:
    """What a container has sent and received in this start, on interfaces that went since, too.

    Others change them meanwhile: what is opened is believed only if the container's file was the same before and after.
    The node's generation only says that some container's file is another: whose it is says that file's own mark.
    """

    def __init__(self, home: Home, container: str) -> None:
        self._home = home
        self._container = container
        self._open: tuple[_Interface | None, ...] = ()
        self._wiring: Wiring | None = None
        self._generation = interfaces.generation(home)
        self._mark: Mark | None = None
        """Of the file that these were opened by; None: it was another each time."""
        self._look()

    def _look(self) -> None:
        for _ in range(LOOKS):
            self.close()
            mark = interfaces.mark(self._home, self._container)
            try:
                self._wiring = interfaces.load(self._home, self._container)
            except EngineFault:
                logger.warning("nobody knows the interfaces of %s", self._container, exc_info=True)
                self._open, self._mark = (None,), mark
                return
            names = _names(self._home, self._container) if self._wiring is None else self._wiring.names
            self._open = tuple(_opened(names))
            if interfaces.mark(self._home, self._container) == mark:
                self._mark = mark
                return
        self.close()
        self._mark = None  # the next reading looks again

    def changed(self, generation: Mark) -> bool:
        """Whether they are others than those that were opened: what was read since ``generation`` is not to be believed."""
        if self._mark is not None and generation == self._generation:
            return False
        if interfaces.mark(self._home, self._container) != self._mark:
            return True
        self._generation = generation
        return False

    def read(self, generation: Mark, known: Mapping[int, tuple[int, int]]) -> tuple[int | None, int | None]:
        """Bytes received and sent; None when the kernel does not say one of them.  ``known`` is as old as ``generation``, or younger."""
        if self.changed(generation):
            self._look()
            self._generation = generation
        pairs = [UNKNOWN if one is None else known.get(one.index) or one.read() for one in self._open]
        gone = self._wiring or KEPT
        return _total([received for _, received in pairs], gone.rx_bytes), _total(
            [sent for sent, _ in pairs], gone.tx_bytes
        )

    def close(self) -> None:
        for interface in filter(None, self._open):
            interface.close()
        self._open = ()


class _Source:
    """The open files of one container: its cgroup's, and the statistics of its interfaces on the host."""

    def __init__(self, home: Home, tenant: str, container: str) -> None:
        self.reader = Reader(home.cgroup(tenant, container))
        try:
            self._interfaces = _Interfaces(home, container)
        except BaseException:
            self.reader.close()
            raise

    def read(
        self, generation: Mark, *, live: bool = False, traffic: Mapping[int, tuple[int, int]] = NOTHING
    ) -> Counters:
        received, sent = self._interfaces.read(generation, traffic)
        return self.reader.read(live=live, net_rx_bytes=received, net_tx_bytes=sent)

    def changed(self, generation: Mark) -> bool:
        return self._interfaces.changed(generation)

    def close(self) -> None:
        self.reader.close()
        self._interfaces.close()


def _total(figures: Sequence[int | None], gone: int) -> int | None:
    """None when the kernel does not say one of them."""
    if not figures:
        return None
    for figure in figures:
        if figure is None:
            return None
        gone += figure
    return gone


def read_once(home: Home, tenant: str, container: str) -> Counters | None:
    """One reading without keeping anything open; None when the cgroup isn't there."""
    try:
        source = _Source(home, tenant, container)
    except FileNotFoundError:
        return None
    with contextlib.closing(source):
        return source.read(interfaces.generation(home))


class Sampler:
    """Thread-safe.  A source is one life of a cgroup: when that goes its files fail, and the next reading opens the new one's."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._sources: dict[str, _Source] = {}
        self._lock = threading.Lock()

    def read(
        self, containers: Iterable[str], tenant_of: Callable[[str], str | None], *, live: bool = False
    ) -> Mapping[str, Counters]:
        """One reading of each whose cgroup is there.  ``tenant_of`` is asked of those not open yet: None for one that does not run."""
        wanted = tuple(containers)
        found: dict[str, Counters] = {}
        for _ in range(LOOKS):
            with self._lock:
                generation = interfaces.generation(self._home)
                read = dict(self._all(wanted, generation, tenant_of, live))
                doubtful = {id: read.pop(id) for id in self._changed(read, generation)}
            found |= read
            if not doubtful:
                return found
            wanted = tuple(doubtful)
        return found | {id: replace(one, net_rx_bytes=None, net_tx_bytes=None) for id, one in doubtful.items()}

    def _all(
        self, wanted: Sequence[str], generation: Mark, tenant_of: Callable[[str], str | None], live: bool
    ) -> Iterator[tuple[str, Counters]]:
        """Not to be believed of one whose interfaces changed meanwhile: one that is being deleted tells less than it did, for a moment."""
        known = traffic() if live and len(wanted) >= ALL_AT_ONCE_FROM else NOTHING
        for container in wanted:
            counters = self._read(container, generation, live, known)
            if counters is None and self._open(container, tenant_of(container)):
                counters = self._read(container, generation, live, NOTHING)
            if counters is not None:
                yield container, counters

    def _changed(self, read: Iterable[str], generation: Mark) -> tuple[str, ...]:
        """Those of them whose interfaces were changed since ``generation``."""
        now = interfaces.generation(self._home)
        return () if now == generation else tuple(id for id in read if self._sources[id].changed(now))

    def _read(
        self, container: str, generation: Mark, live: bool, known: Mapping[int, tuple[int, int]]
    ) -> Counters | None:
        source = self._sources.get(container)
        if source is None:
            return None
        counters = source.read(generation, live=live, traffic=known)
        if counters.cpu_ns is None and counters.memory_bytes is None:
            self._forget(container)
            return None
        return counters

    def _open(self, container: str, tenant: str | None) -> bool:
        if tenant is None:
            return False
        try:
            self._sources[container] = _Source(self._home, tenant, container)
        except FileNotFoundError:
            return False
        return True

    def keep_only(self, containers: Iterable[str]) -> None:
        """Close the files of all others."""
        with self._lock:
            for container in set(self._sources) - set(containers):
                self._forget(container)

    def _forget(self, container: str) -> None:
        source = self._sources.pop(container, None)
        if source is not None:
            source.close()
