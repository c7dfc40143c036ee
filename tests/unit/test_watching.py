"""What ``watch`` says of what a keeper has brought about."""

from __future__ import annotations

import pytest

from runtime.api import ContainerStatus, State
from runtime.cli import watching
from runtime.engines.native.flooding import FLOODED


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
