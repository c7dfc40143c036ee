"""What is mounted for a process, also for one that has ended."""

from __future__ import annotations

import os
import subprocess

import pytest

from runtime.kernel.mount import table_of


def test_a_process_has_the_mounts_of_its_namespace() -> None:
    rows = table_of(os.getpid())
    assert [row for row in rows if row.split()[4] == b"/"]
    assert all(b" - " in row for row in rows)


def test_who_has_ended_has_no_mounts_collected_or_not() -> None:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        with pytest.raises(ProcessLookupError):
            table_of(ended.pid)
    with pytest.raises(ProcessLookupError):
        table_of(ended.pid)
