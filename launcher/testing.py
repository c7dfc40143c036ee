"""``./slipway test`` and ``./slipway bench``: the development environment, the parts in order, one table at the end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import packages
from launcher.output import Output
from launcher.prepare import Setup, Step, node_modules_step, venv_step
from launcher.refusal import Refusal
from launcher.settings import Settings
from launcher.stamps import Stamps

CHECKS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "lint": (
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
        ("lint-imports",),
        ("python", "manage.py", "makemigrations", "--check", "--dry-run"),
    ),
    "types": (("mypy", "runtime", "console", "launcher"),),
}
SUITES = ("unit", "kernel", "conformance", "crash", "crun", "console", "live", "postgresql", "e2e", "vm")
RUNNERS: Mapping[str, tuple[str, ...]] = {
    "crun": ("python", "-m", "tests.crun"),
    "postgresql": ("python", "-m", "tests.postgresql"),
    "vm": ("python", "-m", "tests.vm"),
}
"""Parts that need something running around pytest; the rest is pytest on the part's folder."""
PARTS = (*CHECKS, *SUITES)
NO_TESTS = 5
"""pytest's exit code when it collected nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    part: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    note: str = ""

    @property
    def good(self) -> bool:
        return self.failed == 0 and self.passed > 0


def test(settings: Settings, output: Output, parts: Sequence[str], arguments: Sequence[str]) -> int:
    """Runs every part even when one fails.  1 when anything failed or a part ran no test."""
    wanted = tuple(part for part in PARTS if part in (parts or PARTS))
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise Refusal(f"There is no part called {unknown[0]}.", f"The parts are {', '.join(PARTS)}.", exit_code=2)
    environment = _development(settings, output)
    results = []
    for part in wanted:
        output.line(f"\n=== {part} ===")
        run = _checks if part in CHECKS else _suite
        results.append(run(part, settings, output, environment, arguments))
    for line in summary(results):
        output.line(line)
    return 0 if all(result.good for result in results) else 1


def bench(
    settings: Settings, output: Output, name: str, *, as_json: bool, quick: bool, arguments: Sequence[str]
) -> int:
    """Runs ``tests/bench/<name>.py`` in the development environment; with ``as_json`` set-up goes to standard error."""
    folder = settings.source / "tests/bench"
    known = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith(("_", "conftest")))
    if name not in known:
        said = f"There is no bench called {name}." if name else "Which bench?"
        raise Refusal(said, f"The benches are {', '.join(known) or 'not written yet'}.", exit_code=2)
    if as_json:
        output = Output(sys.stderr)
    environment = _development(settings, output, packages.BENCH)
    flags = [*(["--json"] if as_json else []), *(["--quick"] if quick else []), *arguments]
    command = [f"{environment['SLIPWAY_VENV']}/bin/python", "-m", f"tests.bench.{name}", *flags]
    return subprocess.run(command, check=False, cwd=settings.source, env=environment).returncode


# ------------------------------------------------------------------------------------------------ environment


def development_home(settings: Settings) -> Path:
    """The tests never touch a real home: ``--home`` when it was given, else a folder of their own."""
    given = settings.values["SLIPWAY_HOME"]
    return Path("/var/tmp/slipway-test") if given == "/var/lib/slipway" else Path(given)  # noqa: S108 -- lasts over a reboot


def _development(
    settings: Settings, output: Output, more: tuple[packages.Package, ...] = packages.TEST
) -> dict[str, str]:
    """Install what tests need; returns their environment, without the caller's settings."""
    if os.geteuid() != 0:
        raise Refusal("The tests make real containers, and that needs root.", "Run them as root.")
    home = development_home(settings)
    mine = Settings(
        {**settings.values, "SLIPWAY_HOME": str(home), "SLIPWAY_VENV": "", "SLIPWAY_NODE_MODULES": ""}, settings.source
    )
    os.umask(0o022)
    setup = Setup(mine, output)
    setup.machine((*packages.RUN, *more))
    if more is packages.BENCH:
        setup.machine(packages.BENCH_SPLIT)
    stamps = Stamps(home / "stamps")
    venv = Path(settings.values["SLIPWAY_VENV"] or home / "venv-dev")
    if not settings.values["SLIPWAY_VENV"]:
        _apply(venv_step(venv, settings.source / "requirements/dev.txt"), stamps, output)
    modules = Path(settings.values["SLIPWAY_NODE_MODULES"] or mine.node_modules)
    if not settings.values["SLIPWAY_NODE_MODULES"]:
        _apply(node_modules_step(mine), stamps, output)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "DJANGO_", "PYTHON"))}
    tests = {name: value for name, value in os.environ.items() if name.startswith("SLIPWAY_TEST_")}
    return {
        **kept,
        **tests,
        "SLIPWAY_VENV": str(venv),
        "SLIPWAY_NODE_MODULES": str(modules),
        "SLIPWAY_TEST_VM_FOLDER": str(home / "vm"),
        "SLIPWAY_TEST_FOCUS_FOLDER": str(home / "focus"),
        "PATH": f"{venv}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(settings.source),
        "DJANGO_SETTINGS_MODULE": "tests.settings",
    }


