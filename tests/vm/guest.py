"""Inside a virtual machine: a pytest plugin that runs the tests it is given, one after the other, until there are no more.

Several machines share one list.  Each asks on its second serial line; ``tests.vm.queue`` is at the other end.
"""

from __future__ import annotations

import os
import tty
from typing import IO

import pytest

LINE = "/dev/ttyS1"


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    """Asks for the next test before it runs the one it has, so that pytest knows which fixtures to keep."""
    items = {item.nodeid: item for item in session.items}
    with open(LINE, "r+b", buffering=0) as line:
        tty.setraw(line)
        item = _next(line, items)
        while item:
            following = _next(line, items)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            item = following
    return True


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """At once: a machine that is ended at its deadline has no summary."""
    if report.failed:
        said = "".join(f"\n{title}\n{text}" for title, text in report.sections)
        print(f"\n{report.nodeid}: {report.when}\n{report.longreprtext}{said}", flush=True)


def _next(line: IO[bytes], items: dict[str, pytest.Item]) -> pytest.Item | None:
    """Raises KeyError: one that was collected where the machine was started from was not collected here."""
    line.write(f"{os.environ['SLIPWAY_TEST_RUN']}\n".encode())
    said = line.readline().decode().strip()
    return items[said] if said else None
