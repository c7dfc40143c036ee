"""The FinOps Foundation's validator, ready to run: with a Python that it knows and its packages, in the tests' home.

It wants Python 3.12 or 3.13 (later ones have no wheels of the pyarrow that it needs).  One of this machine is taken: that of
SLIPWAY_TEST_PYTHON, of PATH or of pyenv.  Where there is none, as on a plain Debian 12, a small Debian 13 is made beside the packages by
mmdebstrap, and its Python runs them.  Either is made once, and again when the requirements change.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.vm.image import EXCLUDED, sources

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
LOCKS = (REQUIREMENTS / "focus-validator.txt", REQUIREMENTS / "focus-validator-itself.txt")
VERSIONS = ((3, 12), (3, 13))
RELEASE = "trixie"
PACKAGES = "opt/packages"
PROGRAM = "import sys; from focus_validator.main import main; sys.argv[0] = 'focus-validator'; main()"
SETS_UP_WITHIN_S = 1200
RUNS_WITHIN_S = 300


@dataclass(frozen=True, slots=True)
class Validator:
    root: Path
    """Holds :data:`PACKAGES` and, where ``python`` is the root's own, a Debian."""
    python: str
    own: bool
    """``python`` is a path in ``root``, and runs there."""

    def run(self, data: Path, report: Path, *arguments: str) -> str:
        """On a CSV file; ``report`` is its XML.  Returns what it said: whether rules failed is in the report alone."""
        with tempfile.TemporaryDirectory(dir=self.root, prefix="run-") as made:
            shutil.copy(data, Path(made) / "data.csv")
            inside = Path("/", Path(made).relative_to(self.root)) if self.own else Path(made)
            command = [
                self.python, "-c", PROGRAM, "--data-file", f"{inside}/data.csv", "--output-type", "unittest",
                "--output-destination", f"{inside}/report.xml", *arguments,
            ]  # fmt: skip
            ran = subprocess.run(
                [*(["chroot", self.root] if self.own else []), "/usr/bin/env", "-C", self._packages, *command], check=False,
                capture_output=True, text=True, timeout=RUNS_WITHIN_S, env={"PYTHONPATH": self._packages, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
            )  # fmt: skip
            written = Path(made) / "report.xml"
            if written.exists():
                shutil.copy(written, report)
        return ran.stdout + ran.stderr

    @property
    def _packages(self) -> str:
        return f"/{PACKAGES}" if self.own else str(self.root / PACKAGES)


def validator() -> Validator:
    """Raises CalledProcessError with the tools' words on standard error."""
    home = Path(os.environ.get("SLIPWAY_TEST_FOCUS_FOLDER", "/var/tmp/slipway-test/focus"))
    home.mkdir(parents=True, exist_ok=True)
    here = python_here()
    mark = hashlib.sha256(repr((here, RELEASE, [lock.read_text(encoding="utf-8") for lock in LOCKS])).encode())
    found = home / mark.hexdigest()[:16]
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists():
            for old in home.glob("*/"):
                shutil.rmtree(old)
            _make(found, here)
    return Validator(found, here or "/usr/bin/python3", own=here is None)


def python_here() -> str | None:
    """One that is 3.12 or 3.13 and runs."""
    names = [
        os.environ.get("SLIPWAY_TEST_PYTHON", ""),
        *(f"python{major}.{minor}" for major, minor in VERSIONS),
        "python3",
    ]
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    listed = [str(path) for major, minor in VERSIONS for path in sorted(pyenv.glob(f"{major}.{minor}.*/bin/python3"))]
    for name in (*names, *listed):
        found = shutil.which(name) if name else None
        if found and _version([found]) in VERSIONS:
            return found
    return None


def _version(python: list[str]) -> tuple[int, int] | None:
    asked = [*python, "-c", "import sys; print(*sys.version_info[:2])"]
    said = subprocess.run(asked, check=False, capture_output=True, text=True, timeout=60)
    if said.returncode or not re.fullmatch(r"\d+ \d+\s*", said.stdout):
        return None
    major, minor = said.stdout.split()
    return int(major), int(minor)


def _make(found: Path, here: str | None) -> None:
    making = found.with_name("making")
    making.mkdir()
    if here is None:
        excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
        _run(
            ["mmdebstrap", "--quiet", "--variant=apt", "--mode=root", "--include=python3", *excluded,
             "--aptopt=Apt::Install-Recommends false", RELEASE, str(making), "-"],
            sources(RELEASE),
        )  # fmt: skip
    version = _version([here] if here else ["chroot", str(making), "/usr/bin/python3"])
    if version not in VERSIONS:
        raise RuntimeError(f"Debian {RELEASE} has Python {version}, which the validator does not know.")
    _packages(making, ".".join(map(str, version)))
    making.rename(found)


def _packages(root: Path, version: str) -> None:
    """By this environment's pip, so nothing in the root needs a network; older ones compare what packages ask for with its own Python."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--no-input"]
    target = ["install", "--no-deps", "--ignore-requires-python", "--target", str(root / PACKAGES)]
    wheels = ["--python-version", version, "--implementation", "cp", "--only-binary", ":all:"]
    needed, itself = LOCKS
    _run([*pip, *target, *wheels, "--require-hashes", "-r", str(needed)])
    _run([*pip, *target, "--require-hashes", "-r", str(itself)])


def _run(command: list[str], words: str = "") -> None:
    subprocess.run(command, check=True, input=words, text=True, timeout=SETS_UP_WITHIN_S, stdout=sys.stderr)
