"""Many containers of ``sleep`` at once: memory of each with everything counted, and the CPU that 1 Hz of all costs.

Memory is the fall of MemAvailable while they start, divided by their number: monitors, page tables, cgroups, mounts,
namespaces and the kernel's own structures are all in it.  docker's is measured likewise, over a smaller number.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.api import Engine, Image
from runtime.home import Home
from tests import archives
from tests.bench import _agent, _ours
from tests.bench._docker import Docker, docker
from tests.bench._report import Row, main, note

COMMAND = ("sleep", "100000")
STARTERS = 4
SETTLE_S = 2.0
ENOUGH_FOR_1000 = 6 * 2**30
METER_EVERY_S = 60.0
"""As the agent does."""
FIRST_LOOK_S = 15.0
"""Long enough to take it in."""


def measure(quick: bool) -> list[Row]:
    count = 100 if quick else 1000 if _available() > ENOUGH_FOR_1000 else 500
    others = 10 if quick else 50
    seconds = 10 if quick else 60
    with tempfile.TemporaryDirectory() as folder:
        archive = archives.write(Path(folder) / "busybox.tar")
        with docker() as peer:
            peer.load(archive)
            name = peer.description()
            theirs = _docker_memory(peer, others)
        with _ours.engine() as (engine, home):
            image = engine.load(archive, reference=archives.REFERENCE)[0]
            _launch(engine, image, count)  # the bridge, the rules, what every container shares
            ours = _memory(count, lambda number: _launch(engine, image, number))
            note(f"{count} containers run; the agent samples all of them for {seconds} s")
            share = _agent_share(home, count + 1, seconds)
            note("removing them")
            _every(count + 1, lambda number: engine.remove(_id(number), force=True))
    peer_name = f"{name}, {others} containers"
    return [
        Row(f"memory of a container, {count} running", "MiB", ours, None, "", 1.5, absolute=True),
        Row(f"memory of a container, docker with {others}", "MiB", ours, theirs, peer_name),
        Row(f"the whole agent, sampling {count} at 1 Hz", "% core", share, None, "", 6 * count / 1000, absolute=True),
    ]


def _id(number: int) -> str:
    return f"d{number:05d}"


def _launch(engine: Engine, image: Image, number: int) -> None:
    engine.create(_ours.spec(_id(number), image, *COMMAND, number=number))
    engine.start(_id(number))


def _docker_memory(peer: Docker, count: int) -> float:
    peer.launch("warm", archives.REFERENCE, COMMAND)
    return _memory(count, lambda number: peer.launch(_id(number), archives.REFERENCE, COMMAND))


def _every(count: int, do: Callable[[int], None]) -> None:
    with ThreadPoolExecutor(STARTERS) as starters:
        waiting = [starters.submit(do, number) for number in range(count)]
        try:
            for one in waiting:
                one.result()
        except BaseException:
            starters.shutdown(cancel_futures=True)
            raise


def _memory(count: int, start: Callable[[int], None]) -> float:
    """MiB of each."""
    before = _settled_available()
    _every(count, start)
    return (before - _settled_available()) / count / 2**20


def _settled_available() -> int:
    os.sync()
    time.sleep(SETTLE_S)
    return _available()


def _available() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the kernel does not say MemAvailable")


def _agent_share(home: Home, count: int, seconds: int) -> float:
    """CPU time of the agent's process per second of wall time, as % of a core: counters, history, Redis, metering, sweeps.

    From when the files are open, the first figures told, and the first look for the bills is taken in: that one begins them all.
    """
    with _agent.agent(home, count) as pid:
        time.sleep(METER_EVERY_S + FIRST_LOOK_S)
        began, used = time.monotonic(), _agent.cpu_s(pid)
        time.sleep(seconds)
        return (_agent.cpu_s(pid) - used) / (time.monotonic() - began) * 100


if __name__ == "__main__":
    sys.exit(main("density", measure))
