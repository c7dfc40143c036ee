"""Session keyrings (keyrings(7), keyctl(2)): a place for keys that a process and its descendants share."""

from __future__ import annotations

import errno

from runtime.kernel.syscalls import syscall

SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "ppc64le": 271, "s390x": 280}
KEYCTL_GET_KEYRING_ID, KEYCTL_JOIN_SESSION_KEYRING = 0, 1
KEY_SPEC_SESSION_KEYRING = -3


def _keyctl(verb: int, *arguments: int | None) -> int:
    return syscall("keyctl", SYS_KEYCTL, verb, *arguments)


def new_session() -> None:
    """Give the calling thread a new, empty session keyring, nameless and its user's own; what it starts from now on inherits it.

    A kernel without keyrings has none to keep apart: then nothing happens.  Raises OSError.
    """
    try:
        _keyctl(KEYCTL_JOIN_SESSION_KEYRING, None)
    except OSError as error:
        if error.errno != errno.ENOSYS:
            raise


def session() -> int:
    """Serial number of the calling thread's session keyring.  Raises OSError."""
    return _keyctl(KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0)
