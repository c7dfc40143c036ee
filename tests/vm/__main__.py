"""The runtime's tests once more, on cgroup version 2: in a virtual machine that boots Debian's own kernel.

``python -m tests.vm [--release trixie] [--runtime crun] [what pytest takes]``; without paths the selection is :data:`SELECTIONS`.
Each container runtime has a run of its own in the one machine; their reports become one.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import sys
import tarfile
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.vm.image import SOURCE, image
from tests.vm.machine import boot

NO_CGROUP = "not fake and not bad_spec and not may_not_do and not create. and not marked and not reserved and not mounted and not renamed"
"""Leaves out what no cgroup has a part in: refused input, system calls, and crashes before there is one or after it went."""
SELECTIONS: Mapping[str, tuple[str, ...]] = {
    "runc": (
        "tests/kernel/test_cgroup.py", "tests/kernel/test_native_engine.py", "tests/kernel/test_self_test.py", "tests/kernel/test_network.py",
        "tests/conformance", "tests/crash/test_engine_failpoints.py", "-k", NO_CGROUP,
    ),
    "crun": ("tests/kernel/test_cgroup.py", "tests/kernel/test_self_test.py", "tests/conformance", "-k", NO_CGROUP),
}  # fmt: skip
"""What meets the kernel.  Of crun, whose engine is the same, only what the runtime itself does."""
RELEASES = ("bookworm", "trixie")
SENT = ("console", "launcher", "locale", "runtime", "templates", "tests", "manage.py", "pyproject.toml")
FOLDER = Path(os.environ.get("SLIPWAY_TEST_VM_FOLDER", "/var/tmp/slipway-test/vm"))
SLOWNESS = 10
"""How much slower an emulated processor is, about: deadlines of tests are multiplied by it."""
TEST_DEADLINE_S = 300
RUN_DEADLINE_S = 1500
"""Of one run: it is interrupted then, and still says what failed until then."""
DEADLINE_S = 2700
RESULTS_BYTES = 64 * 2**20


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.vm", allow_abbrev=False)
    parser.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    parser.add_argument("--runtime", choices=tuple(SELECTIONS), action="append", help="one run for each that is named")
    parser.add_argument("--junitxml", type=Path)
    known, rest = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the machine and its folder go
    with _timed(f"image of Debian {known.release}"):
        disk = image(known.release, FOLDER)
    with tempfile.TemporaryDirectory(prefix="slipway-vm-") as made, _timed("machine"):
        source, results = Path(made, "source"), Path(made, "results")
        _send(source, {name: _arguments(name, rest) for name in known.runtime or SELECTIONS})
        with results.open("wb") as file:
            file.truncate(RESULTS_BYTES)
        if not boot(disk, source, results, _line, DEADLINE_S):
            print(f"vm: ended after {DEADLINE_S} s", flush=True)
        return _bring(results, Path(made), known.runtime or tuple(SELECTIONS), known.junitxml)


def _arguments(runtime: str, rest: Sequence[str]) -> str:
    paths = () if any(word.startswith("tests/") for word in rest) else SELECTIONS[runtime]
    return shlex.join([*paths, "-v", "-o", f"timeout={TEST_DEADLINE_S * 2}", *rest])


def _send(target: Path, selections: Mapping[str, str]) -> None:
    """The source as it is now, and what to run."""
    texts = {
        "selections": "".join(f"{runtime} {arguments}\n" for runtime, arguments in selections.items()),
        "environment": f"export SLIPWAY_TEST_SLOWNESS={SLOWNESS} RUN_DEADLINE_S={RUN_DEADLINE_S}\n",
    }
    with tarfile.open(target, "w") as archive, tempfile.TemporaryDirectory() as folder:
        for name in SENT:
            archive.add(SOURCE / name, name, filter=_sent)
        for name, text in texts.items():
            Path(folder, name).write_text(text, encoding="utf-8")
            archive.add(Path(folder, name), name)


def _sent(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    return None if re.search(r"(^|/)(__pycache__|node_modules|\..*_cache)$", entry.name) else entry


def _bring(results: Path, folder: Path, runtimes: Sequence[str], report: Path | None) -> int:
    """Joins the reports.  1 when a run failed or is missing."""
    codes = []
    joined = ET.Element("testsuites")
    try:
        with tarfile.open(results) as archive:
            archive.extractall(folder)
    except tarfile.ReadError:
        print("vm: it brought no results", flush=True)
    for runtime in runtimes:
        code, suites = folder / f"{runtime}.code", folder / f"{runtime}.xml"
        codes.append(int(code.read_text()) if code.exists() else 1)
        for suite in ET.parse(suites).getroot().iter("testsuite") if suites.exists() else ():
            suite.set("name", f"vm-{runtime}")
            joined.append(suite)
    if report is not None and len(joined):
        ET.ElementTree(joined).write(report, encoding="unicode")
    return max(codes)


BEGAN = time.monotonic()


def _line(text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s | {text}", flush=True)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    began = time.monotonic()
    print(f"vm: {what}", flush=True)
    try:
        yield
    finally:
        print(f"vm: {what}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
