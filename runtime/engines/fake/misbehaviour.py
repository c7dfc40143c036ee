"""How a test makes the fake engine slow, stuck or broken, from another process if need be."""

from __future__ import annotations

import json
import time
from pathlib import Path

from runtime import errors
from runtime.home import atomic_write

RELEASE_POLL_S = 0.02
STUCK_LIMIT_S = 60.0


class Misbehaviour:
    def __init__(self, path: Path) -> None:
        self._path = path

    def _plans(self) -> dict[str, dict[str, object]]:
        try:
            return dict(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return {}

    def plan(
        self, verb: str, *, seconds: float = 0, fault: str = "", stuck: bool = False, times: int = 1_000_000
    ) -> None:
        """The next ``times`` calls of the verb take ``seconds``, then raise the error class of that name, or wait for release()."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        plans = self._plans() | {verb: {"seconds": seconds, "fault": fault, "stuck": stuck, "times": times}}
        atomic_write(self._path, json.dumps(plans).encode())

    def release(self, verb: str) -> None:
        """Back to normal, also for calls that wait."""
        plans = self._plans()
        plans.pop(verb, None)
        atomic_write(self._path, json.dumps(plans).encode())

    def act(self, verb: str) -> None:
        plan = self._plans().get(verb)
        if not plan:
            return
        times = int(str(plan["times"])) - 1
        if times <= 0:
            self.release(verb)
        else:
            self.plan(
                verb,
                seconds=float(str(plan["seconds"])),
                fault=str(plan["fault"]),
                stuck=bool(plan["stuck"]),
                times=times,
            )
        time.sleep(float(str(plan["seconds"])))
        deadline = time.monotonic() + STUCK_LIMIT_S
        while plan["stuck"] and verb in self._plans() and time.monotonic() < deadline:
            time.sleep(RELEASE_POLL_S)
        if plan["fault"]:
            kind: type[errors.RuntimeFault] = getattr(errors, str(plan["fault"]))
            raise kind("The engine was told to fail.", hint="This is a test.")
