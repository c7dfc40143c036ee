"""System calls that a container's root tries: those that reach beyond it, or that open the kernel wider than a service needs, are refused."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from tests.kernel.scene import Scene, armed, engine, programs
from tests.marks import no_cgroup

__all__ = ["armed", "engine", "programs"]
pytestmark = [pytest.mark.root, no_cgroup]

NEW_USER, NEW_NET, NEW_FILES, CHILD = 0x10000000, 0x40000000, 0x400, 17
"""Of linux/sched.h: CLONE_NEWUSER, CLONE_NEWNET, CLONE_FILES, and SIGCHLD."""
REFUSED = {
    "a new user namespace": f"unshare {NEW_USER}",
    "a new user namespace with a network": f"unshare {NEW_USER | NEW_NET}",
    "a child in a new user namespace": f"clone {NEW_USER | CHILD} 0 0 0 0",
    "a child by arguments in memory, which no filter sees": "clone3 #88 88",
    "another namespace": "setns 0 0",
    "a mount": "mount =none =/tmp =tmpfs 0 0",
    "a mount of the kernel's processes": "mount =proc =/tmp =proc 0 0",
    "a file system by the newer calls": "fsopen =tmpfs 0",
    "a copy of a mount": "open_tree -100 =/ 1",
    "an unmount of what masks": "umount2 =/proc/keys 2",
    "another root": "pivot_root =/ =/",
    "a keyring": "keyctl 1 =mine",
    "a key": "add_key =user =a =b 1 -3",
    "somebody's key": "request_key =user =a 0 -3",
    "a program in the kernel": "bpf 0 #128 128",
    "the processor's counters": "perf_event_open #128 0 -1 -1 0",
    "page faults held up": "userfaultfd 0",
    "a ring of calls that no filter sees": "io_uring_setup 8 #120",
    "another kernel": "kexec_load 0 0 0 0",
    "a module": "init_module #16 16 =",
    "a module from a file": "finit_module 0 = 0",
    "a module's removal": "delete_module =bridge 0",
    "the clock": "settimeofday #16 0",
    "the clock by its number": "clock_settime 0 #16",
    "a device of the disk": "mknodat -100 =/tmp/disk 0x61b6 0x700",
    "a device of memory": "mknodat -100 =/tmp/memory 0x21b6 0x101",
    "swap": "swapon =/bin/busybox 0",
    "accounting": "acct =/tmp/a",
    "a disk's quotas": "quotactl 0x80000500 0 0 0",
    "a hang-up": "vhangup",
    "a restart": "reboot 0xfee1dead 672274793 0x1234567 0",
    "the kernel's log": "syslog 3 #64 64",
    "the name": "sethostname =x 1",
    "watching file systems": "fanotify_init 0 0",
    "frames of the network": "socket 17 3 768",
    "packets of one's own making": "socket 2 3 1",
    "the audit's line": "socket 16 3 9",
    "the machine that this one runs in (vsock)": "socket 40 1 0",
    "the kernel's ciphers (AF_ALG)": "socket 38 5 0",
    "a bus of machines (AF_CAN)": "socket 29 3 1",
    "a cluster's messages (AF_TIPC)": "socket 30 1 0",
    "keys of IPsec (AF_KEY)": "socket 15 3 2",
}


@pytest.mark.parametrize("attempt", REFUSED.values(), ids=REFUSED)
def test_a_call_is_refused(shared: tuple[Scene, str], attempt: str) -> None:
    scene, id = shared
    assert scene.inside(id, f"call {attempt}") in {
        "EPERM",
        "ENOSYS",
        "EAFNOSUPPORT",
        "EINVAL" if "socket 16" in attempt else "",
    }


@pytest.fixture(scope="module")
def shared(engine: object, programs: Path) -> tuple[Scene, str]:
    """One container for all: nothing that it tries changes it."""
    made = Scene(engine, programs)  # type: ignore[arg-type]
    id = made.run()
    made.arm(id, "call")
    return made, id


def test_what_a_service_needs_is_not_refused(shared: tuple[Scene, str]) -> None:
    """So that the test above sees more than a program that does not run."""
    scene, id = shared
    for call in (
        f"unshare {NEW_FILES}",
        f"clone {CHILD} 0 0 0 0",
        "socket 1 1 0",
        "socket 2 1 0",
        "socket 10 2 0",
        "socket 16 3 0",
        "inotify_init1 0",
    ):
        assert set(scene.inside(id, f"call {call}").split()) == {"allowed"}, call


def test_a_container_that_may_send_raw_packets_still_may_not_talk_to_the_machine_below(armed: Scene) -> None:
    id = armed.run(capabilities_add=("NET_RAW", "MKNOD", "AUDIT_WRITE"))
    armed.arm(id, "call")
    assert armed.inside(id, "call socket 17 3 768; call socket 2 3 1; call socket 16 3 9").split() == ["allowed"] * 3
    assert armed.inside(id, "call socket 40 1 0; call mknodat -100 =/tmp/d 0x61b6 0x700").split() == [
        "EAFNOSUPPORT",
        "EPERM",
    ]


def test_the_node_is_as_it_was(shared: tuple[Scene, str]) -> None:
    scene, id = shared
    name, clock = socket.gethostname(), time.time() - time.monotonic()
    for attempt in REFUSED.values():
        scene.inside(id, f"call {attempt}")
    assert socket.gethostname() == name
    assert abs(time.time() - time.monotonic() - clock) < 5
    assert "busybox" not in Path("/proc/swaps").read_text()
    assert os.stat("/dev/null").st_uid == 0
