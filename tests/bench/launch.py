"""Launches and removals beside ``docker run -d`` and ``docker rm -f`` of the same image and command, in turn.

Ours: ``Engine.create`` + ``start`` and ``remove(force)``, then from an HTTP POST of the launch form to a container that the
engine says is running, through a whole stack of its own.  Limits (memory, CPU, pids) are set on both sides.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from runtime.api import Engine, Image, State
from tests import archives
from tests.bench import _ours
from tests.bench._docker import Docker, docker
from tests.bench._report import Row, compare, main, note
from tests.stack import Session, Stack, stack

COMMAND = ("sleep", "100000")
LIMITS = ("--memory", "64m", "--cpus", "1", "--pids-limit", "64")
WARM_UP = 2
RUNNING_WITHIN_S = 30.0


def measure(quick: bool) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder, docker() as peer:
        archive = archives.write(Path(folder) / "busybox.tar")
        peer.load(archive)
        name = peer.description()
        note(f"beside {name}")
        rows = _engine_rows(archive, peer, name, 20 if quick else 100)
        return rows + _post_rows(peer, name, 10 if quick else 50)


def _engine_rows(archive: Path, peer: Docker, name: str, runs: int) -> list[Row]:
    times: dict[str, list[float]] = {"run": [], "rm": [], "docker run": [], "docker rm": []}
    with _ours.engine() as (engine, _home):
        image = engine.load(archive, reference=archives.REFERENCE)[0]
        for number in range(runs + WARM_UP):
            ours, theirs = _once(engine, image, f"c{number:05d}"), _once_docker(peer, f"e{number:05d}")
            if number >= WARM_UP:
                for key, value in zip(times, (*ours, *theirs), strict=True):
                    times[key].append(value * 1000)
    return [
        *compare(
            "engine create + start",
            "ms",
            times["run"],
            times["docker run"],
            peer_name=f"docker run -d, {name}",
            goal=0.25,
        ),
        *compare(
            "engine remove, forced", "ms", times["rm"], times["docker rm"], peer_name=f"docker rm -f, {name}", goal=0.3
        ),
    ]


def _once(engine: Engine, image: Image, id: str) -> tuple[float, float]:
    began = time.perf_counter()
    engine.create(_ours.spec(id, image, *COMMAND))
    status = engine.start(id)
    launched = time.perf_counter()
    if status.state is not State.RUNNING:
        raise RuntimeError(f"{id} is {status.state}, not running")
    again = time.perf_counter()
    engine.remove(id, force=True)
    return launched - began, time.perf_counter() - again


def _once_docker(peer: Docker, name: str) -> tuple[float, float]:
    began = time.perf_counter()
    peer.launch(name, archives.REFERENCE, COMMAND, *LIMITS)
    launched = time.perf_counter()
    again = time.perf_counter()
    peer.remove(name)
    return launched - began, time.perf_counter() - again


# ------------------------------------------------------------------------------------------------ HTTP POST


def _post_rows(peer: Docker, name: str, runs: int) -> list[Row]:
    ours, theirs = [], []
    with stack() as running:
        running.wait_for_image("busybox")
        with running.signed_in("demo") as member:
            for number in range(runs + WARM_UP):
                form = member.launch_form("recipe:busybox", f"post-{number}", command=" ".join(COMMAND))
                began = time.perf_counter()
                member.send(form)
                container = _wait_until_running(running, f"post-{number}")
                took = time.perf_counter() - began
                _wait_until_shown(member, container)
                member.remove(container)
                _wait_until_gone(running, container)
                other = _once_docker(peer, f"p{number:05d}")[0]
                if number >= WARM_UP:
                    ours.append(took * 1000)
                    theirs.append(other * 1000)
    return compare("HTTP POST to running", "ms", ours, theirs, peer_name=f"docker run -d, {name}", goal=0.45)


def _wait_until_running(running: Stack, name: str) -> str:
    deadline = time.monotonic() + RUNNING_WITHIN_S
    while time.monotonic() < deadline:
        for status in running.engine.list():
            if status.name == name and status.state is State.RUNNING:
                return status.id
        time.sleep(0.001)
    raise RuntimeError(f"{name} did not run within {RUNNING_WITHIN_S:g} s:\n{running.tail()}")


def _wait_until_shown(member: Session, container: str) -> None:
    """The page offers to remove it, a moment after the engine has it running."""
    deadline = time.monotonic() + RUNNING_WITHIN_S
    while 'data-state="running"' not in member.client.get(f"/containers/{container}/status/").text:
        if time.monotonic() > deadline:
            raise RuntimeError(f"the page of {container} does not say that it runs")
        time.sleep(0.005)


def _wait_until_gone(running: Stack, id: str) -> None:
    deadline = time.monotonic() + RUNNING_WITHIN_S
    while any(status.id == id for status in running.engine.list()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{id} was not removed within {RUNNING_WITHIN_S:g} s:\n{running.tail()}")
        time.sleep(0.005)


if __name__ == "__main__":
    sys.exit(main("launch", measure))