def _apply(step: Step, stamps: Stamps, output: Output) -> None:
    if step.there and stamps.fresh(step.name, step.mark):
        return
    stamps.drop(step.name)
    with output.step(step.title, step.why) as progress:
        step.do(progress)
    stamps.put(step.name, step.mark)


# ------------------------------------------------------------------------------------------------ parts


def _checks(part: str, settings: Settings, output: Output, environment: dict[str, str], _: Sequence[str]) -> Result:
    began = time.monotonic()
    failed = []
    for command in CHECKS[part]:
        output.line(f"$ {' '.join(command)}")
        if subprocess.run(
            command, check=False, cwd=settings.source, env=environment, stdin=subprocess.DEVNULL
        ).returncode:
            failed.append(" ".join(command[:2]))
    count = len(CHECKS[part])
    return Result(part, count - len(failed), len(failed), 0, time.monotonic() - began, ", ".join(failed))


def _suite(
    part: str, settings: Settings, output: Output, environment: dict[str, str], arguments: Sequence[str]
) -> Result:
    began = time.monotonic()
    report = development_home(settings) / f"results-{part}.xml"
    report.unlink(missing_ok=True)
    runner = RUNNERS.get(part, ("python", "-m", "pytest", f"tests/{part}"))
    command = [*runner, f"--junitxml={report}", "-o", "junit_family=xunit2", *arguments]
    output.line(f"$ {' '.join(command)}")
    code = subprocess.run(
        command, check=False, cwd=settings.source, env=environment, stdin=subprocess.DEVNULL
    ).returncode
    return judged(part, code, report, time.monotonic() - began)


def judged(part: str, code: int, report: Path, seconds: float) -> Result:
    """From pytest's exit code and its JUnit file; a run that left no file is one failure."""
    if code == NO_TESTS:
        return Result(part, 0, 0, 0, seconds, "no test ran")
    try:
        suites = list(ET.parse(report).getroot().iter("testsuite"))  # noqa: S314 -- pytest wrote it
    except (OSError, ET.ParseError):
        return Result(part, 0, 1, 0, seconds, f"pytest ended with code {code} and no report")
    total, failures, errors, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    if code and not failed:
        return Result(part, total - skipped, 1, skipped, seconds, f"pytest ended with code {code}")
    passed = max(0, total - failed - skipped)
    return Result(part, passed, failed, skipped, seconds, "" if passed or failed else "every test was skipped")


def summary(results: Sequence[Result]) -> list[str]:
    """The table, and the line that totals it."""
    rows = ["", f"{'part':<14}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}"]
    for one in results:
        mark = "" if one.good else "  <- " + (one.note or "failed")
        rows.append(f"{one.part:<14}{one.passed:>8}{one.failed:>8}{one.skipped:>9}{one.seconds:>9.1f}{mark}")
    passed, failed, skipped = (sum(getattr(one, name) for one in results) for name in ("passed", "failed", "skipped"))
    empty = sum(not one.good and one.failed == 0 for one in results)
    if empty:
        rows.append(f"{empty} {'part' if empty == 1 else 'parts'} ran no test, which counts as a failure of the run")
    return [*rows, "", f"{passed} passed, {failed} failed, {skipped} skipped"]
