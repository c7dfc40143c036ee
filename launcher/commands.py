"""Programs that the set-up runs: output goes to the progress line, and to the person when they fail."""

from __future__ import annotations

import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.output import Progress
from launcher.refusal import Refusal

LAST_LINES = 25


def run(
    command: Sequence[str | Path],
    progress: Progress,
    *,
    what: str,
    fix: str = "",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user: str | None = None,
) -> str:
    """Standard output and error together.  Raises Refusal with the last lines when it ends with another code than 0."""
    lines: list[str] = []
    last: deque[str] = deque(maxlen=LAST_LINES)
    with subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment) if environment is not None else None,
        cwd=folder or "/",
        user=user,
        group=user,
        extra_groups=[] if user else None,
        text=True,
        errors="replace",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            last.append(line.rstrip())
            progress.update(line)
    if process.returncode:
        said = "\n".join(f"    {line}" for line in last)
        raise Refusal(f"{what} failed (exit code {process.returncode}). It said:\n{said}\n", fix)
    return "".join(lines)
