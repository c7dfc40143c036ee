"""conmon: one small process for each container that owns its output, its log and its exit code, and outlives all of ours."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from runtime.engines.native import oci
from runtime.errors import DeadlineExceeded, EngineFault, HostUnfit
from runtime.home import Home

CREATE_DEADLINE_S = 60.0


def conmon_path() -> str:
    found = shutil.which("conmon")
    if not found:
        raise HostUnfit("conmon is missing.", hint="Install the package conmon.")
    return found


def create(home: Home, runtime: oci.Runtime, id: str, *, terminal: bool, log_bytes: int) -> int:
    """Have conmon create the container (not start it); returns the pid of its first process.

    Raises what :func:`runtime.engines.native.oci.fault` makes of the runtime's words, or DeadlineExceeded.
    """
    folder, sockets = home.container(id), home.conmon(id)
    sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
    home.exits.mkdir(parents=True, exist_ok=True, mode=0o700)
    (home.exits / id).unlink(missing_ok=True)
    reader, writer = os.pipe()
    command = [
        conmon_path(), "--api-version", "1", "--cid", id, "--cuuid", id, "--name", id,
        "--runtime", runtime.path, "--runtime-arg", "--root", "--runtime-arg", str(home.runc),
        "--bundle", str(home.bundle(id)), "--container-pidfile", str(sockets / "pid"), "--conmon-pidfile", str(sockets / "conmon.pid"),
        "--exit-dir", str(home.exits), "--socket-dir-path", str(sockets), "--full-attach",
        "--log-path", f"k8s-file:{folder / 'ctr.log'}", "--log-size-max", str(log_bytes), "--log-level", "error",
    ]  # fmt: skip
    if terminal:
        command.append("--terminal")
    with os.fdopen(reader, "rb") as sync:
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
        finally:
            os.close(writer)
        try:
            daemon.wait(CREATE_DEADLINE_S)
        except subprocess.TimeoutExpired:
            daemon.kill()
            raise DeadlineExceeded("Creating the container took more than a minute.", hint="Try again.") from None
        line = sync.readline()
    if not line:
        raise EngineFault("The container's supervisor ended before it answered.", hint="Try again.")
    answer = json.loads(line)
    pid = int(answer.get("data", answer.get("pid", -1)))
    if pid <= 0:
        raise oci.fault(str(answer.get("message", "")))
    return pid


def alive(home: Home, id: str) -> bool:
    """Whether the container's conmon is still there."""
    try:
        pid = int((home.conmon(id) / "conmon.pid").read_text(encoding="ascii"))
        return b"conmon" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return False


def created(home: Home, id: str) -> tuple[int | None, float]:
    """The pid that a create left in its pid file and when it did (seconds since the epoch), for recovery."""
    file = home.conmon(id) / "pid"
    try:
        return int(file.read_text(encoding="ascii")), file.stat().st_mtime
    except (FileNotFoundError, ValueError):
        return None, 0.0


def forget(home: Home, id: str) -> None:
    shutil.rmtree(home.conmon(id), ignore_errors=True)
    (home.exits / id).unlink(missing_ok=True)
