"""The AppArmor profile of containers: a second wall behind user namespaces, capabilities and seccomp, on nodes whose kernel has it.

Its name has the hash of its text, so a new version is another profile, and containers that run keep theirs.
"""

from __future__ import annotations

import hashlib
import threading

from runtime import logs
from runtime.kernel import apparmor

RULES = """
  # What a service does: files and sockets of its own namespaces, capabilities of its own user namespace.
  file,
  network,
  unix,
  capability,

  # Signals come from anybody who may send them, and go to containers alone; so does looking into processes.
  signal (receive),
  signal (send) peer=NAME,
  ptrace (readby, tracedby),
  ptrace (read, trace) peer=NAME,

  # The tree of mounts is made before the program runs, and stays as it is.
  deny mount,
  deny remount,
  deny umount,
  deny pivot_root,

  # Settings of the kernel, and what tells where it lies in memory.
  deny /proc/sys/** wkl,
  deny /proc/{acpi,asound,bus,fs,irq,scsi}/** wkl,
  deny /proc/{kallsyms,kcore,kmsg,kpagecgroup,kpagecount,kpageflags,sysrq-trigger,timer_list} rwkl,
  deny /sys/** wkl,
  deny /sys/{firmware,kernel/debug,kernel/security,kernel/tracing}/** rwkl,
  deny /sys/kernel/{notes,vmcoreinfo} rwkl,
"""
"""In the words of apparmor.d(5)."""
ABSENT = "The node's kernel has no AppArmor."
NO_PARSER = "The node's kernel has AppArmor, but the package apparmor, which loads profiles, is missing."
REFUSED = "The node's AppArmor did not take the profile; the node's log has the details."

logger = logs.of(__name__)
_lock = threading.Lock()


def name() -> str:
    return f"slipway-{hashlib.sha256(RULES.encode()).hexdigest()[:8]}"


def text() -> str:
    return f"profile {name()} flags=(attach_disconnected,mediate_deleted) {{{RULES.replace('NAME', name())}}}\n"


def profile() -> tuple[str, str]:
    """The profile's name, loaded if the kernel does not know it (after a boot, or when somebody has unloaded it); or empty and why not.

    A node without it runs containers all the same, and says so: the other walls are whole.
    """
    if not apparmor.enabled():
        return "", ABSENT
    try:
        with _lock:
            if not apparmor.known(name()):
                apparmor.load(text())
    except FileNotFoundError:
        return "", NO_PARSER
    except OSError as error:
        logger.warning("AppArmor: %s", error)
        return "", REFUSED
    return name(), ""
