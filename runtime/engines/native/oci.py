"""runc or crun, and what their words mean for a person."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from runtime import logs
from runtime.errors import Conflict, DeadlineExceeded, EngineFault, InvalidSpec, LimitExceeded, OutOfSpace, RuntimeFault
from runtime.kernel.process import start_time
from runtime.kernel.ready import readable

DEADLINE_S = 30.0
DELETE_DEADLINE_S = 5.0
START_FIFO = "exec.fifo"
START_DEADLINE_S, START_POLL_S = 5.0, 0.1

logger = logs.of(__name__)

PATHS = re.compile(r"/[\w.:@-]+(?:/[\w.:@-]*)+")


@dataclass(frozen=True, slots=True)
class Runtime:
    path: str
    root: Path

    @property
    def hands_over_terminals(self) -> bool:
        """Of commands that it waits for (:mod:`runtime.engines.native.console`)."""
        return Path(self.path).name == "crun"

    @property
    def leads_sessions(self) -> bool:
        """Of commands without a terminal, by a process of the runtime's own that has ended before they begin (setsid(2))."""
        return Path(self.path).name == "crun"

    def _run(self, *arguments: str) -> str:
        command = [self.path, "--root", str(self.root), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False, cwd="/")
        except subprocess.TimeoutExpired:
            raise EngineFault(f"The container runtime did not answer to {arguments[0]}.", hint="Try again.") from None
        if done.returncode != 0:
            raise fault(done.stderr, f"The container runtime could not {arguments[0]} the container")
        return done.stdout

    def start(self, id: str, pid: int) -> None:
        """Let the program of a created container go; ``pid`` is its first process.

        What ``runc start`` does is to read the byte that the waiting process writes into a fifo, and to remove that: done here, since
        the program's own start is a sixth of a launch.  Whatever else is found there is left to the runtime, which then tells.
        """
        if Path(self.path).name != "runc" or not _let_go(self.root / id / START_FIFO, pid):
            self._run("start", id)

    def delete(self, id: str) -> bool:
        """False: it did not know the container.  For a moment after the end it refuses, until it sees that the process is gone."""
        deadline = time.monotonic() + DELETE_DEADLINE_S
        while (self.root / id).exists():
            try:
                self._run("delete", id)
            except RuntimeFault:
                if time.monotonic() > deadline:
                    raise DeadlineExceeded(
                        "The container runtime does not let go of the container.", hint="Try again."
                    ) from None
                time.sleep(0.02)
            else:
                return True
        return False

    def status(self, id: str) -> str:
        """``created``, ``running``, ``stopped``, ``paused``; empty when unknown."""
        if not (self.root / id).exists():
            return ""
        return str(json.loads(self._run("state", id))["status"])


# What lies in the folder (``Home.runc``) is read and taken away without the program: also where none works any more.


def was_started(root: Path, id: str) -> bool:
    """Whether ``start`` let the program go: the runtime keeps a fifo that the program waits at, and start removes it."""
    return (root / id).exists() and not (root / id / START_FIFO).exists()


def forget(root: Path, id: str) -> None:
    """Of a container whose processes have ended and whose cgroup its owner removes: all that is left to ``delete`` is its folder."""
    shutil.rmtree(root / id, ignore_errors=True)


def _let_go(fifo: Path, pid: int) -> bool:
    """False: nothing has happened, as far as one can tell."""
    try:
        descriptor = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        deadline = time.monotonic() + START_DEADLINE_S
        while not readable([descriptor], START_POLL_S):
            if time.monotonic() > deadline or start_time(pid) is None:
                return False
        if os.read(descriptor, 1) != b"0":
            return False
    finally:
        os.close(descriptor)
    fifo.unlink(missing_ok=True)
    return True


SETTING = re.compile(r"(write sysctl key |(open|write)( to)? `?/proc/sys/)(?P<name>[\w./-]+)", re.IGNORECASE)
"""How the runtimes tell of a kernel setting: by its name, or by its file, with slashes where a person wrote dots."""
SAID = re.compile(r'\bmsg="((?:[^"\\]|\\.)*)"')
"""What runc says, in a line of its log."""
_MEANINGS: tuple[tuple[str, type[RuntimeFault], str, str, str], ...] = (
    (r"chdir (to cwd |`).*(no such file|not a directory|permission denied)|mkdir .*cwd|init: mkdir .*not a directory|cwd must be an abs", InvalidSpec,
     "The working directory is not there.", "Choose a directory of the image.", "working_dir"),
    (r'exec: \\?"(?P<what>[^"\\]*)\\?": (executable file not found|stat .*no such file)', InvalidSpec,
     "The image has no command {what!r}.", "Check the command, or leave it empty to run the image's own.", "command"),
    (r'exec:? \\?"?(?P<what>[^":\\]*)\\?"?:? .*permission denied|starting container process.*permission denied', InvalidSpec,
     "The command cannot be executed: permission denied.", "Choose another command or user.", "command"),
    (r"executable file `(?P<what>[^`]*)`( not found|.*: no such file)", InvalidSpec,
     "The image has no command {what!r}.", "Check the command, or leave it empty to run the image's own.", "command"),
    (r"(exec|executable).* no such file or directory|no such file or directory: unknown$", InvalidSpec,
     "The image does not have the command, or the interpreter or library that the command needs.", "Check the command.", "command"),
    (r"argument list too long", InvalidSpec,
     "The command is too long.", "Shorten it, or put it into a file.", "command"),
    (r"exec format error", InvalidSpec,
     "The command is not a program of this node's architecture, or a script without '#!'.", "Check the command.", "command"),
    (r"no space left on device", OutOfSpace, "The node's disk is full.", "Remove images or containers and try again.", ""),
    (r"cannot allocate memory|memory.*(too low|device or resource busy)|unable to set memory limit", LimitExceeded,
     "The memory limit is too low for the container to start.", "Raise the memory limit.", "limits.memory_bytes"),
    (r"container with id exists|already exists", Conflict, "The container exists already.", "", "id"),
    (r"signal: killed|container init was OOM-killed", LimitExceeded,
     "The memory limit is too low for the container to start.", "Raise the memory limit.", "limits.memory_bytes"),
)  # fmt: skip


def refused_setting(name: str) -> InvalidSpec:
    return InvalidSpec(
        f"The kernel setting {name!r} is not there in a container, or does not take the value.",
        hint="Check its name and value.",
        field=f"sysctls.{name}",
    )


def fault(words: str, otherwise: str = "The container could not be started") -> RuntimeFault:
    """The error of our tree that a runtime's message stands for.

    What nothing describes is told by ``otherwise`` and the runtime's last words, less the paths of the host in them.
    """
    if setting := SETTING.search(words):
        return refused_setting(setting["name"].replace("/", "."))
    for pattern, kind, message, hint, field in _MEANINGS:
        match = re.search(pattern, words, re.IGNORECASE)
        if match:
            return kind(message.format(what=match.groupdict().get("what") or ""), hint=hint, field=field)
    logger.error("%s: %s", otherwise, words)
    last = words.strip().splitlines()[-1] if words.strip() else "no reason given"
    if said := SAID.search(last):
        last = said[1].replace('\\"', '"')
    return EngineFault(f"{otherwise}: {PATHS.sub('(path)', last)[-300:]}")
