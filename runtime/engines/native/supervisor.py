"""conmon: one small process for each container that owns its output, its log and its exit code, and outlives all of ours."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Self

from runtime import logs
from runtime.api import ContainerSpec
from runtime.engines.native import oci
from runtime.errors import DeadlineExceeded, EngineFault, HostUnfit
from runtime.home import Home
from runtime.kernel import cgroup
from runtime.kernel.process import Process, arguments_of, children_of, pids, start_time, status_of
from runtime.kernel.ready import readable

CREATE_DEADLINE_S = 60.0
STILL_S = 1.0
"""A conmon that was seen stopped for so long, without a child that lives, creates nothing unless somebody lets it go on."""


logger = logs.of(__name__)


def conmon_path() -> str:
    found = shutil.which("conmon")
    if not found:
        raise HostUnfit("conmon is missing.", hint="Install the package conmon.")
    return found


class Creation:
    """A container that conmon is having created, in a process of its own: there is time for other work meanwhile."""

    def __init__(self, daemon: subprocess.Popen[bytes], answer: BinaryIO) -> None:
        self._daemon = daemon
        self._answer = answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Whatever happened meanwhile: nothing is being created any more after this."""
        if not self._answer.closed:
            self._line()

    def pid(self) -> int:
        """Of the container's first process, which waits to be started.

        Raises what :func:`runtime.engines.native.oci.fault` makes of the runtime's words, or DeadlineExceeded.
        """
        line = self._line()
        if line is None:
            raise DeadlineExceeded("Creating the container took more than a minute.", hint="Try again.")
        if not line:
            raise EngineFault("The container's supervisor ended before it answered.", hint="Try again.")
        answer = json.loads(line)
        pid = int(answer.get("data", answer.get("pid", -1)))
        if pid <= 0:
            raise oci.fault(str(answer.get("message", "")))
        return pid

    def _line(self) -> bytes | None:
        """conmon's one line; empty when it ended without, None after the deadline."""
        with self._answer as answer:
            ready = readable([answer], CREATE_DEADLINE_S)
            line = answer.readline() if ready else None
        if not ready:
            self._daemon.kill()
        self._daemon.wait()  # it only forks the supervisor, and has ended by now
        return line


