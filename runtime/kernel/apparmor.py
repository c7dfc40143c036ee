"""AppArmor: whether this kernel has it, which profiles it knows, loading one, and what it says of a process (apparmor(7))."""

from __future__ import annotations

import subprocess
from pathlib import Path

PARSER = "apparmor_parser"
PARAMETER = Path("/sys/module/apparmor/parameters/enabled")
PROFILES = Path("/sys/kernel/security/apparmor/profiles")
DEADLINE_S = 30.0


def enabled() -> bool:
    """Whether it confines anything here; without securityfs nobody can tell it what."""
    try:
        return PARAMETER.read_text(encoding="ascii").startswith("Y") and PROFILES.exists()
    except OSError:
        return False


def known(name: str) -> bool:
    """Whether the kernel has a profile of this name.  Raises OSError."""
    rows = PROFILES.read_text(encoding="utf-8", errors="replace").splitlines()
    return any(row.rpartition(" (")[0] == name for row in rows)


def load(text: str) -> None:
    """Loads, or replaces, the profiles in the text.  Raises FileNotFoundError without the parser, else OSError with its words."""
    command = [PARSER, "--replace", "--skip-cache", "--quiet"]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd="/"
        )
    except subprocess.TimeoutExpired:
        raise OSError(f"{PARSER} did not end in {DEADLINE_S:g} s") from None
    if done.returncode != 0:
        raise OSError(done.stderr.strip()[-300:] or f"{PARSER} ended with {done.returncode}")


def current(pid: int) -> str:
    """``profile (mode)`` of a process; empty when there is none."""
    for place in (
        "attr/apparmor/current",
        "attr/current",
    ):  # the second: before Linux 5.8, where AppArmor has it to itself
        try:
            return Path(f"/proc/{pid}/{place}").read_text(encoding="utf-8", errors="replace").strip("\0\n ")
        except OSError:
            continue
    return ""
