"""The test run: how a part is judged, and the table at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from launcher.settings import load
from launcher.testing import PARTS, Result, development_home, judged, summary

REPORT = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'


@pytest.fixture
def report(tmp_path: Path) -> Path:
    return tmp_path / "results.xml"


@pytest.mark.parametrize(
    ("code", "counts", "expected", "good"),
    [
        (0, (10, 0, 0, 2), (8, 0, 2), True),
        (1, (10, 1, 2, 0), (7, 3, 0), False),
        (0, (3, 0, 0, 3), (0, 0, 3), False),
        (3, (4, 0, 0, 0), (4, 1, 0), False),
    ],
)
def test_a_part_is_judged_by_code_and_report(
    report: Path, code: int, counts: tuple[int, ...], expected: tuple[int, ...], good: bool
) -> None:
    report.write_text(REPORT.format(*counts), encoding="ascii")
    result = judged("unit", code, report, 1.0)
    assert (result.passed, result.failed, result.skipped) == expected
    assert result.good is good


def test_no_test_and_no_report_are_failures(report: Path) -> None:
    assert not judged("unit", 5, report, 0).good
    crashed = judged("unit", -11, report, 0)
    assert (crashed.failed, crashed.good) == (1, False)


def test_the_table_ends_with_the_total() -> None:
    lines = summary(
        [Result("lint", 4, 0, 0, 1.0), Result("unit", 90, 2, 3, 60.0), Result("live", 0, 0, 0, 0, "no test ran")]
    )
    assert lines[-1] == "94 passed, 2 failed, 3 skipped"
    assert any("unit" in line and "failed" in line for line in lines)
    assert any("no test ran" in line for line in lines)
    assert not any("lint" in line and "<-" in line for line in lines)


def test_the_parts_in_order() -> None:
    assert PARTS == (
        "lint",
        "types",
        "unit",
        "kernel",
        "conformance",
        "crash",
        "crun",
        "console",
        "live",
        "postgresql",
        "e2e",
        "vm",
    )


def test_tests_keep_off_the_real_home() -> None:
    assert development_home(load({}, {})) == Path("/var/tmp/slipway-test")
    assert development_home(load({}, {"SLIPWAY_HOME": "/srv/tests"})) == Path("/srv/tests")
