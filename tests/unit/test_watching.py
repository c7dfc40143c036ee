"""What ``watch`` says of what a keeper has brought about."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from runtime.api import ContainerStatus, Engine, State
from runtime.cli import watching
from runtime.engines.native.flooding import FLOODED
from runtime.errors import DeadlineExceeded
from runtime.keeper import Keeper


@pytest.mark.parametrize(
    ("state", "changes", "expected"),
    [
        (State.RUNNING, {"restarts": 2}, "web started, restart 2"),
        (State.EXITED, {"reason": "There is no such program."}, "web not started: There is no such program."),
        (State.EXITED, {"reason": FLOODED}, f"web ended: {FLOODED}"),
        (State.EXITED, {"reason": FLOODED, "health": "healthy"}, f"web ended: {FLOODED}"),
        (State.RUNNING, {"health": "unhealthy", "health_output": "refused"}, "web unhealthy refused"),
    ],
)
def test_a_line_for_each(
    state: State, changes: dict[str, object], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    watching._say(ContainerStatus("c1", "tenant1", "web", "image", state, **changes))  # type: ignore[arg-type]
    assert capsys.readouterr().out.split(" ", 1)[1].strip() == expected


def test_one_that_cannot_be_settled_ends_no_watch() -> None:
    """As while somebody holds its lock for long; the others would not be started again any more."""
    ended = [ContainerStatus(id, "tenant1", id, "image", State.RUNNING, pid=2**22 + 1) for id in ("stuck", "fine")]
    settled = []

    def settle(id: str) -> ContainerStatus:
        if id == "stuck":
            raise DeadlineExceeded("Something else is being done with it.")
        settled.append(id)
        return ended[1]

    engine = cast("Engine", SimpleNamespace(list=lambda: tuple(ended), settle=settle))
    watching.settle_ended(engine, Keeper(engine))
    assert settled == ["fine"]
