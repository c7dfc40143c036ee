"""Further processes in a running container, by the runtime's ``exec`` in the foreground, which relays a terminal and the exit code."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from runtime.api import ExecSpec
from runtime.engines.native import oci
from runtime.engines.native.passwd import Identity
from runtime.errors import DeadlineExceeded, EngineFault
from runtime.kernel import cgroup, keyring
from runtime.kernel.lease import Lease
from runtime.kernel.process import Process, children_of, levels_of, session_id, shows_children, start_time

START_DEADLINE_S = 15.0
HANG_UP_S = 2.0
KILL_S = 2.0
POLL_S = 0.002
DEAD_FOR_S = 2.0
"""runc 1.1 waits for good for a terminal whose command was killed before it had sent it, as by the container's end; and until it has waited
for that command, the container's first process does not end either."""
LONGEST_POLL_S = 3600.0
"""The kernel takes milliseconds in an int; a person's terminal may stay for longer than that has."""


class NativeExec:
    """See :class:`runtime.api.ExecSession`.  ``held``: see :func:`_held`; it is let go here."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        folder: Path,
        master: int | None,
        group: cgroup.Cgroup,
        held: Lease | None = None,
    ) -> None:
        self._held = held
        self._child = child
        self._folder = folder
        self._group = group
        self._sessions: set[int] = set()
        self._master = master
        if master is not None:
            terminal = cast("BinaryIO", os.fdopen(master, "r+b", buffering=0))
            self.stdin: BinaryIO = terminal
            self.stdout: BinaryIO = terminal
            self.stderr: BinaryIO | None = None
        else:
            self.stdin, self.stdout = cast("BinaryIO", child.stdin), cast("BinaryIO", child.stdout)
            self.stderr = cast("BinaryIO", child.stderr)

    def resize(self, columns: int, rows: int) -> None:
        if self._master is not None:
            set_size(self._master, columns, rows)

    def poll(self) -> int | None:
        return self._child.poll()

    def finished(self) -> bool:
        """Whether the command itself has ended; :meth:`poll` waits for all that hold its output, too."""
        if self.poll() is not None:
            return True
        pid = self._pid()
        return pid is not None and start_time(pid) is None

    def _pid(self) -> int | None:
        """The command's; None: the runtime has not told it yet."""
        try:
            return int((self._folder / "pid").read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def wait(self, timeout_s: float) -> int:
        """By pidfd: ``Popen.wait`` with a timeout looks, sleeps, and sleeps longer, up to 50 ms."""
        deadline = time.monotonic() + timeout_s
        while (code := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(f"The command did not end within {timeout_s:g} seconds.")
            with contextlib.suppress(ProcessLookupError), Process(self._child.pid) as process:
                process.wait(min(left, LONGEST_POLL_S))
        return code

    def close(self) -> None:
        try:
            self._hang_up()
        finally:
            if self._held is not None:
                self._held.close()
            for stream in {self.stdin, self.stdout, self.stderr} - {None}:
                cast("BinaryIO", stream).close()
            self._end_runtime()
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end_runtime(self) -> None:
        try:
            self._child.wait(HANG_UP_S)
        except subprocess.TimeoutExpired:
            self._child.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # the kernel holds it, which nobody can help
                self._child.wait(KILL_S)

    def begun(self) -> bool:
        """Whether the runtime has told the command's pid; then its session is known, too: the one that it came in, or one that it led itself."""
        if self._held is not None and not self._sessions:
            self._sessions = _sessions_of_children(self._child.pid)
            if self._sessions:
                self._held.close()
        pid = self._pid()
        if pid is not None:
            self._sessions |= {pid, session_id(pid) or pid}
        return pid is not None

    def _hang_up(self) -> None:
        """Of the whole session that the runtime made for the command: also of what it left in the background."""
        if self._pid() is None:
            self._child.terminate()
        for number, wait_s in ((signal.SIGHUP, HANG_UP_S), (signal.SIGKILL, KILL_S)):
            deadline = time.monotonic() + wait_s
            members = self._members()
            for process in members:
                process.send(number)
            for process in members:
                process.wait(deadline - time.monotonic())
                process.close()

    def _members(self) -> list[Process]:
        """Its session's processes in the container's cgroup; a pid used anew outside of it is not among them."""
        found = []
        for pid in self._group.procs():
            with contextlib.suppress(ProcessLookupError):
                process = Process(pid)
                if session_id(pid) in self._sessions:
                    found.append(process)
                else:
                    process.close()
        return found


def set_size(descriptor: int, columns: int, rows: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", max(1, rows), max(1, columns), 0, 0))


def run(
    runtime: oci.Runtime, scratch: Path, id: str, process: Mapping[str, Any], spec: ExecSpec, group: cgroup.Cgroup
) -> NativeExec:
    """``process`` is what :func:`described` made, ``group`` the container's.  Raises InvalidSpec (no such command), EngineFault; then nothing of it is left."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = scratch / f"{id}.{os.getpid()}.{os.urandom(8).hex()}"
    folder.mkdir(mode=0o700)
    command = [
        runtime.path, "--root", str(runtime.root), "--log", str(folder / "log"), "--log-format", "json", "exec",
        "--pid-file", str(folder / "pid"), "--process", str(folder / "process.json"), id,
    ]  # fmt: skip
    keyring.new_session()  # not the caller's own
    held = None
    try:
        (folder / "process.json").write_text(json.dumps(process), encoding="utf-8")
        held = _held(runtime, folder / "pid", spec)
        child, master = _begin(runtime, command, folder, spec, group)
    except BaseException:
        if held is not None:
            held.close()
        shutil.rmtree(folder, ignore_errors=True)
        raise
    session = NativeExec(child, folder, master, group, held)
    try:
        _await_start(session, child, folder)
    except BaseException:
        _give_up(session, child)
        raise
    return session


def _held(runtime: oci.Runtime, pid_file: Path, spec: ExecSpec) -> Lease | None:
    """Keeps the runtime from telling the command's pid, and so from waiting for its end, until its session has been seen.

    Needed where the session is not the command's own: its number is told by the command alone, and by one that has ended only until the
    runtime has waited for it.  None: not needed, or not to be had here; then what such a command left in the background may not be found.
    """
    if spec.terminal or not runtime.leads_sessions or not shows_children():
        return None
    try:
        return Lease(pid_file)
    except OSError:
        return None


def _sessions_of_children(pid: int) -> set[int]:
    """Of the runtime's child in the container's pid namespace, which has ended or not; empty: there is none yet."""
    found = set()
    for child in children_of(pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if levels_of(child) > 1 and (session := session_id(child)) is not None:
                found.add(session)
    return found


def _begin(
    runtime: oci.Runtime, command: list[str], folder: Path, spec: ExecSpec, group: cgroup.Cgroup
) -> tuple[subprocess.Popen[bytes], int | None]:
    """The runtime's process, and our end of the command's terminal if it has one."""
    if not spec.terminal:
        return _with_pipes(command), None
    return _handed_over(command, folder, spec, group) if runtime.hands_over_terminals else _with_terminal(command, spec)


def _handed_over(
    command: list[str], folder: Path, spec: ExecSpec, group: cgroup.Cgroup
) -> tuple[subprocess.Popen[bytes], int]:
    """The size is set in a moment: crun 1.8 knows no ``consoleSize`` here."""
    from runtime.engines.native import console

    place, nothing, master = folder / "console", subprocess.DEVNULL, None
    with console.listening(place) as listener:
        *words, id = command
        child = subprocess.Popen(
            [*words, "--console-socket", str(place), id],
            stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True,
        )  # fmt: skip
        try:
            master = console.taken(listener, child, START_DEADLINE_S)
            if master is not None:
                set_size(master, spec.columns, spec.rows)
        except TimeoutError:
            _give_up(NativeExec(child, folder, master, group), child)
            raise late() from None
        except BaseException:
            _give_up(NativeExec(child, folder, master, group), child)
            raise
    if master is None:
        child.wait(KILL_S)  # it has ended
        raise oci.fault(_words(folder / "log") or "the command did not start", "The command could not be started")
    return child, master


def _give_up(session: NativeExec, child: subprocess.Popen[bytes]) -> None:
    """End a runtime that nobody waits for any more, and its command, whose pid it tells a moment after the terminal."""
    deadline = time.monotonic() + HANG_UP_S
    try:
        while not session.begun() and child.poll() is None and time.monotonic() < deadline:
            time.sleep(POLL_S)
    finally:
        session.close()


def _with_terminal(command: list[str], spec: ExecSpec) -> tuple[subprocess.Popen[bytes], int]:
    """The process, and our end of its terminal.

    setsid --ctty makes the pseudo-terminal the controlling one, so that the runtime hears of a change of its size.
    """
    master, slave = os.openpty()
    try:
        set_size(master, spec.columns, spec.rows)
        return subprocess.Popen(["setsid", "--ctty", *command], stdin=slave, stdout=slave, stderr=slave), master
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)


def _with_pipes(command: list[str]) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True, bufsize=0)


def sweep(scratch: Path) -> tuple[str, ...]:
    """Folders of execs whose caller is gone: their programs were hung up with it, and nobody else looks there."""
    swept = []
    for folder in sorted(scratch.iterdir()) if scratch.is_dir() else ():
        caller = folder.name.split(".")[1]
        if not Path("/proc", caller).exists():
            shutil.rmtree(folder, ignore_errors=True)
            swept.append(folder.name)
    return tuple(swept)


def described(bundle_folder: Path, spec: ExecSpec, identity: Identity | None) -> dict[str, Any]:
    """An OCI process (runtime-spec, config.md): the container's own one, less what the exec says.

    In a file, where nobody else reads it, and whole: crun before 1.9 knows no environment but the one that it is given.
    """
    process: dict[str, Any] = json.loads((bundle_folder / "config.json").read_text(encoding="utf-8"))["process"]
    environment = dict(row.split("=", 1) for row in process["env"])
    if spec.terminal:
        environment["TERM"] = "xterm-256color"
        process["consoleSize"] = {"height": spec.rows, "width": spec.columns}
    if identity is not None:
        from runtime.engines.native import bundle

        environment["HOME"] = identity.home
        process["user"] |= {"uid": identity.uid, "gid": identity.gid, "additionalGids": list(identity.groups)}
        process["capabilities"] = bundle.capabilities(identity.uid, process["capabilities"]["bounding"])
    environment |= spec.env
    return process | {
        "terminal": spec.terminal,
        "args": list(spec.command),
        "env": [f"{name}={value}" for name, value in environment.items()],
        "cwd": spec.working_dir or process["cwd"],
    }


def late() -> DeadlineExceeded:
    return DeadlineExceeded("The command did not start within 15 seconds.", hint="Try again.")


def _await_start(session: NativeExec, child: subprocess.Popen[bytes], folder: Path) -> None:
    """The caller ends one that does not."""
    deadline = time.monotonic() + START_DEADLINE_S
    looks, dead = time.monotonic() + DEAD_FOR_S, set[int]()
    while not session.begun():
        if child.poll() is not None:
            words = _words(folder / "log")
            if words or child.returncode:
                raise oci.fault(words or "the command did not start", "The command could not be started")
            session.begun()
            return
        if time.monotonic() > deadline:
            raise late()
        if time.monotonic() > looks:
            before, dead = dead, _dead_children(child.pid)
            if dead & before:
                child.kill()
                raise EngineFault("The command was killed before it began.", hint="Try again.")
            looks = time.monotonic() + DEAD_FOR_S
        time.sleep(POLL_S)


def _dead_children(pid: int) -> set[int]:
    """That it has not waited for."""
    return {child for child in children_of(pid) if start_time(child) is None}


def _words(log: Path) -> str:
    try:
        rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    except (FileNotFoundError, ValueError):
        return ""
    return "\n".join(str(row.get("msg", "")) for row in rows)
