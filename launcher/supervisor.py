"""Starts children, shows their lines, starts again what dies, stops all in order.

Each child is the leader of its own session, so a Ctrl-C at the terminal reaches only the launcher, which then stops the
children stage by stage, and so a child's whole group can be ended.  Containers' monitors have left that group by
themselves.  When the launcher dies without a word the kernel kills the children (see child.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.output import Output

WRAPPER = Path(__file__).with_name("child.py")
STEADY_S = 30.0
"""A child that lived as long is started again at once, and its failures are forgotten."""
LONGEST_WAIT_S = 30.0
LONGEST_LINE = 8192

Probe = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep alive.

    It is ready when ``probe`` answers true, or when a line of its output contains ``ready_line``; with neither it is
    ready at once.  Children start in the order of ``start_stage`` and stop in the order of ``stop_stage``, together
    within a stage; a stage ends when all of it is ready, or gone.
    """

    name: str
    command: Sequence[str]
    user: str = "root"
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = Path("/")
    start_stage: int = 1
    stop_stage: int = 1
    probe: Probe | None = None
    ready_line: str = ""
    mute: re.Pattern[str] | None = None
    """Lines that tell a person nothing, such as banners; they are read for ``ready_line`` all the same."""


class Supervised:
    """One child over its lives."""

    def __init__(self, child: Child, output: Output) -> None:
        self.child = child
        self.ready = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None
        self.failures = 0
        self.stopping = False
        self._output = output

    async def live(self) -> None:
        """Until :meth:`stop`: start, show, wait, start again after a pause that grows with the failures."""
        while not self._over():
            began = time.monotonic()
            code = await self._once()
            if self._over():
                return
            self.failures = 1 if time.monotonic() - began > STEADY_S else self.failures + 1
            pause = pause_after(self.failures)
            self._output.say(f"{self.child.name} ended ({describe_exit(code)}); starting it again in {pause:g} s")
            await asyncio.sleep(pause)

    def _over(self) -> bool:
        return self.stopping

    async def _once(self) -> int:
        child = self.child
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(WRAPPER),
            child.user,
            str(os.getpid()),
            *child.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(child.environment),
            cwd=child.folder,
            start_new_session=True,
        )
        probing = asyncio.create_task(self._probe())
        showing = asyncio.create_task(self._show(self.process))
        try:
            code = await self.process.wait()
            # A grandchild may hold the pipe open; what was written before the end is shown, its future is not awaited.
            await asyncio.wait([showing], timeout=0.5)
            return code
        finally:
            for task in (probing, showing):
                task.cancel()
            self.signal(signal.SIGKILL)

    async def _probe(self) -> None:
        child = self.child
        if child.probe is None:
            if not child.ready_line:
                self.ready.set()
            return
        while not self.ready.is_set():
            if await child.probe():
                self.ready.set()
                return
            await asyncio.sleep(0.05)

    async def _show(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        held = b""
        while chunk := await process.stdout.read(65536):
            *lines, held = (held + chunk).split(b"\n")
            for line in lines:
                self._line(line)
            if len(held) > LONGEST_LINE:
                self._line(held)
                held = b""
        if held:
            self._line(held)

    def _line(self, raw: bytes) -> None:
        text = raw[:LONGEST_LINE].decode(errors="replace").rstrip()
        if text and not (self.child.mute and self.child.mute.search(text)):
            self._output.child(self.child.name, text)
        if self.child.ready_line and self.child.ready_line in text:
            self.ready.set()

    def signal(self, number: int) -> None:
        """To the child's whole group; one that is gone needs none."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)


async def _all_gone(members: Sequence[Supervised]) -> None:
    for one in members:
        if one.process is not None:
            await one.process.wait()


def pause_after(failures: int) -> float:
    return float(min(LONGEST_WAIT_S, 0.5 * 2 ** (failures - 1)))


def describe_exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


class Supervisor:
    """``run`` returns when asked to stop (exit code 0) or when a child never became ready (1)."""

    READY_WITHIN_S = 90.0
    GIVE_UP_AFTER = 4
    STOP_WITHIN_S = 9.0

    def __init__(self, children: Sequence[Child], output: Output, when_ready: Callable[[], None]) -> None:
        self.output = output
        self.supervised = [Supervised(child, output) for child in children]
        self._when_ready = when_ready
        self._asked = asyncio.Event()
        self._asked_again = asyncio.Event()
        self._lives: dict[str, asyncio.Task[None]] = {}

    def ask_to_stop(self) -> None:
        """The first time in order, the second time at once."""
        if self._asked.is_set():
            self._asked_again.set()
        self._asked.set()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self.ask_to_stop)
        try:
            problem = await self._unless_asked(self._start())
            if problem:
                self.output.say(problem)
            elif not self._asked.is_set():
                self._when_ready()
                await self._asked.wait()
            await self._stop()
            return 1 if problem else 0
        finally:
            for supervised in self.supervised:
                supervised.signal(signal.SIGKILL)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)

    async def _unless_asked(self, work: Awaitable[str]) -> str:
        """The result of ``work``, or "" when somebody asks to stop first."""
        task = asyncio.ensure_future(work)
        asked = asyncio.create_task(self._asked.wait())
        await asyncio.wait([task, asked], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if task.done():
            return task.result()
        task.cancel()
        return ""

    async def _start(self) -> str:
        """Stage by stage.  Returns what went wrong, or ""."""
        deadline = time.monotonic() + self.READY_WITHIN_S
        for stage in sorted({one.child.start_stage for one in self.supervised}):
            members = [one for one in self.supervised if one.child.start_stage == stage]
            for one in members:
                self._lives[one.child.name] = asyncio.create_task(one.live())
            while waiting := [one for one in members if not one.ready.is_set()]:
                for one in waiting:
                    if one.failures >= self.GIVE_UP_AFTER:
                        return f"{one.child.name} does not start: its lines above say why. Stopping everything."
                if time.monotonic() > deadline:
                    names = " and ".join(one.child.name for one in waiting)
                    return f"{names} did not become ready within {self.READY_WITHIN_S:.0f} s. Stopping everything."
                await asyncio.sleep(0.02)
        return ""

    async def _stop(self) -> None:
        """Stage by stage: SIGTERM, a share of the time left, SIGKILL."""
        self.output.say("stopping; containers keep running (Ctrl-C again stops at once)")
        for one in self.supervised:
            one.stopping = True
        deadline = time.monotonic() + self.STOP_WITHIN_S
        stages = sorted({one.child.stop_stage for one in self.supervised})
        for position, stage in enumerate(stages):
            members = [one for one in self.supervised if one.child.stop_stage == stage]
            share = max(0.5, (deadline - time.monotonic()) / (len(stages) - position))
            await self._end(members, share)
        self.output.say("stopped")

    async def _end(self, members: Sequence[Supervised], within_s: float) -> None:
        running = [one for one in members if one.process is not None and one.process.returncode is None]
        for one in running:
            one.signal(signal.SIGTERM)
        again = asyncio.create_task(self._asked_again.wait())
        if running:
            everything = asyncio.create_task(_all_gone(running))
            await asyncio.wait([everything, again], timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            for one in running:
                if one.process is not None and one.process.returncode is None:
                    if not self._asked_again.is_set():
                        self.output.say(
                            f"{one.child.name} did not stop within {within_s:.0f} s; killing it, and the next start resumes its work"
                        )
                    one.signal(signal.SIGKILL)
            await everything
        again.cancel()
        for one in members:
            life = self._lives.get(one.child.name)
            if life is not None:
                if one not in running:
                    life.cancel()
                await asyncio.wait([life], timeout=2)
