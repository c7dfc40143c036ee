"""qemu without a display: three disks in, lines of a serial console out, and a second serial line for the tests to run.

Emulated (TCG): it needs nothing of the processor.  One processor for each machine: a test is a process that waits for another most of
the time, so of two processors a machine was seen to use 1.1.
"""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tests.vm.image import Image

MEMORY_MIB = 2048
PROCESSOR = "Nehalem"
"""Without AVX, whose registers cost an emulated processor something with each change of processes."""
CACHE_MIB = 512
"""Of translated code: Python, Go and a kernel together are more than what qemu sets aside unasked."""
COMMAND_LINE = (
    "root=/dev/vda rw console=ttyS0 quiet loglevel=3 panic=-1 nokaslr mitigations=off nowatchdog rcupdate.rcu_expedited=1"
    " init_on_alloc=0 hardened_usercopy=off"
    " systemd.unit=slipway-tests.service systemd.show_status=no"
)
"""What hardens a kernel and its processor against whom nobody lets in is off; waits of the kernel for all processors are cut short."""


def boot(
    image: Image,
    source: Path,
    results: Path,
    line: Path,
    say: Callable[[str], None],
    deadline_s: float,
    over: threading.Event,
) -> bool:
    """Runs it until it switches itself off; whatever it wrote to ``results`` is there then.  False: it was ended at the deadline.

    ``line`` is a socket that somebody listens at.  It is ended, too, when ``over`` is set.

    Its processor and memory go with this process, however that ends.
    """
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command(image, source, results, line)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    late = threading.Event()

    def watch() -> None:
        if not over.wait(deadline_s):
            late.set()
        process.kill()

    threading.Thread(target=watch, daemon=True).start()
    try:
        for text in process.stdout or ():
            say(text.rstrip())
    finally:
        process.kill()
        process.wait()
    return not late.is_set()


def command(image: Image, source: Path, results: Path, line: Path) -> list[str]:
    def disk(name: str, file: Path, *options: str) -> list[str]:
        drive = ",".join((f"if=none,id={name},file={file},format=raw,cache=unsafe", *options))
        return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={name}"]

    return [
        "qemu-system-x86_64", "-accel", f"tcg,tb-size={CACHE_MIB}", "-cpu", PROCESSOR, "-smp", "1", "-m", str(MEMORY_MIB),
        "-nodefaults", "-no-user-config", "-no-reboot", "-nic", "none", "-display", "none", "-serial", "stdio",
        "-chardev", f"socket,id=line,path={line}", "-serial", "chardev:line",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", COMMAND_LINE,
        *disk("system", image.disk, "snapshot=on"), *disk("source", source, "readonly=on"), *disk("results", results),
    ]  # fmt: skip
