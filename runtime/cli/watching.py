"""``python -m runtime watch``: what the agent does for containers and images where Slipway itself does not run."""

from __future__ import annotations

import argparse
import signal
import threading
import time
from pathlib import Path

from runtime import logs
from runtime.api import ContainerStatus, Engine, State
from runtime.cli.parsing import Declared
from runtime.cli.words import plain
from runtime.engines.native.flooding import FLOODED
from runtime.engines.native.hoarding import HOARDED
from runtime.errors import NotFound, RuntimeFault
from runtime.home import Home
from runtime.keeper import Keeper

LOOK_EVERY_S = 0.5

logger = logs.of(__name__)


def watch(engine: Engine, _options: argparse.Namespace) -> int:
    """Until it is told to end: by Ctrl-C or SIGTERM."""
    over = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: over.set())
    keeper = Keeper(engine, _say, Home.from_environment().image_marks)
    engine.reconcile()
    thread = threading.Thread(target=keeper.run)
    thread.start()
    while not over.wait(LOOK_EVERY_S):
        settle_ended(engine, keeper)
    keeper.stop()
    thread.join()
    return 0


def settle_ended(engine: Engine, keeper: Keeper) -> None:
    for status in engine.list():
        if status.state is State.RUNNING and not Path(f"/proc/{status.pid}").exists():
            try:
                keeper.note(engine.settle(status.id))
            except NotFound:
                continue
            except RuntimeFault:
                logger.exception("%s has ended and could not be settled; the next look tries again", status.id)


def _say(status: ContainerStatus) -> None:
    if status.state is State.RUNNING and status.health in {"healthy", "unhealthy"}:
        print(time.strftime("%H:%M:%S"), status.name, status.health, plain(status.health_output), flush=True)
        return
    print(time.strftime("%H:%M:%S"), status.name, plain(_outcome(status)), flush=True)


def _outcome(status: ContainerStatus) -> str:
    if status.state is State.RUNNING:
        return f"started, restart {status.restarts}"
    return f"ended: {status.reason}" if status.reason in {FLOODED, HOARDED} else f"not started: {status.reason}"


VERBS = {"watch": Declared(watch)}
