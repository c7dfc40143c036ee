"""Programs that a test has another process run: a fork of this one, so nothing is imported twice; killed at a failpoint where one is named."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping

from runtime import failpoint


def run(
    program: str, point: str = "", *, environment: Mapping[str, str] = os.environ
) -> subprocess.CompletedProcess[str]:
    """``returncode`` is negative when a signal ended it, as subprocess tells it.  The caller has no other threads."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        pid = os.fork()
        if pid == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _child(program, point, environment)
        _, status = os.waitpid(pid, 0)
        for file in (out, err):
            file.seek(0)
        return subprocess.CompletedProcess(program, os.waitstatus_to_exitcode(status), out.read(), err.read())


def lived(program: str) -> None:
    """Run to its end.  AssertionError with what it said when it failed."""
    done = run(program)
    assert done.returncode == 0, done.stderr


def _child(program: str, point: str, environment: Mapping[str, str]) -> None:
    """Never returns: what pytest would do at its own end is not this process's to do."""
    code = 1
    try:
        os.environ.update(environment)
        failpoint._CHOSEN = point
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})
        code = 0
    except BaseException:  # noqa: BLE001 -- told as an interpreter tells it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
