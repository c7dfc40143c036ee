"""``./slipway up``: check, set up, run everything in the foreground."""

from __future__ import annotations

import asyncio
import os
import time

from launcher import folders
from launcher.lock import Lock
from launcher.output import Output
from launcher.prepare import Prepared, Setup, refuse_unfit
from launcher.processes import children
from launcher.refusal import Refusal
from launcher.settings import Settings
from launcher.supervisor import Supervisor


def locks(settings: Settings) -> tuple[tuple[Lock, str], tuple[Lock, str]]:
    """Over the home, and over the instance's name, which owns kernel objects whatever the home."""
    by_home = Lock(settings.home / "up.lock"), f"the home {settings.home}"
    by_name = Lock(settings.run / "up.lock"), f"the instance {settings.instance}"
    return by_home, by_name


def up(settings: Settings, output: Output, *, set_up_only: bool = False) -> int:
    began = time.monotonic()
    os.umask(0o022)
    if os.geteuid() != 0:
        raise Refusal("Slipway makes containers, and that needs root.", "Run it as root: sudo ./slipway up.")
    held = locks(settings)
    for lock, what in held:
        if holder := lock.holder():
            raise Refusal(
                f"Slipway is already running over {what} ({holder}).",
                "Stop that one first (Ctrl-C where it runs), or give this one another --home and SLIPWAY_INSTANCE.",
            )
    for warning in refuse_unfit(settings):
        output.line(f"  note: {warning.name}: {warning.found}. {warning.fix}")
    for lock, what in held:
        lock.path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        lock.acquire(what)
    try:
        setup = Setup(settings, output)
        prepared = setup.run()
        _passwords(output, prepared)
        setup.passwords_were_shown()
        if set_up_only:
            output.line(f"Slipway is set up ({time.monotonic() - began:.1f} s).")
            return 0
        return asyncio.run(_supervise(settings, output, prepared, began))
    finally:
        for lock, _ in held:
            lock.release()


async def _supervise(settings: Settings, output: Output, prepared: Prepared, began: float) -> int:
    def when_ready() -> None:
        output.say(f"ready in {time.monotonic() - began:.1f} s: {settings.url}")
        if not settings.loopback_only:
            output.say("others can reach this address, without TLS: put a proxy that speaks TLS in front of it")

    return await Supervisor(children(settings, prepared.code), output, when_ready).run()


def _passwords(output: Output, prepared: Prepared) -> None:
    if not prepared.accounts:
        return
    rows = [f"{one['username']:<12} {one['password']:<28} {one['role']}" for one in prepared.accounts]
    output.framed(["Accounts, made just now. The passwords are shown this once: keep them.", "", *rows])


def needs_set_up(settings: Settings) -> None:
    """Raises Refusal before the first ``up``."""
    if not settings.python.exists() or not folders.user_exists():
        raise Refusal(f"Nothing is set up in {settings.home} yet.", "Run ./slipway up first, or name the right --home.")
