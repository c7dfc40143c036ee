"""Which tests the virtual machine runs: all of :data:`FOLDERS`, but those that say why it would show nothing new, or little (``--thorough``).

A pytest plugin of the collection that happens where the machine is started from (``--selected FILE`` writes it down), so what
nobody has marked is run there, and what is left out is named with its reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

FOLDERS = ("tests/crash", "tests/kernel", "tests/conformance")
"""Those whose tests take longest come first."""
MARK, THOROUGH = "not_in_vm", "thorough_in_vm"
OF_THE_FAKE = "the fake engine meets no kernel"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--selected", type=Path, required=True)
    parser.addoption("--thorough", action="store_true")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Writes ``{"tests": [node ids in order], "left_out": {reason: count}}``."""
    marks = (MARK,) if config.getoption("thorough") else (MARK, THOROUGH)
    reasons = {item: reason(item, marks) for item in items}
    left_out = Counter(filter(None, reasons.values()))
    items[:] = [item for item in items if reasons[item] is None]
    found = {"tests": [item.nodeid for item in items], "left_out": dict(left_out)}
    config.getoption("selected").write_text(json.dumps(found), encoding="utf-8")


def reason(item: pytest.Item, marks: Sequence[str]) -> str | None:
    """Why it isn't run in the machine.  None: it is."""
    for mark in filter(None, map(item.get_closest_marker, marks)):
        return str(mark.args[0])
    parameters = getattr(item, "callspec", None)
    return OF_THE_FAKE if parameters and parameters.params.get("engine") == "fake" else None
