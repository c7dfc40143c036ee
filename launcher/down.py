"""``./slipway down``: stop and remove all containers and every trace of them in the kernel."""

from __future__ import annotations

import os
import subprocess
import sys

from launcher import folders
from launcher.output import Output
from launcher.refusal import Refusal
from launcher.settings import Settings
from launcher.up import locks, needs_set_up

TEARDOWN = """
import sys
from runtime.engines import open_engine
from runtime.errors import RuntimeFault
from runtime.home import Home
try:
    engine = open_engine(sys.argv[1], Home.from_environment())
    count = len(engine.list())
    engine.teardown()
except RuntimeFault as fault:
    sys.exit(str(fault))
print(f"{count} container{'' if count == 1 else 's'} removed")
"""


def down(settings: Settings, output: Output, *, yes: bool) -> int:
    """With ``up`` running as well as without: a running console sees its containers go and says so on their pages."""
    if os.geteuid() != 0:
        raise Refusal("Removing containers needs root.", "Run it as root: sudo ./slipway down.")
    needs_set_up(settings)
    if not yes and not _confirmed(settings):
        output.line("Nothing was changed.")
        return 1
    code = folders.code_for_user(settings)
    environment = {**settings.environment(), "PYTHONPATH": str(code)}
    python = str(settings.python)
    with output.step("containers", "stop and remove all of them, with their networks, mounts and cgroups"):
        engine = settings.values["SLIPWAY_ENGINE"]
        done = subprocess.run(
            [python, "-c", TEARDOWN, engine], check=False, cwd=code, env=environment, stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise Refusal("The engine could not remove everything; it said why above.", "Run ./slipway down once more.")
    output.line(f"  {done.stdout.strip()}; images, accounts and bills stay in {settings.home}")
    _tell_the_database(settings, output, [python, str(code / "manage.py"), "reconcile"], environment)
    return 0


def _confirmed(settings: Settings) -> bool:
    running = any(lock.holder() for lock, _ in locks(settings))
    also = " Slipway itself is running and stays so." if running else ""
    if not sys.stdin.isatty():
        raise Refusal("down removes every container, so it asks first, and here is nobody to ask.", "Give --yes.")
    question = f"Stop and remove every container of the instance {settings.instance}?{also} [y/N] "
    try:
        return input(question).strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _tell_the_database(settings: Settings, output: Output, command: list[str], environment: dict[str, str]) -> None:
    """So that pages are right at the next start; if it fails, the reconciliation of that start says the same."""
    if not settings.values["SLIPWAY_DATABASE_URL"] and not (settings.home / "db/slipway.sqlite3").exists():
        return
    done = subprocess.run(
        command, check=False, env=environment, cwd=command[1].rpartition("/")[0], capture_output=True, text=True
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        output.line(f"  the database will learn of it at the next start ({last})")
