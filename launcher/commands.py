"""Programs that the set-up runs: output goes to the progress line, and to the person when they fail."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

from launcher.interruption import held
from launcher.output import Progress
from launcher.refusal import Refusal

LAST_LINES = 25
END_WITHIN_S = 3.0
WRAPPER = Path(__file__).with_name("child.py")


def run(
    command: Sequence[str | Path],
    progress: Progress,
    *,
    what: str,
    fix: str = "",
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    user: str | None = None,
    whole: str = "",
) -> str:
    """Standard output and error together.  Raises Refusal with the last lines when it ends with another code than 0.

    An interruption ends the program and all that it started, and the launcher's death ends the program.  One that must
    not stop half way says why in ``whole``: it is let finish first, and only a second interruption ends it.
    """
    lines: list[str] = []
    words = [str(part) for part in command]
    process: subprocess.Popen[str] | None = None
    try:
        with held():
            process = _start(words if whole else _tied(words, user), environment, folder)
        _follow(process, lines, progress)
    except KeyboardInterrupt:
        if whole and process:
            progress.say(f"{what} is let finish before this stops: {whole} (once more stops it at once)")
            _follow(process, lines, progress)
        raise
    finally:
        if process:
            with held():
                _end(process)
    if process.returncode:
        last = deque((line.rstrip() for line in lines), maxlen=LAST_LINES)
        said = "\n".join(f"    {line}" for line in last)
        raise Refusal(f"{what} failed (exit code {process.returncode}). It said:\n{said}\n", fix)
    return "".join(lines)


def _tied(words: list[str], user: str | None) -> list[str]:
    """The command as ``user`` (None: as it is), to be killed when this process dies."""
    name = user or pwd.getpwuid(os.geteuid()).pw_name
    return [sys.executable, "-I", "-S", str(WRAPPER), name, str(os.getpid()), *words]


def _start(words: list[str], environment: Mapping[str, str] | None, folder: Path | None) -> subprocess.Popen[str]:
    """In a session of its own, so that a Ctrl-C at the terminal reaches it only through us."""
    return subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment) if environment is not None else None,
        cwd=folder or "/",
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _follow(process: subprocess.Popen[str], lines: list[str], progress: Progress) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        progress.update(line)
    process.wait()


def _end(process: subprocess.Popen[str]) -> None:
    """The whole group, if it runs still: asked first, since some tidy up behind themselves."""
    if process.stdout is not None:
        process.stdout.close()
    if process.poll() is not None:
        return
    for number in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(END_WITHIN_S)
            return
