"""Run as a script: become a user, ask the kernel to die with the parent, become the program.

``python3 -I -S child.py USER PARENT_PID PROGRAM [ARGUMENT...]``.  The parent-death signal is set after the change of
user, because changing credentials clears it (prctl(2), PR_SET_PDEATHSIG), and then the parent is looked at once more,
because it may have died before.  The signal is SIGKILL: whoever was cut off resumes by lease and reconciliation anyway.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys

PR_SET_PDEATHSIG = 1


def become(user: str) -> None:
    entry = pwd.getpwnam(user)
    if os.geteuid() == entry.pw_uid:
        return
    os.initgroups(user, entry.pw_gid)
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ.update(USER=user, LOGNAME=user)


def die_with(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        sys.exit("the launcher is gone already")


def main(arguments: list[str]) -> None:
    user, parent, *command = arguments
    become(user)
    die_with(int(parent))
    try:
        os.execvp(command[0], command)  # noqa: S606 -- this is what the script is for
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