def create(home: Home, runtime: oci.Runtime, spec: ContainerSpec, *, log_bytes: int) -> Creation:
    """Have conmon create the container (not start it)."""
    id = spec.id
    folder, sockets = home.container(id), home.conmon(id)
    sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.exits.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home.exits / id).unlink(missing_ok=True)
    command = [
        conmon_path(), "--api-version", "1", "--cid", id, "--cuuid", id, "--name", id,
        "--runtime", runtime.path, "--runtime-arg", "--root", "--runtime-arg", str(home.runc),
        "--bundle", str(home.bundle(id)), "--container-pidfile", str(sockets / "pid"), "--conmon-pidfile", str(sockets / "conmon.pid"),
        "--exit-dir", str(home.exits), "--socket-dir-path", str(sockets), "--full-attach",
        "--log-path", f"k8s-file:{folder / 'ctr.log'}", "--log-size-max", str(log_bytes), "--log-level", "error",
        "--no-new-keyring",
    ]  # fmt: skip
    if spec.terminal:
        command.append("--terminal")
    if spec.stdin:
        command.append("--stdin")
    if not spec.stdin_once:
        command.append("--leave-stdin-open")  # else a client that detaches would end it
    reader, writer = os.pipe()
    answer = os.fdopen(reader, "rb")
    try:
        daemon = subprocess.Popen(
            command,
            pass_fds=(writer,),
            env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "_OCI_SYNCPIPE": str(writer)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
    except OSError:
        answer.close()
        raise
    finally:
        os.close(writer)
    return Creation(daemon, answer)


def alive(home: Home, id: str) -> bool:
    """Whether the container's conmon is still there."""
    return _pid(home, id) is not None


def _pid(home: Home, id: str) -> int | None:
    """As its pid file says; where that is gone or wrong, as its command line does."""
    told, _ = _told(home.conmon(id) / "conmon.pid")
    if told is not None and _supervises(home, id, told):
        return told
    if not home.conmon(id).is_dir():  # nothing was begun, or it is over
        return None
    return next((pid for pid in pids() if _supervises(home, id, pid)), None)


def _told(file: Path) -> tuple[int | None, float]:
    """The pid in a pid file and when it was written (seconds since the epoch)."""
    try:
        return int(file.read_text(encoding="ascii")), file.stat().st_mtime
    except (OSError, ValueError):
        return None, 0.0


def _supervises(home: Home, id: str, pid: int) -> bool:
    words = arguments_of(pid)
    return os.fsencode(home.bundle(id)) in words and _is_conmon(words) and _is_ours(home, pid)


def end(home: Home, id: str) -> None:
    """Of a conmon that does not tell the end of its container, as one that somebody has stopped: by SIGKILL."""
    pid = _pid(home, id)
    if pid is not None:
        with contextlib.suppress(ProcessLookupError), Process(pid) as process:
            if _supervises(home, id, pid):
                process.send(signal.SIGKILL)


def created(home: Home, id: str) -> tuple[int | None, float]:
    """The pid that a create left in its pid file and when it did (seconds since the epoch), for recovery."""
    return _told(home.conmon(id) / "pid")


def await_creation(home: Home, id: str) -> None:
    """A creation goes on when the process that asked for it is killed: wait until it has come to its end.

    A conmon that somebody has stopped is ended where there is nothing that it could wait for.  Raises DeadlineExceeded.
    """
    began = time.monotonic()
    still: dict[int, float] = {}
    while creating := tuple(_creating(home, id)):
        now = time.monotonic()
        if now > began + CREATE_DEADLINE_S:
            raise DeadlineExceeded("Creating the container took more than a minute.", hint="Try again.")
        still = {pid: still.get(pid, now) for pid in creating if _is_still(pid)}
        for pid, since in still.items():
            if now > since + STILL_S:
                _end_still(home, id, pid)
        time.sleep(0.02)


def _is_still(pid: int) -> bool:
    """Whether it is stopped, and no process would have it go on."""
    try:
        return status_of(pid)["State"].startswith("T") and all(start_time(one) is None for one in children_of(pid))
    except (FileNotFoundError, ProcessLookupError):
        return False


def _end_still(home: Home, id: str, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError), Process(pid) as process:
        if _supervises(home, id, pid) and _is_still(pid):
            logger.warning("the supervisor of %s was stopped by somebody and has no process: it is ended", id)
            process.send(signal.SIGKILL)


def _creating(home: Home, id: str) -> Iterator[int]:
    """Processes that create the container: the runtime, or a conmon that has not called it yet or still waits for it.

    A process in a container says of itself what it likes, so only the node's own count.  With crun what was created has the runtime's own
    words until it is started, and is in its cgroup by then.
    """
    bundle = os.fsencode(home.bundle(id))
    made, _ = created(home, id)
    return (
        pid
        for pid in pids()
        if pid != made
        and (arguments := arguments_of(pid))
        and bundle in arguments
        and (made is None and not _has_created(home, pid) if _is_conmon(arguments) else b"create" in arguments)
        and _is_ours(home, pid)
    )


def _is_conmon(arguments: list[bytes]) -> bool:
    return bool(arguments) and arguments[0].endswith(b"conmon")


def _has_created(home: Home, conmon: int) -> bool:
    """Its child is the runtime while that creates, later the container's first process, in the container's cgroup, until both end."""
    return any(start_time(pid) is not None and _in_container(home, pid) for pid in children_of(conmon))


def _is_ours(home: Home, pid: int) -> bool:
    """Whether it is a process of our user in no container.  A container's users are others (``uid_base``), and it leaves its cgroup never."""
    try:
        users = status_of(pid)["Uid"].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return set(users) == {str(os.geteuid())} and not _in_container(home, pid)


def _in_container(home: Home, pid: int) -> bool:
    try:
        return cgroup.place_of(pid).startswith(f"/{home.instance}/")
    except (FileNotFoundError, ProcessLookupError):
        return False


def forget(home: Home, id: str) -> None:
    shutil.rmtree(home.conmon(id), ignore_errors=True)
    (home.exits / id).unlink(missing_ok=True)
