"""The runtime's tests once more, on cgroup version 2: in virtual machines that boot Debian's own kernel.

``python -m tests.vm [--release trixie] [--runtime crun] [--thorough] [what pytest selects by]``; without paths it is what ``tests.vm.selection``
selects: what cgroups have a part in, or with ``--thorough`` (two hours) everything that the other kernel has.
As many machines as there are processors share the tests; their reports become one.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

from tests.kernel.scene import compiled
from tests.vm.image import SOURCE, Image, image
from tests.vm.machine import boot
from tests.vm.queue import Queue
from tests.vm.selection import FOLDERS

RUNTIMES: Mapping[str, tuple[str, ...]] = {
    "runc": FOLDERS,
    "crun": ("tests/kernel/test_cgroup.py", "tests/kernel/test_self_test.py", "tests/conformance/test_engine.py"),
}
"""Each container runtime has a run of its own.  Of crun, whose engine is the same, only what the runtime itself does."""
RELEASES = ("bookworm", "trixie")
SENT = ("launcher", "runtime", "tests", "pyproject.toml")
COLLECTED = ("console", "locale", "templates", "manage.py")
"""What tests that are left out want to be collected."""
FOLDER = Path(os.environ.get("SLIPWAY_TEST_VM_FOLDER", "/var/tmp/slipway-test/vm"))
MACHINES_AT_MOST = 4
SLOWNESS = float(os.environ.get("SLIPWAY_TEST_SLOWNESS", "10"))
"""How much slower an emulated processor is, about: deadlines of tests are multiplied by it."""
TEST_DEADLINE_S = 600
DEADLINE_S = 1500
"""Of the tests: none begins later.  Those that nobody has begun count as failed."""
THOROUGH = 6
"""So many times as long."""
LAST_S = 300
"""For the tests that run at the deadline."""
RESULTS_BYTES = 64 * 2**20


def main() -> int:
    parser = argparse.ArgumentParser(prog="tests.vm", allow_abbrev=False)
    parser.add_argument("--release", choices=RELEASES, default=RELEASES[0])
    parser.add_argument("--runtime", choices=tuple(RUNTIMES), action="append", help="one run for each that is named")
    parser.add_argument("--machines", type=int, default=min(MACHINES_AT_MOST, len(os.sched_getaffinity(0))))
    parser.add_argument("--thorough", action="store_true")
    parser.add_argument("--junitxml", type=Path)
    known, rest = parser.parse_known_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the machines and their folder go
    with _timed(f"image of Debian {known.release}"):
        disk = image(known.release, FOLDER)
    with tempfile.TemporaryDirectory(prefix="slipway-vm-") as made:
        folder = Path(made)
        with _timed("selection"):
            runs = select(folder, known.runtime or tuple(RUNTIMES), rest, thorough=known.thorough)
            send(folder, runs)
        with _timed("machines"):
            left = run(disk, folder, runs, known.machines, DEADLINE_S * (THOROUGH if known.thorough else 1))
        if left:
            print(f"vm: {left} tests were not begun in time", flush=True)
        return max(bool(left), bring(folder, known.machines, tuple(runs), known.junitxml))


def select(
    folder: Path, runtimes: Sequence[str], arguments: Sequence[str], *, thorough: bool = False
) -> dict[str, list[str]]:
    """Collects in a copy of the source, which is what is sent: so what Python compiles is compiled here, where it is quick.

    Of a file that is named everything is wanted.
    """
    tree, found = folder / "tree", folder / "selected"
    tree.mkdir()
    for name in (*SENT, *COLLECTED):
        copy = shutil.copytree if (SOURCE / name).is_dir() else shutil.copy2
        copy(SOURCE / name, tree / name, **({"ignore": _not_sent} if copy is shutil.copytree else {}))
    compileall.compile_dir(tree / "runtime", quiet=1)
    named = any(word.startswith("tests/") for word in arguments)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-qq", "--import-mode=importlib", "-p", "no:cacheprovider",
         "-p", "tests.vm.selection", "--selected", str(found), *(("--thorough",) if named or thorough else ()),
         *(() if named else FOLDERS), *arguments],
        check=False, cwd=tree, env={**environment, "PYTHONPATH": str(tree)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    if done.returncode:
        print(done.stdout, flush=True)
        done.check_returncode()
    selected = json.loads(found.read_text(encoding="utf-8"))
    for reason, count in sorted(selected["left_out"].items()):
        print(f"vm: left out: {count:4} {reason}", flush=True)
    runs = {
        runtime: [test for test in selected["tests"] if named or test.startswith(RUNTIMES[runtime])]
        for runtime in runtimes
    }
    for runtime, tests in runs.items():
        print(f"vm: with {runtime}: {len(tests)} tests", flush=True)
    return runs


def _not_sent(_: object, names: list[str]) -> set[str]:
    return {name for name in names if re.search(r"^(__pycache__|node_modules|\..*_cache)$", name)}


def send(folder: Path, runs: Mapping[str, Sequence[str]]) -> None:
    """The tree as ``source``, with what the guest reads: the files of each run, the environment, and programs, since it has no compiler."""
    tree = folder / "tree"
    files = {runtime: dict.fromkeys(test.partition("::")[0] for test in tests) for runtime, tests in runs.items()}
    rows = "".join(f"{runtime} {shlex.join(paths)}\n" for runtime, paths in files.items())
    (tree / "runs").write_text(rows, encoding="utf-8")
    environment = {"SLIPWAY_TEST_SLOWNESS": SLOWNESS, "TEST_DEADLINE_S": TEST_DEADLINE_S}
    (tree / "attacks").mkdir()
    if shutil.which("gcc"):
        compiled(tree / "attacks")
        environment["SLIPWAY_TEST_ATTACKS"] = "/slipway/attacks"
    rows = "".join(f"export {name}={value}\n" for name, value in environment.items())
    (tree / "environment").write_text(rows, encoding="utf-8")
    with tarfile.open(folder / "source", "w") as archive:
        for name in (*SENT, "runs", "environment", "attacks"):
            archive.add(tree / name, name, filter=_roots)


def _roots(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    return entry


def run(disk: Image, folder: Path, runs: Mapping[str, Sequence[str]], machines: int, deadline_s: float) -> int:
    """Until all machines have switched themselves off.  How many tests were not begun in time."""
    queue = Queue(runs)
    late: list[int] = []
    over = threading.Event()
    clock = threading.Timer(deadline_s, lambda: late.append(queue.close()))
    clock.start()

    def one(number: int) -> None:
        results, line = folder / f"results-{number}", folder / f"line-{number}"
        with results.open("wb") as file:
            file.truncate(RESULTS_BYTES)
        with closing(queue.serve(line)):
            done = boot(
                disk, folder / "source", results, line, lambda text: _line(number, text), deadline_s + LAST_S, over
            )
        if not done:
            print(f"vm: machine {number} was ended after {deadline_s + LAST_S:.0f} s", flush=True)

    try:
        with ThreadPoolExecutor(machines) as pool:
            try:
                list(pool.map(one, range(1, machines + 1)))
            finally:
                over.set()  # when somebody ends this process the machines would go on
    finally:
        clock.cancel()
    return sum(late) + queue.close()


def bring(folder: Path, machines: int, runtimes: Sequence[str], report: Path | None) -> int:
    """Joins the reports.  1 when a run failed or is missing."""
    codes = []
    joined = ET.Element("testsuites")
    for number in range(1, machines + 1):
        brought = folder / f"brought-{number}"
        try:
            with tarfile.open(folder / f"results-{number}") as archive:
                archive.extractall(brought)
        except tarfile.ReadError:
            print(f"vm: machine {number} brought no results", flush=True)
        for runtime in runtimes:
            code, suites = brought / f"{runtime}.code", brought / f"{runtime}.xml"
            codes.append(int(code.read_text()) if code.exists() else 1)
            for suite in ET.parse(suites).getroot().iter("testsuite") if suites.exists() else ():
                suite.set("name", f"vm-{runtime}-{number}")
                joined.append(suite)
    if report is not None and len(joined):
        ET.ElementTree(joined).write(report, encoding="unicode")
    return max(codes)


BEGAN = time.monotonic()


def _line(number: int, text: str) -> None:
    print(f"{time.monotonic() - BEGAN:6.1f} s | {number} | {text}", flush=True)


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
