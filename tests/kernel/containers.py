"""A real engine with an image, and the steps that tests of its containers share."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runtime.api import ContainerSpec, ExecSpec, Limits, State
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
from runtime.keeper import Keeper
from tests.conftest import Place, patience
from tests.prepared import busybox
from tests.traces import traces

KINDS = ("mounts", "cgroups", "interfaces", "processes", "firewall", "loops")
SMALL = Limits(64 << 20, 1000, 64)
FOREVER = ("sleep", "100000")
SERVER = ("busybox", "httpd", "-f", "-p", "8080", "-h", "/etc")
"""A command that answers on IPv4 and IPv6: see :func:`fetched`."""


@contextlib.contextmanager
def fresh_engine() -> Iterator[NativeEngine]:
    """With busybox, in the test's :class:`Place`.  Whatever the test left is torn down, and nothing may be left by that."""
    made = NativeEngine(Home.from_environment())
    busybox(made)
    yield made
    NativeEngine(made.home).teardown()  # as after a restart: what the test did to ``made`` does not count
    left = traces(made.home)
    for kind in KINDS:
        assert not getattr(left, kind), f"{kind} left behind"


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    with fresh_engine() as made:
        yield made


def spec(engine: NativeEngine, *command: str, **changes: Any) -> ContainerSpec:
    """Of a container of tenant1 with a name of its own, which sleeps where no command is given."""
    id = "c" + secrets.token_hex(5)
    plain = ContainerSpec(id, "tenant1", id, engine.image("busybox").id, command=command or FOREVER, limits=SMALL)
    return replace(plain, **changes)


def run(engine: NativeEngine, made: ContainerSpec) -> str:
    """Created and started, and its first process is what it is to be; its id.

    Who looks at processes before sees the container runtime's, which is another one to whom looks later.
    """
    engine.create(made)
    pid = engine.start(made.id).pid
    deadline = time.monotonic() + patience(5)
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
        while Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"\0init\0"):
            assert time.monotonic() < deadline
            time.sleep(0.002)
    return made.id


def kept_until_told(
    keeper: Keeper, told: list[str], within_s: float, begin: Callable[[], object] = lambda: None
) -> None:
    """It keeps the node until it has told something; ``begin`` is called once it does."""
    thread = threading.Thread(target=keeper.run)
    thread.start()
    try:
        begin()
        deadline = time.monotonic() + patience(within_s)
        while not told:
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.1)
    finally:
        keeper.stop()
        thread.join()


def output(engine: NativeEngine, made: ContainerSpec) -> list[str]:
    """The lines that it wrote until it ended."""
    run(engine, made)
    deadline = time.monotonic() + patience(20)
    while engine.settle(made.id).state is State.RUNNING:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [line.text for line in engine.logs(made.id)]


def fetched(engine: NativeEngine, id: str, host: str) -> str:
    """What a container has of a :data:`SERVER` by this name or address: its host name; empty when it has no answer."""
    address = f"[{host}]" if ":" in host else host
    wait_s = max(3, round(patience(3)))
    return inside(engine, id, f"timeout {wait_s} wget -q -O - http://{address}:8080/hostname 2>/dev/null")


SEND = """
import socket, sys, time
def sent():
    rows = (line.replace(":", " ").split() for line in open("/proc/self/net/dev"))
    return sum(int(row[9]) for row in rows if row[0] == sys.argv[1])
wanted, until = sent() + int(sys.argv[3]), time.monotonic() + float(sys.argv[4])
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    while sent() < wanted:  # what waits for an answer to its first question may be dropped
        assert time.monotonic() < until
        sender.sendto(bytes(1000), (sys.argv[2], 9))
"""


def pour(engine: NativeEngine, id: str, interface: str, address: str, amount: int) -> None:
    """Bytes from a container over one of its interfaces: no fewer, and few more."""
    words = (interface, address, str(amount), str(patience(20)))
    enter = ["nsenter", f"--net={engine.home.netns(id)}", "/usr/bin/python3", "-c", SEND]
    subprocess.run([*enter, *words], check=True)


def inside(engine: NativeEngine, id: str, script: str) -> str:
    """What a shell in the container says to it, errors included."""
    session = engine.exec(id, ExecSpec(("sh", "-c", f"exec 2>&1; {script}")))
    text = session.stdout.read().decode()
    session.wait(patience(60))
    session.close()
    return text.strip()
