"""The ways in that are compared: the engine in this process beside the peers' APIs, and our command line beside theirs.

All make a container of the same image and command with the same limits (64 MiB, one CPU, 64 processes) on their default network.
Ours alone has a range of user ids of its own and an init, which docker and podman do without unless told.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from runtime.api import Engine, ExecSpec, Image, State
from runtime.home import Home
from tests import archives
from tests.bench import _ours
from tests.bench._docker import Docker, docker
from tests.bench._podman import Podman, podman

COMMAND = ("sleep", "100000")
SOURCE = Path(__file__).resolve().parents[2]
EXEC_WITHIN_S = 60.0
LIMITS: Mapping[str, int] = {"Memory": 64 * 2**20, "NanoCpus": 10**9, "PidsLimit": 64}
FLAGS = ("--memory", "64m", "--cpus", "1", "--pids-limit", "64")
OUR_FLAGS = ("--memory", "64", "--cpus", "1", "--pids", "64")


@dataclass(frozen=True, slots=True)
class Side:
    """One way in.  Each verb is done when it returns, and raises when it fails."""

    name: str
    launch: Callable[[str], object]
    """Create and start; the container runs."""
    remove: Callable[[str], object]
    """By force."""
    exec: Callable[[str], int]
    """``true`` in a running container, to its exit code."""


@dataclass(frozen=True, slots=True)
class Sides:
    """``programs`` are what a program calls, ``commands`` what a person types; ours first in both."""

    programs: tuple[Side, ...]
    commands: tuple[Side, ...]
    engine: Engine
    home: Home
    image: Image
    docker: Docker
    podman: Podman


@contextmanager
def sides() -> Iterator[Sides]:
    """Both peers and an engine of ours, with the image in all of them; taken away at the end."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory())
        archive = archives.write(Path(folder) / "busybox.tar")
        dockerd, pod = stack.enter_context(docker()), stack.enter_context(podman())
        engine, home = stack.enter_context(_ours.engine())
        for peer in (dockerd, pod):
            peer.load(archive)
        image = engine.load(archive, reference=archives.REFERENCE)[0]
        peers: tuple[tuple[str, Docker | Podman], ...] = ((dockerd.description(), dockerd), (pod.description(), pod))
        yield Sides(
            (_engine(engine, image), *(_by_api(f"{name}, by its API", peer) for name, peer in peers)),
            (_command_line(home), *(_by_command_line(f"{name}, command line", peer) for name, peer in peers)),
            engine, home, image, dockerd, pod,
        )  # fmt: skip


def _engine(engine: Engine, image: Image) -> Side:
    def launch(id: str) -> None:
        engine.create(_ours.spec(id, image, *COMMAND))
        if engine.start(id).state is not State.RUNNING:
            raise RuntimeError(f"{id} does not run")

    def enter(id: str) -> int:
        session = engine.exec(id, ExecSpec(("true",)))
        try:
            return session.wait(EXEC_WITHIN_S)
        finally:
            session.close()

    return Side("the engine, in process", launch, lambda id: engine.remove(id, force=True), enter)


def _by_api(name: str, peer: Docker | Podman) -> Side:
    api = peer.api
    return Side(
        name,
        lambda id: api.launch(id, archives.REFERENCE, COMMAND, LIMITS),
        api.remove,
        lambda id: api.exec(id, ("true",)),
    )


def _by_command_line(name: str, peer: Docker | Podman) -> Side:
    return Side(
        name,
        lambda id: peer.launch(id, archives.REFERENCE, COMMAND, *FLAGS),
        peer.remove,
        lambda id: peer.run("exec", id, "true").returncode,
    )


def _command_line(home: Home) -> Side:
    place = {
        "SLIPWAY_HOME": str(home.root),
        "SLIPWAY_INSTANCE": home.instance,
        "SLIPWAY_SUBNETS": home.subnets,
        "SLIPWAY_UID_BASE": hex(home.uid_base),
    }

    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    # a person's second call finds the first one's compiled modules

    def run(*words: str) -> int:
        done = subprocess.run(
            [sys.executable, "-m", "runtime", *words],
            check=False, capture_output=True, text=True, timeout=EXEC_WITHIN_S, cwd=SOURCE, env={**kept, **place},
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{words[0]} failed: {done.stderr.strip()}")
        return done.returncode

    return Side(
        "python -m runtime",
        lambda id: run("run", "--detach", "--name", id, *OUR_FLAGS, archives.REFERENCE, *COMMAND),
        lambda id: run("rm", "--force", id),
        lambda id: run("exec", id, "true"),
    )
